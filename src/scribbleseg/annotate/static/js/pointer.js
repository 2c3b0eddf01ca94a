/** Mouse, pen and fingers, all as Pointer Events: one draws, two fingers (or the middle button, or Space) move the view.

What draws is told in places of the stage: `begin`, `extend`, `finish`, `drop`, `hover` of the object given. */

const PEN_ERASER = 32;
const PEN_MEMORY_MS = 2000; // so long after a pen was seen a finger does not draw: it is the palm

export class Pointer {
  constructor(stage, drawing, pans, picks) {
    this.stage = stage;
    this.drawing = drawing;
    this.pans = pans; // () => whether the hand tool or Space is on
    this.picks = picks; // (place) => whether the tool is the one that selects, which then has selected
    this.active = null; // id of the pointer that draws
    this.panning = null;
    this.fingers = new Map();
    this.pen_ms = -Infinity;
    this.drawn_ms = -Infinity; // when the newest event was made that is drawn already
    const { node } = stage;
    node.addEventListener("pointerdown", (event) => this.#down(event));
    node.addEventListener("pointermove", (event) => this.#move(event));
    this.raw = (event) => this.#raw(event);
    node.addEventListener("pointerup", (event) => this.#up(event));
    node.addEventListener("pointercancel", (event) => this.#cancel(event));
    node.addEventListener("lostpointercapture", (event) => this.#cancel(event));
    node.addEventListener("pointerleave", () => this.active ?? drawing.hover(null));
    node.addEventListener("contextmenu", (event) => event.preventDefault());
    node.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
  }

  #down(event) {
    event.preventDefault();
    this.stage.node.focus({ preventScroll: true });
    capture(this.stage.node, event.pointerId);
    const place = this.stage.place(event);
    if (event.pointerType === "pen") this.pen_ms = event.timeStamp;
    if (event.pointerType === "touch") {
      this.fingers.set(event.pointerId, place);
      const palm = event.timeStamp - this.pen_ms < PEN_MEMORY_MS;
      if (this.fingers.size > 1 || palm) {
        if (this.#drawsWithFinger()) this.#drop();
        return;
      }
    }
    if (this.active !== null || this.panning) return;
    const erases = event.pointerType === "pen" && (event.buttons & PEN_ERASER) !== 0;
    if (event.button === 1 || (event.button === 0 && this.pans())) this.panning = { id: event.pointerId, place };
    else if (event.button === 0 && !erases && this.picks(place)) return;
    else if (event.button === 0 || erases) {
      this.active = event.pointerId;
      this.drawing.begin(place, erases);
      this.stage.node.addEventListener("pointerrawupdate", this.raw);
    }
  }

  /** Draw at once what other events tell once a frame only. Not all browsers have it; `pointermove` then tells all. */
  #raw(event) {
    if (event.pointerId === this.active) this.#extend(event);
  }

  #extend(event) {
    const events = event.getCoalescedEvents?.() ?? [];
    const fresh = (events.length > 0 ? events : [event]).filter((each) => each.timeStamp > this.drawn_ms);
    this.drawn_ms = event.timeStamp;
    if (fresh.length > 0) this.drawing.extend(fresh.map((each) => this.stage.place(each)));
  }

  /** No pointer draws any more. */
  #lift() {
    this.active = null;
    this.stage.node.removeEventListener("pointerrawupdate", this.raw);
  }

  #drawsWithFinger() {
    return this.active !== null && this.fingers.has(this.active);
  }

  #move(event) {
    const place = this.stage.place(event);
    if (event.pointerType === "pen") this.pen_ms = event.timeStamp;
    if (this.fingers.has(event.pointerId) && event.pointerId !== this.active && !this.panning) {
      this.#pinch(event.pointerId, place);
      return;
    }
    if (this.panning?.id === event.pointerId) {
      this.stage.view.pan(place[0] - this.panning.place[0], place[1] - this.panning.place[1]);
      this.panning.place = place;
    } else if (event.pointerId === this.active) {
      this.#extend(event);
    }
    if (event.pointerType !== "touch") this.drawing.hover(place);
  }

  #pinch(id, place) {
    const before = [...this.fingers.values()];
    this.fingers.set(id, place);
    const after = [...this.fingers.values()];
    if (after.length < 2) {
      this.stage.view.pan(after[0][0] - before[0][0], after[0][1] - before[0][1]);
      return;
    }
    const [m0, m1] = [middle(before), middle(after)];
    this.stage.view.pan(m1[0] - m0[0], m1[1] - m0[1]);
    const ratio = spread(after) / Math.max(spread(before), 1);
    if (ratio > 0) this.stage.view.zoom(ratio, m1[0], m1[1]);
  }

  #up(event) {
    this.fingers.delete(event.pointerId);
    if (this.panning?.id === event.pointerId) this.panning = null;
    if (event.pointerId !== this.active) return;
    this.#lift();
    this.drawing.extend([this.stage.place(event)]);
    this.drawing.finish();
  }

  #cancel(event) {
    this.fingers.delete(event.pointerId);
    if (this.panning?.id === event.pointerId) this.panning = null;
    if (event.pointerId === this.active) this.#drop();
  }

  #drop() {
    this.#lift();
    this.drawing.drop();
  }

  #wheel(event) {
    event.preventDefault();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 30 : 1;
    const [x, y] = this.stage.place(event);
    const turn = Math.max(-240, Math.min(240, event.deltaY * lines));
    this.stage.view.zoom(Math.exp(-turn * (event.ctrlKey ? 0.01 : 0.002)), x, y);
  }
}

function capture(node, id) {
  try {
    node.setPointerCapture(id);
  } catch {
    // the pointer is gone already
  }
}

function middle([a, b]) {
  return [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
}

function spread([a, b]) {
  return Math.hypot(a[0] - b[0], a[1] - b[1]);
}
