/** Asks the server once a second how things are, as long as the tab is in sight and one answer has come. */

import { get } from "./api.js";
import { Signal } from "./dom.js";

const EVERY_MS = 1000;
const UNREACHABLE_MS = 3000;

export class Poll {
  constructor(image) {
    this.image = image; // () => id of the image shown, or null
    this.told = new Signal();
    this.lost = new Signal();
    this.#again(0);
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.#again(0);
    });
  }

  /** Ask at once: another image is shown. */
  now() {
    this.#again(0);
  }

  #again(wait_ms) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#ask(), wait_ms);
  }

  async #ask() {
    if (document.hidden) return;
    const image = this.image();
    let wait_ms = EVERY_MS;
    try {
      this.told.tell(image, await get(image === null ? "/api/status" : `/api/status?image=${image}`));
    } catch {
      wait_ms = UNREACHABLE_MS;
      this.lost.tell();
    }
    this.#again(wait_ms);
  }
}
