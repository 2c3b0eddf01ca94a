/** The background training: start, stop, go on; how far it is, its losses, and which model is shown and why. */

import { post } from "./api.js";
import { byId, el, svg } from "./dom.js";
import { failed } from "./notice.js";
import { sentence, t } from "./text.js";

const [WIDTH, HEIGHT] = [240, 44];

export class TrainingPanel {
  constructor() {
    this.told = "";
    this.words = el("p", { id: "training-told" });
    this.bar = el("progress", { id: "training-bar", max: 1, value: 0, hidden: true, "aria-label": t("training.progress") });
    this.losses = el("div", { class: "losses" });
    this.shown = el("p", { class: "quiet", id: "shown-told" });
    this.button = el("button", { type: "button", id: "train", class: "wide", text: t("training.start") });
    this.button.addEventListener("click", () => this.#press());
    byId("training").append(el("h2", { text: t("training.title") }), this.words, this.bar, this.losses, this.button, this.shown);
    this.action = "start";
  }

  async #press() {
    this.button.disabled = true;
    try {
      await post("/api/training", { action: this.action });
    } catch (error) {
      failed(error);
    }
    this.button.disabled = false;
  }

  /** Show what /api/status says. */
  update({ instant, training, shown }) {
    const key = JSON.stringify([instant, training, shown]);
    if (key === this.told) return;
    this.told = key;
    const state = training?.state ?? "none";
    this.action = { none: "start", running: "stop", stopped: "resume", failed: "start", done: "start" }[state] ?? "start";
    this.button.textContent = t(`training.${state === "done" ? "again" : this.action}`);
    this.button.hidden = !training || instant?.state === "off"; // nothing learns here
    const running = state === "running";
    this.bar.hidden = !(running || state === "stopped");
    if (training?.max_steps) this.bar.value = training.step / training.max_steps;
    this.words.textContent = [instantWords(instant), trainingWords(training, state)].filter(Boolean).join(" ");
    this.losses.replaceChildren(...Object.entries(training?.losses ?? {}).map(([name, values]) => curve(name, values)));
    this.shown.textContent = sentence(shown?.why ?? "");
  }
}

function instantWords(instant) {
  if (!instant?.state) return t("training.nothing");
  const took = typeof instant.seconds === "number" ? t("training.took", { seconds: instant.seconds.toFixed(1) }) : "";
  const words = t(`training.instant.${instant.state}`, { took });
  if (words.startsWith("training.")) return instant.message || instant.state;
  return instant.state === "failed" && instant.message ? `${words} ${instant.message}` : words;
}

function trainingWords(training, state) {
  if (!training || state === "none") return "";
  const message = training.message ? ` ${training.message}` : "";
  const left = training.seconds_left;
  const values = { step: training.step ?? 0, steps: training.max_steps ?? "?", left: left === null || left === undefined ? "…" : duration(left) };
  return t(`training.state.${state}`, values) + message;
}

function duration(seconds) {
  if (seconds < 90) return t("training.seconds", { n: Math.round(seconds) });
  return t("training.minutes", { n: Math.round(seconds / 60) });
}

function curve(name, values) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const place = (value, k) => {
    const x = (k / Math.max(values.length - 1, 1)) * WIDTH;
    return `${x.toFixed(1)},${(HEIGHT - 3 - ((value - low) / (high - low || 1)) * (HEIGHT - 6)).toFixed(1)}`;
  };
  const line = svg("polyline", { points: values.map(place).join(" ") });
  const drawn = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" }, line);
  const last = values.length > 0 ? values[values.length - 1].toPrecision(3) : "–";
  return el("figure", {}, el("figcaption", {}, el("span", { text: name }), el("b", { text: last })), drawn);
}
