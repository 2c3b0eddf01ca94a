/** The help dialog: how to begin, and the table of keys. */

import { open } from "./dialog.js";
import { el } from "./dom.js";
import { GESTURES, KEYS } from "./keys.js";
import { t } from "./text.js";

function rows() {
  const merged = new Map();
  for (const [keys, , words] of KEYS) merged.set(words, [...(merged.get(words) ?? []), keys]);
  const ours = [...merged].map(([words, keys]) => [keys, t(words)]);
  return [...ours, ...GESTURES.map(([key, words]) => [[t(key)], t(words)])];
}

export function help() {
  const steps = ["help.one", "help.two", "help.three", "help.four"].map((key) => el("li", { text: t(key) }));
  const table = el("dl", { class: "keys" });
  for (const [keys, words] of rows()) {
    table.append(el("div", {}, el("dt", {}, ...keys.map((key) => el("kbd", { text: key }))), el("dd", { text: words })));
  }
  const scroll = el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": t("help.title") }, el("ol", {}, ...steps), el("h3", { text: t("help.keys") }), table);
  return open(t("help.title"), [scroll], [[t("close"), "", "primary"]], { wide: true, focused: true, id: "help-dialog" });
}
