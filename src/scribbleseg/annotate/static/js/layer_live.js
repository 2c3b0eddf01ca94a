/** The stroke under way, on small canvases of its own: a frame paints those that the pen has touched, not the whole screen.

They lie over the strokes. A stroke of the eraser is not among them: it takes away from the strokes' own canvas. */

import { el } from "./dom.js";

const SIDE = 256; // of a tile, in pixels of the screen times a whole number

/** Return a line through points; one point is a dot. */
export function lineOf(points) {
  const path = new Path2D();
  path.moveTo(...points[0]);
  for (const point of points) path.lineTo(...point);
  return path;
}

export class LiveLayer {
  constructor(stage, node) {
    this.stage = stage;
    this.node = node;
    this.tiles = new Map(); // "column/row" → {canvas, context}
    this.spare = [];
  }

  /** Draw a piece of a line. `points` are in image pixels, `paint(context, path)` draws in them on a clipped context. */
  draw(points, width_px, paint) {
    const path = lineOf(points);
    for (const tile of this.#under(points, width_px)) paint(tile.context, path, tile);
  }

  /** Let the context of a tile draw in image pixels. */
  inImage({ context, left, top }) {
    const { ratio, view } = this.stage;
    const scale = view.scale * ratio;
    context.setTransform(scale, 0, 0, scale, view.x * ratio - left, view.y * ratio - top);
  }

  /** Take all of it away. */
  clear() {
    for (const tile of this.tiles.values()) {
      tile.canvas.hidden = true;
      this.spare.push(tile);
    }
    this.tiles.clear();
  }

  #under(points, width_px) {
    const { ratio, view } = this.stage;
    const side = SIDE * Math.ceil(ratio);
    const reach = (width_px / 2) * view.scale + 2;
    const range = (k, far) => {
      const values = points.map((point) => point[k] * view.scale + (k === 0 ? view.x : view.y));
      const last = Math.ceil((far * ratio) / side) - 1;
      const at = (value) => Math.floor((value * ratio) / side);
      return [Math.max(0, at(Math.min(...values) - reach)), Math.min(last, at(Math.max(...values) + reach))];
    };
    const [columns, rows] = [range(0, view.stage.width), range(1, view.stage.height)];
    const found = [];
    for (let row = rows[0]; row <= rows[1]; row += 1) {
      for (let column = columns[0]; column <= columns[1]; column += 1) found.push(this.#tile(column, row, side));
    }
    return found;
  }

  #tile(column, row, side) {
    const key = `${column}/${row}`;
    if (!this.tiles.has(key)) this.tiles.set(key, this.#place(this.spare.pop() ?? this.#make(), column * side, row * side, side));
    return this.tiles.get(key);
  }

  #make() {
    const canvas = el("canvas", { "aria-hidden": "true" });
    this.node.append(canvas);
    return { canvas, context: canvas.getContext("2d") };
  }

  #place(tile, left, top, side) {
    const { canvas } = tile;
    const { ratio } = this.stage;
    canvas.width = canvas.height = side; // and clears it
    canvas.style.width = canvas.style.height = `${side / ratio}px`;
    canvas.style.transform = `translate(${left / ratio}px, ${top / ratio}px)`;
    canvas.hidden = false;
    return Object.assign(tile, { left, top });
  }
}
