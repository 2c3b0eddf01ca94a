/** The strokes: those committed are drawn once and stay on the canvas; the one under way has canvases of its own.

While the view moves the canvas of the last drawing is moved by the browser if a new drawing would take longer than a frame allows. */

import { LiveLayer, lineOf } from "./layer_live.js";
import { badge, drawPattern, inkOn } from "./patterns.js";
import { thinnest } from "./thin.js";

const MANY_POINTS = 8000; // in sight: drawing them anew takes longer than a frame; the clock cannot tell, canvases draw later
const SETTLE_MS = 90;
const PATTERN_PX = 11; // of the screen: wider strokes have no coarser pattern
const SHAPES = new WeakMap();

function shapeOf(stroke) {
  let shape = SHAPES.get(stroke);
  if (!shape) {
    const path = lineOf(stroke.points);
    let [x0, y0, x1, y1] = [Infinity, Infinity, -Infinity, -Infinity];
    for (const [x, y] of stroke.points) {
      [x0, y0, x1, y1] = [Math.min(x0, x), Math.min(y0, y), Math.max(x1, x), Math.max(y1, y)];
    }
    const reach = thinnest(stroke.width_px) / 2 + 1;
    shape = { path, x0: x0 - reach, y0: y0 - reach, x1: x1 + reach, y1: y1 + reach };
    SHAPES.set(stroke, shape);
  }
  return shape;
}

export class StrokesLayer {
  constructor(stage, classes, liveNode) {
    this.stage = stage;
    this.pieces = new LiveLayer(stage, liveNode);
    this.classes = classes; // () => [{name, colour}]
    this.document = null;
    this.base = null; // labels that came with the image, as a picture
    this.live = null;
    this.hidden = false;
    this.points = 0; // in sight at the last full drawing
    this.drawn = null; // what the last drawing was of
    this.timer = 0;
  }

  open(document) {
    Object.assign(this, { document, base: null, live: null, drawn: null });
    this.pieces.clear();
    this.stage.redraw(this);
  }

  draw(context, stage) {
    clearTimeout(this.timer);
    if (!this.document || this.hidden) {
      this.canvas.style.transform = "";
      stage.clear(context);
      this.drawn = null;
      return;
    }
    const { scale, x, y } = stage.view;
    const { strokes } = this.document;
    const now = { scale, x, y, strokes, base: this.base, classes: this.classes(), width: this.canvas.width, height: this.canvas.height };
    const moved = this.drawn && (this.drawn.scale !== scale || this.drawn.x !== x || this.drawn.y !== y);
    if (moved && this.points > MANY_POINTS && !this.live && this.drawn.strokes === strokes) {
      this.#shift(stage);
      this.timer = setTimeout(() => {
        this.drawn = null;
        stage.redraw(this);
      }, SETTLE_MS);
      return;
    }
    const added = this.drawn ? whatIsNew(this.drawn, now) : Infinity;
    if (added > 1) this.#drawAll(context, stage);
    else if (added === 1) this.#drawNewest(context, stage);
    this.#drawLive();
    this.drawn = now;
  }

  #drawAll(context, stage) {
    this.canvas.style.transform = "";
    stage.clear(context);
    this.#within(context);
    context.imageSmoothingEnabled = false;
    if (this.base) context.drawImage(this.base, 0, 0, this.document.width, this.document.height);
    const { x0, y0, x1, y1 } = stage.view.shown;
    this.points = 0;
    for (const stroke of this.document.strokes) {
      const shape = shapeOf(stroke);
      if (shape.x1 < x0 || shape.x0 > x1 || shape.y1 < y0 || shape.y0 > y1) continue;
      this.#drawOne(context, stroke, shape.path, stage);
      this.points += stroke.points.length;
    }
    context.restore();
  }

  #drawNewest(context, stage) {
    const stroke = this.document.strokes.at(-1);
    this.#within(context);
    this.#drawOne(context, stroke, shapeOf(stroke).path, stage);
    this.points += stroke.points.length;
    context.restore();
  }

  #drawLive() {
    this.pieces.clear();
    if (this.live) this.extend(0);
  }

  /** Draw in image pixels, and on the image only: what lies outside is no label. To be restored. */
  #within(context, tile = null) {
    context.save();
    if (tile) this.pieces.inImage(tile);
    else this.stage.inImage(context);
    context.beginPath();
    context.rect(0, 0, this.document.width, this.document.height);
    context.clip();
    context.lineCap = context.lineJoin = "round";
  }

  #drawOne(context, stroke, path, stage) {
    this.#line(context, stroke, path);
    context.globalCompositeOperation = "source-over";
    const width = thinnest(stroke.width_px) * stage.view.scale;
    if (stroke.tool === "eraser" || width < 4) return;
    const colour = this.#colour(stroke);
    drawPattern(context, path, stroke.class, colour, Math.min(stroke.width_px, PATTERN_PX / stage.view.scale));
    if (width >= 13) this.#number(context, stroke, colour, stage);
  }

  #line(context, stroke, path) {
    context.globalCompositeOperation = stroke.tool === "eraser" ? "destination-out" : "source-over";
    context.lineWidth = thinnest(stroke.width_px);
    context.strokeStyle = stroke.tool === "eraser" ? "#000" : this.#colour(stroke);
    context.stroke(path);
  }

  #number(context, stroke, colour, stage) {
    const [x, y] = stage.view.toStage(...stroke.points[0]);
    context.save();
    context.setTransform(stage.ratio, 0, 0, stage.ratio, 0, 0);
    context.fillStyle = colour;
    context.beginPath();
    context.arc(x, y, 6.5, 0, 7);
    context.fill();
    context.strokeStyle = inkOn(colour);
    badge(context, x, y, stroke.class, colour);
    context.restore();
  }

  #colour(stroke) {
    return this.classes()[stroke.class]?.colour ?? "#888888";
  }

  /** Move the canvas as it is: nothing is drawn, and nothing copied. */
  #shift(stage) {
    const zoom = stage.view.scale / this.drawn.scale;
    const [dx, dy] = [stage.view.x - this.drawn.x * zoom, stage.view.y - this.drawn.y * zoom];
    this.canvas.style.transform = `translate(${dx}px, ${dy}px) scale(${zoom})`;
  }

  /** Begin a stroke: it is on the screen before the next frame. */
  begin(stroke) {
    if (this.canvas.style.transform) {
      this.drawn = null; // what is drawn next has to lie where the view is
      this.stage.redraw(this);
    }
    this.stage.flush();
    this.live = stroke;
    this.extend(0);
  }

  /** Draw the points of the stroke under way from one index on. */
  extend(from) {
    const { live } = this;
    const points = live.points.slice(Math.max(0, from - 1));
    const ink = (context, path, tile) => {
      this.#within(context, tile);
      this.#line(context, live, path);
      context.restore();
    };
    if (live.tool === "eraser") ink(this.context, lineOf(points));
    else this.pieces.draw(points, live.width_px, ink);
  }

  /** The stroke is whole and now in the document, or dropped. */
  end(dropped) {
    if (dropped && this.live.tool === "eraser") this.drawn = null;
    this.live = null;
    this.stage.redraw(this);
  }
}

/** Return how many strokes have come on top since a drawing that may stay on the canvas as it is; if it may not, Infinity. */
function whatIsNew(before, now) {
  const same = ["scale", "x", "y", "base", "classes", "width", "height"].every((key) => before[key] === now[key]);
  const stay = before.strokes === now.strokes || before.strokes.every((stroke, k) => stroke === now.strokes[k]);
  return same && stay ? now.strokes.length - before.strokes.length : Infinity;
}
