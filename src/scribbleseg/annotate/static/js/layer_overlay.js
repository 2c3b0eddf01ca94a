/** What the model predicts: classes as colours or outlines, or its doubt in one hue; each pixel of it sharp. */

import { picture } from "./api.js";
import { parts } from "./patterns.js";

const DOUBT = [204, 121, 167];

function pixels(bitmap) {
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const { data, width, height } = context.getImageData(0, 0, canvas.width, canvas.height);
  const values = new Uint8Array(width * height);
  for (let at = 0; at < values.length; at += 1) values[at] = data[4 * at];
  return { values, width, height };
}

/** Read an 8-bit grey picture of the server as numbers, or null where there is none. */
export async function numbers(path, longest = undefined) {
  const bitmap = await picture(path, longest && { resizeWidth: longest, resizeQuality: "pixelated" });
  return bitmap && pixels(bitmap);
}

/** Return class ids as a picture in the classes' colours; 255 is clear. `outline` keeps the pixels at borders only. */
export function coloured({ values, width, height }, colours, outline = false) {
  const image = new ImageData(width, height);
  const out = new Uint32Array(image.data.buffer);
  const table = new Uint32Array(256);
  colours.forEach((colour, id) => {
    const [r, g, b] = parts(colour);
    table[id] = ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
  });
  for (let y = 0, at = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1, at += 1) {
      const id = values[at];
      const border =
        !outline ||
        (x > 0 && values[at - 1] !== id) ||
        (x < width - 1 && values[at + 1] !== id) ||
        (y > 0 && values[at - width] !== id) ||
        (y < height - 1 && values[at + width] !== id);
      if (border) out[at] = table[id];
    }
  }
  return canvasOf(image);
}

function shaded({ values, width, height }) {
  const image = new ImageData(width, height);
  const out = new Uint32Array(image.data.buffer);
  const [r, g, b] = DOUBT;
  for (let at = 0; at < values.length; at += 1) out[at] = ((values[at] << 24) | (b << 16) | (g << 8) | r) >>> 0;
  return canvasOf(image);
}

function canvasOf(image) {
  const canvas = new OffscreenCanvas(image.width, image.height);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

export class OverlayLayer {
  constructor(stage, classes) {
    this.stage = stage;
    this.classes = classes;
    this.document = null;
    this.labels = this.doubt = null;
    this.made = new Map();
    this.round = 0;
    this.hidden = false;
    this.mode = "fill"; // fill, outline or doubt
  }

  /** Forget the prediction of another image. */
  open(document) {
    this.round += 1;
    Object.assign(this, { document, labels: null, doubt: null });
    this.refresh();
  }

  /** Read the prediction; `model` is instant, network or null for the better one. Return whether there is one. */
  async load(model) {
    const round = (this.round += 1);
    const path = `/api/images/${this.document.id}/prediction`;
    const query = model ? `?model=${model}` : "";
    const labels = await numbers(`${path}/labels${query}`);
    const doubt = labels && (await numbers(`${path}/doubt${query}`).catch(() => null));
    if (round !== this.round) return false;
    Object.assign(this, { labels, doubt });
    this.refresh();
    return labels !== null;
  }

  /** Colours have changed, or what is shown. */
  refresh() {
    this.made.clear();
    this.stage.redraw(this);
  }

  #picture() {
    if (!this.made.has(this.mode)) {
      const colours = this.classes().map((each) => each.colour);
      const made = this.mode === "doubt" ? this.doubt && shaded(this.doubt) : coloured(this.labels, colours, this.mode === "outline");
      this.made.set(this.mode, made);
    }
    return this.made.get(this.mode);
  }

  draw(context, stage) {
    const shown = this.labels && !this.hidden ? this.#picture() : null;
    if (!this.canvas.hidden) stage.clear(context);
    this.canvas.hidden = !shown; // an empty canvas costs each frame as much as a full one
    if (!shown) return;
    stage.inImage(context);
    context.imageSmoothingEnabled = false;
    context.drawImage(shown, 0, 0, this.document.width, this.document.height);
  }
}
