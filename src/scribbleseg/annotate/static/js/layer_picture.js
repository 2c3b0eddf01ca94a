/** The image itself: one picture, or the tiles in sight at the level that the screen can show. */

import { picture } from "./api.js";
import { Signal } from "./dom.js";

const MOST_TILES = 96; // of 1 MiB
const AT_ONCE = 4;

export class PictureLayer {
  constructor(stage) {
    this.stage = stage;
    this.document = null;
    this.query = "";
    this.whole = null;
    this.tiles = new Map();
    this.wanted = [];
    this.running = 0;
    this.round = 0;
    this.opaque = true;
    this.preparing = new Signal(); // whether nothing of a large image can be shown yet
  }

  /** Show an image; `query` says how the server renders it (window, channels). */
  async open(document, query = "") {
    this.#drop();
    const round = (this.round += 1);
    Object.assign(this, { document, query });
    this.stage.redraw(this);
    if (document.tile_px) return this.#openTiles(round);
    const whole = await picture(`/api/images/${document.id}/view${query}`);
    if (round !== this.round) whole?.close();
    else this.whole = whole;
    this.stage.redraw(this);
  }

  /** The first look at a large file takes the server seconds: its thumbnail, where there is one, and a word until then. */
  async #openTiles(round) {
    this.preparing.tell(true);
    const whole = await picture(`/api/images/${this.document.id}/thumbnail`).catch(() => null);
    if (round !== this.round || this.#loaded()) return whole?.close();
    this.whole = whole;
    this.stage.redraw(this);
  }

  #loaded() {
    return [...this.tiles.values()].some((tile) => tile.bitmap);
  }

  #drop() {
    this.preparing.tell(false);
    this.whole?.close();
    for (const tile of this.tiles.values()) tile.bitmap?.close();
    this.tiles.clear();
    this.whole = null;
    this.wanted = [];
  }

  draw(context, stage) {
    context.fillStyle = stage.desk;
    context.fillRect(0, 0, context.canvas.width, context.canvas.height);
    if (!this.document) return;
    stage.inImage(context);
    context.imageSmoothingEnabled = stage.view.scale * stage.ratio < 2;
    context.imageSmoothingQuality = "medium";
    if (this.whole) context.drawImage(this.whole, 0, 0, this.document.width, this.document.height);
    if (this.document.tile_px) this.#drawTiles(context, stage);
  }

  #drawTiles(context, stage) {
    const { levels } = this.document;
    const finest = Math.floor(Math.log2(1 / (stage.view.scale * stage.ratio)) + 0.25);
    const level = Math.min(Math.max(finest, 0), levels - 1);
    this.wanted = [];
    const coarse = Math.min(levels - 1, level + 3);
    for (const each of new Set([levels - 1, coarse, level])) {
      for (const tile of this.#inSight(each, stage.view.shown)) {
        tile.used = performance.now();
        if (tile.bitmap) context.drawImage(tile.bitmap, tile.x, tile.y, tile.width, tile.height);
        else if (!tile.asked) this.wanted.push(tile);
      }
    }
    this.#load();
  }

  #inSight(level, { x0, y0, x1, y1 }) {
    const { width, height, tile_px: side } = this.document;
    const step = side * 2 ** level;
    const last = [Math.ceil(width / step) - 1, Math.ceil(height / step) - 1];
    const found = [];
    for (let row = Math.max(0, Math.floor(y0 / step)); row <= Math.min(last[1], Math.floor(y1 / step)); row += 1) {
      for (let column = Math.max(0, Math.floor(x0 / step)); column <= Math.min(last[0], Math.floor(x1 / step)); column += 1) {
        const key = `${level}/${column}/${row}`;
        if (!this.tiles.has(key)) this.tiles.set(key, { key, level, asked: false, bitmap: null });
        found.push(Object.assign(this.tiles.get(key), { x: column * step, y: row * step }));
      }
    }
    for (const tile of found) {
      tile.width = Math.min(step, width - tile.x);
      tile.height = Math.min(step, height - tile.y);
    }
    return found;
  }

  #load() {
    while (this.running < AT_ONCE && this.wanted.length > 0) this.#fetch(this.wanted.shift());
  }

  async #fetch(tile) {
    const round = this.round;
    tile.asked = true;
    this.running += 1;
    try {
      const bitmap = await picture(`/api/images/${this.document.id}/tiles/${tile.key}${this.query}`);
      if (round !== this.round) bitmap?.close();
      else {
        tile.bitmap = bitmap;
        this.preparing.tell(false);
      }
    } catch {
      setTimeout(() => (tile.asked = false), 2000);
    }
    this.running -= 1;
    this.#forget();
    this.stage.redraw(this);
  }

  #forget() {
    const loaded = [...this.tiles.values()].filter((tile) => tile.bitmap && tile.level < this.document.levels - 1);
    loaded.sort((a, b) => a.used - b.used);
    for (const tile of loaded.slice(0, Math.max(0, loaded.length - MOST_TILES))) {
      tile.bitmap.close();
      this.tiles.delete(tile.key);
    }
  }
}
