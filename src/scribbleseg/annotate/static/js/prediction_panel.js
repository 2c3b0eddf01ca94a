/** The prediction laid over the image: how strong, as colours, outlines or doubt, from which model, and how old it is. */

import { get } from "./api.js";
import { byId, el } from "./dom.js";
import { sentence, t } from "./text.js";

const MODES = ["fill", "outline", "doubt"];

export class PredictionPanel {
  constructor(overlay) {
    this.overlay = overlay;
    this.canvas = byId("layer-overlay");
    this.shown = true;
    this.held = false;
    this.document = null;
    this.told = null;
    this.number = null;
    this.round = 0;
    this.#build(byId("prediction"));
    this.#apply();
  }

  #build(node) {
    this.show = el("input", { type: "checkbox", id: "show-prediction", checked: true, on: { change: () => this.toggle(this.show.checked) } });
    this.opacity = el("input", { type: "range", id: "opacity", min: 0, max: 100, value: 50, on: { input: () => this.#apply() } });
    this.percent = el("output", { for: "opacity" });
    const modes = MODES.map((mode) => {
      const radio = el("input", { type: "radio", name: "mode", value: mode, checked: mode === "fill", on: { change: () => this.setMode(mode) } });
      return el("label", {}, radio, el("span", { text: t(`prediction.${mode}`) }));
    });
    this.modes = el("div", { class: "segments", role: "radiogroup", "aria-label": t("prediction.as") }, ...modes);
    this.model = el("select", { id: "model", "aria-label": t("prediction.model"), on: { change: () => this.load() } });
    for (const key of ["", "instant", "network"]) this.model.append(el("option", { value: key, text: t(`prediction.model.${key || "best"}`) }));
    this.words = el("p", { class: "quiet", id: "prediction-told" });
    node.append(
      el("h2", { text: t("prediction.title") }),
      el("label", { class: "check" }, this.show, el("span", { text: t("prediction.show") }), el("kbd", { text: "S" })),
      el("label", { class: "row" }, el("span", { text: t("prediction.opacity") }), this.opacity, this.percent),
      this.modes,
      el("label", { class: "row" }, el("span", { text: t("prediction.model") }), this.model),
      this.words,
    );
  }

  toggle(shown = !this.shown) {
    this.shown = this.show.checked = shown;
    this.#apply();
  }

  /** Hide all over the picture for as long as a key is held. */
  hold(held) {
    this.held = held;
    this.#apply();
  }

  setMode(mode) {
    this.overlay.mode = this.overlay.mode === mode && mode !== "fill" ? "fill" : mode;
    for (const radio of this.modes.querySelectorAll("input")) radio.checked = radio.value === this.overlay.mode;
    this.overlay.refresh();
  }

  stronger(by) {
    this.opacity.value = Number(this.opacity.value) + by;
    this.#apply();
  }

  #apply() {
    this.percent.textContent = `${this.opacity.value} %`;
    this.canvas.style.opacity = Number(this.opacity.value) / 100;
    this.overlay.hidden = !this.shown || this.held;
    this.overlay.stage.redraw(this.overlay);
  }

  /** Another image is shown. */
  open(document) {
    Object.assign(this, { document, told: null, number: null });
    this.round += 1;
    this.overlay.open(document);
    this.#tell();
  }

  /** Read what the model predicts for this image, if it does. */
  async load() {
    const round = (this.round += 1);
    const { document } = this;
    const query = this.model.value ? `?model=${this.model.value}` : "";
    const told = await get(`/api/images/${document.id}/prediction${query}`).catch(() => null);
    if (round !== this.round || document !== this.document) return;
    if (told) await this.overlay.load(this.model.value || null).catch(() => {});
    else this.overlay.open(document);
    if (round !== this.round) return;
    this.told = told;
    this.#tell();
  }

  /** The server has a prediction of this number (null: none); read it if it is a new one. */
  offer(number) {
    if (number === this.number) return;
    this.number = number;
    if (number !== null) this.load();
    else this.open(this.document);
  }

  #tell() {
    if (!this.told) {
      this.words.textContent = t("prediction.none");
      return;
    }
    const { model, stale_strokes: stale, score } = this.told;
    const parts = [sentence(t("prediction.by", { title: model.title ?? t(`prediction.model.${model.kind}`), number: model.number }))];
    if (model.trained_on !== undefined) parts.push(t("prediction.trained", { n: model.trained_on }));
    if (model.seen === false) parts.push(t("prediction.unseen"));
    if (stale > 0) parts.push(t("prediction.stale", { n: stale }));
    parts.push(...scores(score));
    this.words.textContent = parts.join(" ");
  }
}

/** Say the held-out scores of both models, where there are any. */
function scores(score) {
  if (!score || typeof score !== "object") return [];
  const known = ["instant", "network"].filter((kind) => typeof score[kind]?.value === "number");
  const told = known.map((kind) => {
    const { value, error, strokes } = score[kind];
    const model = t(`prediction.model.${kind}`);
    return t("prediction.score", { model, percent: Math.round(100 * value), error: Math.round(100 * error), n: strokes });
  });
  return told.length > 0 ? [...told, t("prediction.caveat")] : [];
}
