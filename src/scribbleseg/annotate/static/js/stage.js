/** The stack of canvases, each as large as the screen's pixels under it, and the frame that redraws those that are stale. */

import { byId } from "./dom.js";

export class Stage {
  constructor(view) {
    this.view = view;
    this.node = byId("stage");
    this.layers = [];
    this.stale = new Set();
    this.frame = 0;
    this.ratio = 1;
    new ResizeObserver(() => this.#resize()).observe(this.node);
    view.changed.on(() => this.redraw());
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    const paint = () => (this.desk = getComputedStyle(this.node).backgroundColor);
    scheme.addEventListener("change", () => {
      paint();
      this.redraw();
    });
    paint();
  }

  /** Add a layer: an object with `draw(context, stage)` and the canvas of an id. What fills its canvas is opaque: the browser then blends less. */
  add(id, layer) {
    layer.canvas = byId(id);
    layer.context = layer.canvas.getContext("2d", { alpha: !layer.opaque });
    this.layers.push(layer);
    this.redraw(layer);
  }

  /** Redraw a layer, or all, in the next frame. */
  redraw(layer = undefined) {
    for (const each of layer ? [layer] : this.layers) this.stale.add(each);
    this.frame ||= requestAnimationFrame(() => this.flush());
  }

  flush() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    const stale = [...this.stale];
    this.stale.clear();
    for (const layer of stale) {
      layer.context.setTransform(1, 0, 0, 1, 0, 0);
      layer.draw(layer.context, this);
    }
  }

  /** Let a context draw in image pixels. */
  inImage(context) {
    const { scale, x, y } = this.view;
    const ratio = this.ratio;
    context.setTransform(scale * ratio, 0, 0, scale * ratio, x * ratio, y * ratio);
  }

  clear(context) {
    context.clearRect(0, 0, context.canvas.width, context.canvas.height);
  }

  /** Place on the stage of a pointer. */
  place(event) {
    const box = this.node.getBoundingClientRect();
    return [event.clientX - box.left - this.node.clientLeft, event.clientY - box.top - this.node.clientTop];
  }

  #resize() {
    const { clientWidth: width, clientHeight: height } = this.node;
    this.ratio = Math.min(window.devicePixelRatio || 1, 3);
    for (const { canvas } of this.layers) {
      canvas.width = Math.max(1, Math.round(width * this.ratio));
      canvas.height = Math.max(1, Math.round(height * this.ratio));
    }
    this.view.resize(width, height);
    this.redraw();
    this.flush();
  }
}
