/** One stroke that was clicked: shown with a halo, and a small bar to give it another class or to take it away. */

import { byId, el, icon, svg } from "./dom.js";
import { say } from "./notice.js";
import { swatch } from "./patterns.js";
import { t } from "./text.js";
import { distance, thinnest } from "./thin.js";

const REACH_PX = 5; // of the screen: so near to a thin stroke is on it
const HALO_PX = 3;

export class Selection {
  /** `page` has view, tools, classes, document and `send(command)`. */
  constructor(page) {
    this.page = page;
    this.id = null;
    this.#build();
    page.view.changed.on(() => this.#place());
    page.tools.changed.on(() => {
      if (page.tools.tool !== "select") this.choose(null);
      this.update();
    });
  }

  #build() {
    this.halo = svg("svg", { class: "halo" });
    this.lines = ["hole", "outer", "inner", "middle"].map((name) => svg("polyline", { class: name }));
    const [hole, outer, inner, middle] = this.lines; // the stroke itself stays to be seen
    const mask = svg("mask", { id: "halo-mask", maskUnits: "userSpaceOnUse" }, svg("rect", { width: "100%", height: "100%", fill: "#fff" }), hole);
    this.halo.append(mask, svg("g", { mask: "url(#halo-mask)" }, outer, inner), middle);
    byId("marks").append(this.halo);
    this.what = el("span", { class: "what" });
    this.pick = el("select", { id: "selected-class", "aria-label": t("select.class"), on: { change: () => this.reclass(Number(this.pick.value)) } });
    const button = (id, words, press, key) => el("button", { type: "button", id, text: t(words), title: key ? `${t(words)} (${key})` : t(words), on: { click: press } });
    this.remove_ = button("selected-remove", "select.remove", () => this.remove(), "Delete");
    [this.before, this.after] = ["before", "after"].map((way) => {
      const props = { type: "button", id: `selected-${way}`, class: "icon", "aria-label": t(`select.${way}`), title: t(`select.${way}`) };
      return el("button", { ...props, on: { click: () => this.step(way === "after" ? 1 : -1) } }, icon(way));
    });
    this.bar = byId("selected");
    this.bar.append(this.what, this.pick, this.remove_, el("span", { class: "group" }, this.before, this.after));
  }

  get stroke() {
    return this.page.document?.strokes.find((stroke) => stroke.id === this.id) ?? null;
  }

  /** Choose what lies under a place of the stage; return whether the select tool is in the hand at all. */
  pickAt(place) {
    if (this.page.tools.tool !== "select") return false;
    const { document, view } = this.page;
    if (document) this.choose(hit(document.strokes, view.toImage(...place), REACH_PX / view.scale)?.id ?? null);
    return true;
  }

  choose(id) {
    const had = this.id;
    this.id = id;
    this.update();
    const { stroke } = this;
    if (stroke && id !== had) say("select.chosen", { what: this.what.textContent });
  }

  /** Go through the strokes in the order drawn. */
  step(by) {
    const { strokes } = this.page.document;
    const at = strokes.findIndex((stroke) => stroke.id === this.id);
    const next = at < 0 ? (by > 0 ? 0 : strokes.length - 1) : (at + by + strokes.length) % strokes.length;
    this.choose(strokes[next]?.id ?? null);
  }

  /** Take the stroke away; return whether there was one. */
  remove() {
    const { stroke, page } = this;
    if (!stroke) return false;
    const back = this.bar.contains(document.activeElement);
    this.id = null;
    page.send(page.document.remove(stroke.id));
    say("select.removed");
    if (back) this.after.focus();
    return true;
  }

  /** Give the stroke another class; return whether there was one. */
  reclass(classId) {
    const { stroke, page } = this;
    if (!stroke || stroke.tool === "eraser") return false;
    if (stroke.class !== classId) page.send(page.document.reclass(stroke.id, classId, page.classes.keyOf(classId)));
    say("select.chosen", { what: this.what.textContent });
    return true;
  }

  /** Strokes, classes, tool or image may be others now. */
  update() {
    const { tools, classes, document } = this.page;
    const { stroke } = this;
    if (!stroke) this.id = null;
    const count = document?.strokes.length ?? 0;
    this.bar.hidden = tools.tool !== "select" || this.page.strokes.hidden;
    this.remove_.hidden = !stroke;
    this.before.disabled = this.after.disabled = count === 0;
    this.pick.hidden = !stroke || stroke.tool === "eraser";
    this.what.replaceChildren(...(stroke ? this.#words(stroke) : [t(count === 0 ? "select.nothing" : "select.how")]));
    if (!this.pick.hidden) {
      this.pick.replaceChildren(...classes.classes.map(({ id, name }) => el("option", { value: id, text: `${id + 1} · ${name}`, selected: id === stroke.class })));
    }
    this.#place();
  }

  #words(stroke) {
    const { classes } = this.page.classes;
    const told = { class: classes[stroke.class]?.name ?? "", n: stroke.width_px, number: this.page.document.strokes.indexOf(stroke) + 1 };
    if (stroke.tool === "eraser") return [el("span", { text: t("select.eraser", told) })];
    return [swatch(stroke.class, classes[stroke.class]?.colour ?? "#888888"), el("span", { text: t("select.stroke", told) })];
  }

  #place() {
    const { stroke } = this;
    const seen = stroke && !this.page.strokes.hidden;
    this.halo.toggleAttribute("hidden", !seen);
    if (!seen) return;
    const { scale, x, y } = this.page.view;
    const points = stroke.points.length > 1 ? stroke.points : [...stroke.points, stroke.points[0]];
    const width = thinnest(stroke.width_px) * scale;
    const text = points.map(([px, py]) => `${(px * scale + x).toFixed(1)},${(py * scale + y).toFixed(1)}`).join(" ");
    const widths = [width, width + 4 * HALO_PX, width + 2 * HALO_PX, width < 8 ? 1.5 : 0];
    this.lines.forEach((line, k) => {
      line.setAttribute("points", text);
      line.setAttribute("stroke-width", widths[k]);
    });
  }
}

/** Return the topmost stroke on a place, or else the topmost that is nearer than `reach`; in image pixels. */
export function hit(strokes, place, reach) {
  for (const slack of [0, reach]) {
    for (let k = strokes.length - 1; k >= 0; k -= 1) {
      const stroke = strokes[k];
      if (off(stroke.points, place) <= thinnest(stroke.width_px) / 2 + slack) return stroke;
    }
  }
  return null;
}

function off(points, place) {
  return points.reduce((least, point, k) => Math.min(least, distance(place, points[Math.max(0, k - 1)], point)), Infinity);
}
