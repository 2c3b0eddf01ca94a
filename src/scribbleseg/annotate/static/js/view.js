/** Where the image lies on the screen: css = image · scale + (x, y). Lengths of the screen are CSS pixels. */

import { Signal } from "./dom.js";

const LARGEST = 64;
const MARGIN_PX = 16;

export class View {
  constructor() {
    this.changed = new Signal();
    this.image = { width: 1, height: 1 };
    this.stage = { width: 1, height: 1 };
    this.scale = 1;
    this.x = this.y = 0;
    this.fitted = true;
  }

  /** Show another image, all of it. */
  open(width, height) {
    this.image = { width, height };
    this.fit();
  }

  /** The stage has another size: what was in its middle stays there, and what was all shown stays all shown. */
  resize(width, height) {
    const { width: w, height: h } = this.stage;
    this.stage = { width, height };
    if (this.fitted) this.fit();
    else this.#put(this.scale, this.x + (width - w) / 2, this.y + (height - h) / 2);
  }

  get fitScale() {
    const { width, height } = this.stage;
    const room = Math.min((width - 2 * MARGIN_PX) / this.image.width, (height - 2 * MARGIN_PX) / this.image.height);
    return Math.max(Math.min(room, 16), 1e-4);
  }

  fit() {
    this.show(0, 0, this.image.width, this.image.height, this.fitScale);
    this.fitted = true;
  }

  /** Show a box of the image in the middle. */
  show(x0, y0, x1, y1, scale = undefined) {
    const room = Math.min(this.stage.width / (x1 - x0), this.stage.height / (y1 - y0)) * 0.6;
    const s = scale ?? Math.min(room, 16);
    this.fitted = false;
    this.#put(s, this.stage.width / 2 - (s * (x0 + x1)) / 2, this.stage.height / 2 - (s * (y0 + y1)) / 2);
  }

  pan(dx, dy) {
    this.fitted = false;
    this.#put(this.scale, this.x + dx, this.y + dy);
  }

  /** Zoom by a factor; what is at a place of the stage stays there. */
  zoom(factor, x = this.stage.width / 2, y = this.stage.height / 2) {
    const scale = Math.min(Math.max(this.scale * factor, this.fitScale / 4), LARGEST);
    const ratio = scale / this.scale;
    this.fitted = false;
    this.#put(scale, x - (x - this.x) * ratio, y - (y - this.y) * ratio);
  }

  /** Place in the image of a place on the stage. */
  toImage(x, y) {
    return [(x - this.x) / this.scale, (y - this.y) / this.scale];
  }

  toStage(x, y) {
    return [x * this.scale + this.x, y * this.scale + this.y];
  }

  /** The part of the image that is on the stage. */
  get shown() {
    const [x0, y0] = this.toImage(0, 0);
    const [x1, y1] = this.toImage(this.stage.width, this.stage.height);
    return { x0, y0, x1, y1 };
  }

  #put(scale, x, y) {
    const { width, height } = this.image;
    const keep = 48; // so much of the image stays in sight
    this.scale = scale;
    this.x = Math.min(Math.max(x, keep - width * scale), this.stage.width - keep);
    this.y = Math.min(Math.max(y, keep - height * scale), this.stage.height - keep);
    this.changed.tell();
  }
}
