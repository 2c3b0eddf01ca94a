/** Sends commands image by image, in order and one batch at a time, until the server has them.

A batch whose answer was lost is sent again unchanged: the server knows the commands by their ids. */

import { Refused, post } from "./api.js";
import { Signal } from "./dom.js";

const LONGEST_WAIT_MS = 8000;
const BATCH = 50;
const HOPELESS = [400, 404, 413, 422]; // what will be refused for ever

class Line {
  constructor(image, version) {
    this.image = image;
    this.version = version;
    this.waiting = []; // not yet sent, or sent and not answered
    this.batch = 0; // how many of them are on their way
    this.busy = false;
    this.asked = false; // the user has to decide between two versions
    this.wait_ms = 0;
    this.timer = 0;
  }
}

export class Sender {
  constructor(store) {
    this.store = store;
    this.lines = new Map();
    this.offline = false;
    this.changed = new Signal(); // the state shown: saved, saving, offline
    this.acknowledged = new Signal(); // image, answer, whether more happened to the image than the commands sent
    this.conflicted = new Signal(); // image, the server's state
    this.refused = new Signal(); // image, error
    window.addEventListener("online", () => this.retry());
  }

  #line(image) {
    if (!this.lines.has(image)) this.lines.set(image, new Line(image, 0));
    return this.lines.get(image);
  }

  /** Commands of an image that the server has not acknowledged. */
  pending(image) {
    return this.lines.get(image)?.waiting ?? [];
  }

  /** How many commands of all images are waiting. */
  get count() {
    let count = 0;
    for (const line of this.lines.values()) count += line.waiting.length;
    return count;
  }

  get state() {
    if (this.count === 0) return "saved";
    return this.offline ? "offline" : "saving";
  }

  /** Tell which version of an image the next command builds on; what is under way keeps its own. */
  builds(image, version) {
    const line = this.#line(image);
    if (line.waiting.length === 0) line.version = version;
  }

  /** Take over what an earlier page left in the store. */
  adopt(rows) {
    for (const row of rows) {
      const line = this.#line(row.image);
      if (line.waiting.length === 0) line.version = row.version;
      line.waiting.push(row.command);
    }
    for (const line of this.lines.values()) this.#send(line);
    this.changed.tell();
  }

  /** Keep a command and send it as soon as may be. */
  push(image, command) {
    const line = this.#line(image);
    const version = line.version + line.waiting.length; // each command makes a version
    line.waiting.push(command);
    this.store.keep(image, version, command).catch(() => (this.store.works = false));
    this.changed.tell();
    this.#send(line);
  }

  /** Resolve when nothing is on its way, or the server cannot be reached. */
  quiet() {
    return new Promise((resolve) => {
      const look = () => {
        if (this.state === "saving") return;
        stop();
        resolve();
      };
      const stop = this.changed.on(look);
      look();
    });
  }

  /** Try all again now. */
  retry() {
    for (const line of this.lines.values()) {
      line.wait_ms = 0;
      this.#send(line);
    }
  }

  /** End a conflict: send `commands` upon `version` instead of what was waiting. */
  async settle(image, version, commands) {
    const line = this.#line(image);
    const before = line.waiting.map((command) => command.id);
    line.waiting = [];
    line.version = version;
    await this.store.forget(before).catch(() => {});
    line.asked = false;
    for (const command of commands) this.push(image, command);
    this.changed.tell();
  }

  async #send(line) {
    if (line.busy || line.asked || line.waiting.length === 0) return;
    clearTimeout(line.timer);
    line.busy = true;
    line.batch ||= Math.min(line.waiting.length, BATCH);
    const sent = line.waiting.slice(0, line.batch);
    try {
      const answer = await post(`/api/images/${line.image}/commands`, { commands: sent }, { version: line.version });
      line.waiting.splice(0, sent.length);
      const more = answer.version !== line.version + sent.length;
      line.version = answer.version;
      line.wait_ms = line.batch = 0;
      this.offline = false;
      this.store.forget(sent.map((command) => command.id)).catch(() => {});
      this.acknowledged.tell(line.image, answer, more);
    } catch (error) {
      this.#failed(line, error, sent);
    }
    line.busy = false;
    this.changed.tell();
    if (line.wait_ms === 0) this.#send(line);
  }

  #failed(line, error, sent) {
    if (error instanceof Refused && error.status === 412) {
      line.asked = true;
      line.batch = 0;
      this.offline = false;
      this.conflicted.tell(line.image, error.body);
    } else if (error instanceof Refused && HOPELESS.includes(error.status)) {
      line.batch = 1; // one by one, to find the one that is refused
      if (sent.length > 1) return;
      line.waiting.shift();
      line.batch = 0;
      this.store.forget([sent[0].id]).catch(() => {});
      this.refused.tell(line.image, error);
    } else {
      this.offline = true;
      line.wait_ms = Math.min(LONGEST_WAIT_MS, line.wait_ms * 2 || 500);
      line.timer = setTimeout(() => this.#send(line), line.wait_ms);
    }
  }
}
