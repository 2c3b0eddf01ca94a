/** The table of keys: what the help dialog and the documentation list is what works. */

/** [keys as shown, action, words]. `hold` actions are told when the key goes down and up. */
export const KEYS = [
  ["1 … 9", "class", "keys.class"],
  ["B", "brush", "keys.brush"],
  ["E", "eraser", "keys.eraser"],
  ["0", "eraser", "keys.eraser"],
  ["V", "select", "keys.select"],
  ["Delete", "remove", "keys.remove"],
  ["Backspace", "remove", "keys.remove"],
  ["Escape", "release", "keys.release"],
  ["[", "narrower", "keys.narrower"],
  ["]", "wider", "keys.wider"],
  ["Ctrl+Z", "undo", "keys.undo"],
  ["Ctrl+Shift+Z", "redo", "keys.redo"],
  ["Ctrl+Y", "redo", "keys.redo"],
  ["+", "zoomIn", "keys.in"],
  ["-", "zoomOut", "keys.out"],
  ["F", "fit", "keys.fit"],
  ["H", "pan", "keys.pan"],
  ["Space", "holdPan", "keys.holdPan", "hold"],
  ["A", "previous", "keys.previous"],
  ["D", "next", "keys.next"],
  ["M", "done", "keys.done"],
  ["N", "place", "keys.place"],
  ["S", "prediction", "keys.prediction"],
  ["C", "outline", "keys.outline"],
  ["U", "doubt", "keys.doubt"],
  [",", "fainter", "keys.fainter"],
  [".", "stronger", "keys.stronger"],
  ["X", "bare", "keys.bare", "hold"],
  ["?", "help", "keys.help"],
];

/** Keys of the stage itself and of the mouse, for the help: they are handled where they belong. */
export const GESTURES = [
  ["gestures.wheelKey", "gestures.wheel"],
  ["gestures.middleKey", "gestures.middle"],
  ["gestures.fingersKey", "gestures.fingers"],
  ["gestures.penKey", "gestures.pen"],
  ["gestures.arrowsKey", "gestures.arrows"],
  ["gestures.enterKey", "gestures.enter"],
];

function nameOf(event) {
  if (event.key === " ") return "Space";
  const key = event.key.length === 1 ? event.key.toUpperCase() : event.key;
  if (event.ctrlKey || event.metaKey) return `Ctrl+${event.shiftKey ? "Shift+" : ""}${key}`;
  return key === "=" ? "+" : key;
}

function types(node) {
  const words = node.matches?.("input:not([type=range], [type=checkbox], [type=radio], [type=color]), textarea, select");
  return words || node.isContentEditable || node.closest?.("dialog[open]");
}

function presses(node) {
  return node.matches?.("button, a, summary, input, [role=option]");
}

/** Let the table's keys call `actions[name](detail)`; a `hold` action gets true, then false. */
export function listen(actions) {
  const table = new Map(KEYS.map(([keys, action, , kind]) => [keys, { action, kind }]));
  const held = new Map();
  window.addEventListener("keydown", (event) => {
    if (types(event.target) || event.altKey) return;
    const name = nameOf(event);
    if (/^[1-9]$/.test(name)) {
      event.preventDefault();
      actions.class(Number(name) - 1);
      return;
    }
    const found = table.get(name);
    if (!found || (name === "Space" && presses(event.target))) return;
    event.preventDefault();
    if (found.kind !== "hold") actions[found.action]();
    else if (!held.has(event.code)) {
      held.set(event.code, found.action);
      actions[found.action](true);
    }
  });
  const release = (code) => {
    if (!held.has(code)) return;
    actions[held.get(code)](false);
    held.delete(code);
  };
  window.addEventListener("keyup", (event) => release(event.code));
  window.addEventListener("blur", () => [...held.keys()].forEach(release));
}
