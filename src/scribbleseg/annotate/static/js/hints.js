/** Hints: what the strokes lack, in the server's words, or in ours as long as it has none. */

import { byId, el } from "./dom.js";
import { t } from "./text.js";

let shown = "";

/** Show hints of the server; a hint is a sentence or has one as `text`. */
export function showHints(hints, strokes, classes) {
  const told = (hints ?? []).map((hint) => (typeof hint === "string" ? hint : hint.text));
  const sentences = told.length > 0 ? told : own(strokes, classes);
  const key = sentences.join("\n");
  if (key === shown) return;
  shown = key;
  byId("hints").replaceChildren(...sentences.slice(0, 2).map((text) => el("p", { text })));
}

function own(strokes, classes) {
  const drawn = new Set(strokes.filter((stroke) => stroke.tool !== "eraser").map((stroke) => stroke.class));
  if (drawn.size === 0) return [t("hints.begin")];
  if (drawn.size > 1) return [];
  const missing = classes.find((each) => !drawn.has(each.id));
  return missing ? [t("hints.second", { name: missing.name })] : [];
}
