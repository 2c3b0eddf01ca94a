/** The strokes of one image as the user sees them: commands are applied here at once and sent later.

`strokes` is never changed in place: each change makes a new list, and the old one is what undo goes back to. */

import { Signal } from "./dom.js";
import { uuid } from "./store.js";

/** What undo leads to where only the server knows it: strokes drawn before the page was loaded. */
const UNKNOWN = null;

export class Document {
  constructor(state) {
    this.changed = new Signal();
    this.load(state);
  }

  /** Take over the server's state. */
  load(state) {
    const { id, stem, width, height, version, done, has_base, tile_px, levels, bands, strokes, can_undo, can_redo } = state;
    Object.assign(this, { id, stem, width, height, version, done, has_base, tile_px, levels, bands, strokes });
    this.past = [];
    this.future = [];
    this.server = { undo: can_undo, redo: can_redo };
    this.unsure = false; // the server's strokes are to be read again
    this.changed.tell();
  }

  get canUndo() {
    return this.past.length > 0 || (this.server.undo && !this.unsure);
  }

  get canRedo() {
    return this.future.length > 0 || (this.server.redo && !this.unsure);
  }

  /** Apply commands that an earlier page left unsent; those that the server has are passed over. `idOf` gives the id of a class's key. */
  replay(commands, idOf) {
    const known = new Set(this.strokes.map((stroke) => stroke.id));
    const now = (told) => ({ ...told, class: idOf(told.class_key) ?? told.class });
    for (const command of commands) {
      if (command.op === "reclass") this.#apply(now(command));
      else if (command.op !== "add") this.#apply(command);
      else if (!known.has(command.stroke.id)) this.#apply({ ...command, stroke: now(command.stroke) });
    }
  }

  add(stroke) {
    return this.#do({ op: "add", stroke: { ...stroke, id: stroke.id ?? uuid() } });
  }

  remove(strokeId) {
    return this.#do({ op: "remove", stroke: strokeId });
  }

  reclass(strokeId, classId, key) {
    return this.#do({ op: "reclass", stroke: strokeId, class: classId, class_key: key });
  }

  clear() {
    return this.#do({ op: "clear" });
  }

  undo() {
    return this.canUndo ? this.#do({ op: "undo" }) : null;
  }

  redo() {
    return this.canRedo ? this.#do({ op: "redo" }) : null;
  }

  #do(command) {
    const whole = { id: uuid(), ...command };
    this.#apply(whole);
    return whole;
  }

  #apply(command) {
    if (command.op === "undo") this.#step(this.past, this.future);
    else if (command.op === "redo") this.#step(this.future, this.past);
    else {
      this.past.push(this.unsure ? UNKNOWN : this.strokes);
      this.future = [];
      this.server.redo = false;
      if (command.op === "add") this.strokes = [...this.strokes, command.stroke];
      else if (command.op === "clear") this.strokes = [];
      else if (command.op === "remove") this.strokes = this.strokes.filter((stroke) => stroke.id !== command.stroke);
      else if (command.op === "reclass") {
        const changed = (stroke) => (stroke.id === command.stroke ? { ...stroke, class: command.class, class_key: command.class_key } : stroke);
        this.strokes = this.strokes.map(changed);
      }
    }
    this.changed.tell();
  }

  #step(from, to) {
    const next = from.length > 0 ? from.pop() : UNKNOWN;
    to.push(this.unsure ? UNKNOWN : this.strokes);
    if (next === UNKNOWN) this.unsure = true;
    else this.strokes = next;
  }

  /** Return the commands that do to another version what this page's unsent ones did: its strokes on top, and changes of strokes that it has. */
  rebased(pending, theirs) {
    const mine = new Set(pending.filter((command) => command.op === "add").map((command) => command.stroke.id));
    const now = new Map(this.strokes.map((stroke) => [stroke.id, stroke]));
    const added = this.strokes.filter((stroke) => mine.has(stroke.id) && !theirs.has(stroke.id)).map((stroke) => ({ op: "add", stroke }));
    const touched = new Set(pending.filter((command) => ["remove", "reclass"].includes(command.op)).map((command) => command.stroke));
    const changed = [...touched].filter((id) => theirs.has(id)).map((id) => {
      const left = now.get(id);
      return left ? { op: "reclass", stroke: id, class: left.class, class_key: left.class_key } : { op: "remove", stroke: id };
    });
    return [...added, ...changed].map((command) => ({ id: uuid(), ...command }));
  }
}
