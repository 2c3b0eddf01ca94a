/** What the hand holds: brush, eraser or the hand that moves the view; the brush's width and class. Kept between visits. */

import { Signal } from "./dom.js";

const KEY = "scribbleseg-tools";
const [NARROWEST, WIDEST] = [1, 512];

export class Tools {
  constructor() {
    this.changed = new Signal();
    this.tool = "brush";
    this.classId = 0;
    this.width_px = 5;
    this.opened = false;
    try {
      const kept = JSON.parse(localStorage.getItem(KEY) ?? "{}");
      if (kept.width_px > 0) this.setWidth(kept.width_px);
    } catch {
      // no storage: the usual width
    }
  }

  pick(tool) {
    this.tool = tool;
    this.changed.tell();
  }

  pickClass(id) {
    this.classId = id;
    this.tool = "brush";
    this.changed.tell();
  }

  setWidth(width_px) {
    const round = width_px < 20 ? Math.round(width_px) : Math.round(width_px / 2) * 2;
    this.width_px = Math.min(Math.max(round, NARROWEST), WIDEST);
    this.changed.tell();
    try {
      localStorage.setItem(KEY, JSON.stringify({ width_px: this.width_px }));
    } catch {
      // no storage
    }
  }

  /** One step wider (1) or narrower (−1): by a pixel, of wide brushes by a seventh. */
  step(way) {
    this.setWidth(this.width_px + way * Math.max(1, Math.floor(this.width_px * 0.15)));
  }

  /** Place of the width on a slider from 0 to 100, and back: even steps are even ratios. */
  get slider() {
    return Math.round((100 * Math.log(this.width_px)) / Math.log(WIDEST));
  }

  setSlider(value) {
    this.setWidth(Math.exp((value / 100) * Math.log(WIDEST)));
  }
}
