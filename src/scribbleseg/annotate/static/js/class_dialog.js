/** The dialog of one class: its name and colour, its place among the others, merging and deleting. */

import { closer, confirm, open } from "./dialog.js";
import { el } from "./dom.js";
import { t } from "./text.js";

const NUM_COLOURS = 16;
const FEWEST = 2; // classes that must be left

/** Ask what a class shall be. Return `{name, colour}`, or a command for the server (`op`), or null. */
export async function editClass({ id, name, colour }, panel, isNew) {
  const field = el("input", { type: "text", id: "class-name", value: name, maxlength: 100, required: true, autocomplete: "off", autofocus: true });
  const colourField = el("input", { type: "color", id: "class-colour", value: colour });
  const body = [
    el("label", { class: "row" }, el("span", { text: t("classes.name") }), field),
    el("div", { class: "row" }, el("label", { for: "class-colour", text: t("classes.colour") }), el("span", { class: "colours" }, colourField, ...panel.palette.slice(0, NUM_COLOURS).map((each, n) => choice(each, n, colourField)))),
  ];
  const others = panel.classes.filter((each) => each.id !== id);
  const into = el("select", { id: "class-into" }, ...others.map((each) => el("option", { value: each.id, text: each.name })));
  if (!isNew) body.push(order(id, panel.classes.length), merging(into, panel.classes.length > FEWEST));
  const answer = await open(isNew ? t("classes.add") : t("classes.edit", { name }), body, [[t("cancel"), ""], [isNew ? t("classes.add") : t("save"), "save", "primary"]]);
  if (answer === "save") return field.value.trim() ? { name: field.value.trim(), colour: colourField.value } : null;
  if (answer === "up" || answer === "down") return moved(id, answer === "up" ? -1 : 1, panel.classes);
  if (answer === "merge") return merge(panel.classes[id], Number(into.value), panel);
  if (answer === "delete") return remove(panel.classes[id]);
  return null;
}

function choice(colour, n, field) {
  const button = el("button", { type: "button", class: "dot", "aria-label": t("classes.choose", { n: n + 1 }), title: colour, on: { click: () => (field.value = colour) } });
  button.style.backgroundColor = colour;
  return button;
}

function order(id, count) {
  const up = closer(t("classes.up"), "up", { disabled: id === 0 });
  const down = closer(t("classes.down"), "down", { disabled: id === count - 1 });
  return el("div", { class: "row" }, el("span", { text: t("classes.order") }), el("span", { class: "pair" }, up, down));
}

function merging(into, possible) {
  const merges = closer(t("classes.merge"), "merge", { disabled: !possible });
  const removes = closer(t("classes.delete"), "delete", { class: "danger", disabled: !possible });
  return el("div", { class: "below" }, el("label", { class: "row" }, el("span", { text: t("classes.into") }), el("span", { class: "pair" }, into, merges)), removes);
}

function moved(id, step, classes) {
  const ids = classes.map((each) => each.id);
  ids.splice(id + step, 0, ...ids.splice(id, 1));
  return { op: "reorder", order: ids };
}

async function merge({ id, name, strokes }, into, panel) {
  const sure = await confirm(t("classes.merge"), t("classes.mergeSure", { name, into: panel.names[into], n: strokes ?? 0 }), t("classes.merge"));
  return sure ? { op: "merge", class: id, into } : null;
}

async function remove({ id, name, strokes }) {
  const sure = await confirm(t("classes.delete"), t("classes.deleteSure", { name, n: strokes ?? 0 }), t("classes.delete"));
  return sure ? { op: "delete", class: id } : null;
}
