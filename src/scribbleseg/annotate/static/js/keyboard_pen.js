/** Drawing without a pointer: with the stage in focus the arrows move the cursor, Enter puts the pen down and lifts it. */

const STEP_PX = 12;
const EDGE_PX = 40;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class KeyboardPen {
  constructor(stage, drawing, say, picks) {
    this.stage = stage;
    this.drawing = drawing;
    this.say = say; // (key of the words, values)
    this.picks = picks; // as of the pointer
    this.at = null; // in image pixels
    stage.node.addEventListener("keydown", (event) => this.#key(event));
    stage.node.addEventListener("pointerdown", () => (this.at = null));
    stage.node.addEventListener("blur", () => drawing.drop());
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in ARROWS) this.#move(ARROWS[event.key], event.shiftKey);
    else if (event.key === "Enter") this.#toggle();
    else if (event.key === "Escape" && this.drawing.live) this.drawing.drop();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  #start() {
    const { view } = this.stage;
    const middle = [view.image.width / 2, view.image.height / 2];
    const { x0, y0, x1, y1 } = view.shown;
    const seen = middle[0] >= x0 && middle[0] <= x1 && middle[1] >= y0 && middle[1] <= y1;
    this.at ??= (seen ? middle : [(x0 + x1) / 2, (y0 + y1) / 2]).map((v) => Math.floor(v) + 0.5);
  }

  #move([dx, dy], fine) {
    this.#start();
    const { view } = this.stage;
    const step = fine ? 1 : Math.max(1, Math.round(STEP_PX / view.scale));
    this.at = [this.at[0] + dx * step, this.at[1] + dy * step];
    const place = view.toStage(...this.at);
    const off = (v, size) => Math.min(0, size - EDGE_PX - v) + Math.max(0, EDGE_PX - v);
    const shift = [off(place[0], view.stage.width), off(place[1], view.stage.height)];
    if (shift[0] !== 0 || shift[1] !== 0) view.pan(...shift);
    this.#show();
    this.drawing.extend([view.toStage(...this.at)]);
    this.say("stage.at", { x: Math.floor(this.at[0]), y: Math.floor(this.at[1]) });
  }

  #toggle() {
    this.#start();
    this.#show();
    if (this.picks(this.stage.view.toStage(...this.at))) return;
    if (this.drawing.live) {
      this.drawing.finish();
      this.say("stage.up");
    } else {
      this.drawing.begin(this.stage.view.toStage(...this.at));
      this.say("stage.down");
    }
  }

  #show() {
    this.drawing.hover(this.stage.view.toStage(...this.at));
  }
}
