/** How the picture is shown: which values are dark and bright, which channels. What is learnt does not depend on it. */

import { Signal, byId, el } from "./dom.js";
import { t } from "./text.js";

const SETTLE_MS = 150;

export class RenderingPanel {
  constructor() {
    this.changed = new Signal();
    this.node = byId("rendering");
    this.timer = 0;
    this.query = "";
    this.node.hidden = true;
  }

  /** Offer what an image has: nothing for a usual 8-bit picture. */
  open({ bands }) {
    this.query = "";
    const plain = !bands || (bands.dtype === "uint8" && bands.num_channels <= 3);
    this.node.hidden = plain;
    this.node.replaceChildren();
    if (plain) return;
    const { low, high, num_channels: channels } = bands;
    const step = bands.dtype.startsWith("float") ? (high - low) / 256 || 1 : 1;
    const [bottom, top] = [low - (high - low), high + (high - low)];
    this.low = el("input", { type: "range", id: "low", min: bottom, max: top, step, value: low });
    this.high = el("input", { type: "range", id: "high", min: bottom, max: top, step, value: high });
    const rows = [this.low, this.high].map((input) => {
      const shown = el("output", { for: input.id, text: input.value });
      input.addEventListener("input", () => {
        shown.textContent = input.value;
        this.#ask();
      });
      return el("label", { class: "row" }, el("span", { text: t(`rendering.${input.id}`) }), input, shown);
    });
    this.picks = channels > 1 ? ["red", "green", "blue"].map((key, n) => this.#channel(key, n, channels)) : [];
    const picks = this.picks.map((pick) => el("label", { class: "row" }, el("span", { text: t(`rendering.${pick.id}`) }), pick));
    this.node.append(el("h2", { text: t("rendering.title") }), ...rows, ...picks, el("p", { class: "quiet", text: t("rendering.promise") }));
  }

  #channel(key, n, count) {
    const pick = el("select", { id: key, on: { change: () => this.#ask() } });
    for (let channel = 0; channel < count; channel += 1) {
      pick.append(el("option", { value: channel, text: t("rendering.channel", { n: channel + 1 }), selected: channel === Math.min(n, count - 1) }));
    }
    return pick;
  }

  #ask() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      const asked = new URLSearchParams({ low: this.low.value, high: this.high.value });
      if (this.picks.length > 0) asked.set("channels", this.picks.map((pick) => pick.value).join(","));
      this.query = `?${asked}`;
      this.changed.tell(this.query);
    }, SETTLE_MS);
  }
}
