/** From places on the stage to a stroke: what is under way, and the cursor that shows how wide it will be. */

import { byId } from "./dom.js";
import { round, thin, tolerance } from "./thin.js";

const FINE_PX = 0.75; // of the screen: nearer points than that say nothing
const SELECT_PX = 10;

export class Drawing {
  /** `commit(stroke)` gets each whole stroke; `page` has view, tools, strokes (the layer) and document. */
  constructor(page, commit) {
    this.page = page;
    this.commit = commit;
    this.live = null;
    this.cursor = byId("cursor");
    this.place = null;
    page.view.changed.on(() => this.#showCursor());
    page.tools.changed.on(() => this.#showCursor());
  }

  begin(place, erases = false) {
    const { tools, document, view, classes } = this.page;
    if (!document) return;
    const tool = erases || tools.tool === "eraser" ? "eraser" : "brush";
    const points = [round(view.toImage(...place))];
    this.live = { class: tools.classId, class_key: classes.keyOf(tools.classId), width_px: tools.width_px, tool, points, document };
    this.page.strokes.begin(this.live);
  }

  extend(places) {
    if (!this.live) return;
    const { points } = this.live;
    const from = points.length;
    const near = FINE_PX / this.page.view.scale;
    for (const place of places) {
      const point = round(this.page.view.toImage(...place));
      const last = points[points.length - 1];
      if (Math.abs(point[0] - last[0]) + Math.abs(point[1] - last[1]) >= near) points.push(point);
    }
    if (points.length > from) this.page.strokes.extend(from);
  }

  finish() {
    if (!this.live) return;
    const { points, document, ...stroke } = this.live;
    this.live = null;
    stroke.points = thin(points, tolerance(this.page.view.scale));
    stroke.class = this.page.classes.idOf(stroke.class_key) ?? stroke.class; // classes may have got other ids meanwhile
    stroke.time = new Date().toISOString();
    if (document === this.page.document) this.commit(stroke);
    this.page.strokes.end(document !== this.page.document);
  }

  drop() {
    if (!this.live) return;
    this.live = null;
    this.page.strokes.end(true);
  }

  /** The pointer is over the stage, or has left it (null). */
  hover(place) {
    this.place = place;
    this.#showCursor();
  }

  #showCursor() {
    const { tools, view } = this.page;
    const { cursor, place } = this;
    const draws = place !== null && tools.tool !== "pan";
    cursor.hidden = !draws;
    if (!draws) return;
    const across = tools.tool === "select" ? SELECT_PX : Math.max(tools.width_px, Math.SQRT2) * view.scale;
    cursor.style.width = cursor.style.height = `${across}px`;
    cursor.style.transform = `translate(${place[0] - across / 2}px, ${place[1] - across / 2}px)`;
    cursor.classList.toggle("tiny", across < 6);
    cursor.classList.toggle("erases", tools.tool === "eraser");
  }
}
