/** The strokes: those committed are drawn once and stay on the canvas; the one under way is added piece by piece.

While the view moves the canvas of the last drawing is moved by the browser if a new drawing would take longer than a frame allows. */

import { badge, drawPattern, inkOn } from "./patterns.js";

const MANY_POINTS = 8000; // in sight: drawing them anew takes longer than a frame; the clock cannot tell, canvases draw later
const SETTLE_MS = 90;
const PATTERN_PX = 11; // of the screen: wider strokes have no coarser pattern
const THINNEST = Math.SQRT2; // the rasteriser's: no line has gaps
const SHAPES = new WeakMap();

function shapeOf(stroke) {
  let shape = SHAPES.get(stroke);
  if (!shape) {
    const path = new Path2D();
    const [first] = stroke.points;
    let [x0, y0, x1, y1] = [first[0], first[1], first[0], first[1]];
    path.moveTo(first[0], first[1]);
    for (const [x, y] of stroke.points) {
      path.lineTo(x, y);
      [x0, y0, x1, y1] = [Math.min(x0, x), Math.min(y0, y), Math.max(x1, x), Math.max(y1, y)];
    }
    const reach = Math.max(stroke.width_px, THINNEST) / 2 + 1;
    shape = { path, x0: x0 - reach, y0: y0 - reach, x1: x1 + reach, y1: y1 + reach };
    SHAPES.set(stroke, shape);
  }
  return shape;
}

export class StrokesLayer {
  constructor(stage, classes) {
    this.stage = stage;
    this.classes = classes; // () => [{name, colour}]
    this.document = null;
    this.base = null; // labels that came with the image, as a picture
    this.live = null;
    this.hidden = false;
    this.points = 0; // in sight at the last full drawing
    this.drawn = null; // the view of the last full drawing
    this.timer = 0;
  }

  open(document) {
    Object.assign(this, { document, base: null, live: null, drawn: null });
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
    const moved = this.drawn && (this.drawn.scale !== scale || this.drawn.x !== x || this.drawn.y !== y);
    if (moved && this.points > MANY_POINTS && !this.live && this.drawn.strokes === this.document.strokes) {
      this.#shift(stage);
      this.timer = setTimeout(() => {
        this.drawn = null;
        stage.redraw(this);
      }, SETTLE_MS);
      return;
    }
    this.#drawAll(context, stage);
    this.drawn = { scale, x, y, strokes: this.document.strokes };
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
    if (this.live) this.#line(context, this.live, shapeOf({ ...this.live }).path);
    context.restore();
  }

  /** Draw in image pixels, and on the image only: what lies outside is no label. To be restored. */
  #within(context) {
    context.save();
    this.stage.inImage(context);
    context.beginPath();
    context.rect(0, 0, this.document.width, this.document.height);
    context.clip();
    context.lineCap = context.lineJoin = "round";
  }

  #drawOne(context, stroke, path, stage) {
    this.#line(context, stroke, path);
    context.globalCompositeOperation = "source-over";
    const width = Math.max(stroke.width_px, THINNEST) * stage.view.scale;
    if (stroke.tool === "eraser" || width < 4) return;
    const colour = this.#colour(stroke);
    drawPattern(context, path, stroke.class, colour, Math.min(stroke.width_px, PATTERN_PX / stage.view.scale));
    if (width >= 13) this.#number(context, stroke, colour, stage);
  }

  #line(context, stroke, path) {
    context.globalCompositeOperation = stroke.tool === "eraser" ? "destination-out" : "source-over";
    context.lineWidth = Math.max(stroke.width_px, THINNEST);
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
    const { points } = this.live;
    const context = this.context;
    this.#within(context);
    const path = new Path2D();
    path.moveTo(...points[Math.max(0, from - 1)]);
    for (const point of points.slice(from)) path.lineTo(...point);
    this.#line(context, this.live, path);
    context.restore();
  }

  /** The stroke is whole (and now in the document), or dropped. */
  end() {
    this.live = null;
    this.drawn = null;
    this.stage.redraw(this);
  }
}
