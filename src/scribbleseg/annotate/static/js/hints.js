/** Hints: what the strokes lack. A hint that was put away does not come back in this visit. */

import { byId, el, icon } from "./dom.js";
import { t } from "./text.js";

const FEWER = 20; // times fewer pixels than another class are worth a word
const MOST = 2;
const away = new Set();
let shown = null;

/** Show what the strokes of an image lack; `elsewhere` has the number of strokes of each class in all images. */
export function showHints(strokes, classes, elsewhere) {
  const sentences = lacks(strokes, classes, elsewhere).filter((text) => !away.has(text)).slice(0, MOST);
  const key = sentences.join("\n");
  if (key === shown) return;
  shown = key;
  byId("hints").replaceChildren(...sentences.map(hint));
}

function hint(text) {
  const put = (event) => {
    away.add(text);
    event.currentTarget.parentNode.remove();
  };
  return el("p", {}, el("span", { text }), el("button", { type: "button", class: "icon small", "aria-label": t("hints.away"), title: t("hints.away"), on: { click: put } }, icon("close")));
}

/** Return sentences, the weightiest first. */
export function lacks(strokes, classes, elsewhere) {
  const pixels = classes.map(({ id }) => strokes.filter((stroke) => stroke.tool !== "eraser" && stroke.class === id).reduce((sum, stroke) => sum + area(stroke), 0));
  const drawn = classes.filter(({ id }) => pixels[id] > 0);
  const known = classes.filter(({ id }) => pixels[id] > 0 || elsewhere[id] > 0);
  if (known.length === 0) return [t("hints.begin")];
  const found = [];
  if (known.length === 1) {
    const missing = classes.find((each) => !known.includes(each));
    if (missing) found.push(t(missing.id === 0 ? "hints.background" : "hints.second", { name: missing.name, drawn: known[0].name }));
  } else {
    if (drawn.length === 1) found.push(t("hints.one", { name: drawn[0].name }));
    for (const each of classes) if (!known.includes(each)) found.push(t("hints.never", { name: each.name }));
  }
  if (drawn.length > 1) {
    const [least, most] = [Math.min, Math.max].map((of) => drawn.find(({ id }) => pixels[id] === of(...drawn.map((each) => pixels[each.id]))));
    const times = Math.round(pixels[most.id] / pixels[least.id]);
    if (times >= FEWER) found.push(t("hints.fewer", { name: least.name, other: most.name, times: times < 100 ? times : Math.round(times / 100) * 100 }));
  }
  return found;
}

/** About how many pixels a stroke covers: its length times its width, and its round ends. */
function area({ points, width_px: width }) {
  const length = points.slice(1).reduce((sum, [x, y], k) => sum + Math.hypot(x - points[k][0], y - points[k][1]), 0);
  return length * width + (Math.PI / 4) * width * width;
}
