/** Dialogs: the browser's own, which keep the focus, close with Escape and give the focus back. */

import { byId, el } from "./dom.js";
import { t } from "./text.js";

/** Open a dialog (`focused`: its primary button has the focus) of a title, a body and buttons `[words, value, kind]`; resolve to the value of the one pressed ("" if closed). */
export function open(title, body, buttons, { wide = false, focused = false, id = null } = {}) {
  return new Promise((resolve) => {
    const actions = buttons.map(([words, value, kind = ""]) =>
      kind === "primary" ? el("button", { type: "submit", value, class: kind, text: words, autofocus: focused }) : closer(words, value, { class: kind }),
    );
    const head = el("h2", { text: title, id: "dialog-title" });
    const form = el("form", { method: "dialog" }, head, el("div", { class: "body" }, ...body), el("div", { class: "actions" }, ...actions));
    const dialog = el("dialog", { class: wide ? "wide" : "", "aria-labelledby": "dialog-title", id }, form);
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue);
    });
    byId("dialogs").append(dialog);
    dialog.showModal();
  });
}

/** Return a button that closes its dialog with a value; unlike a submit button it is never what Enter in a field presses. */
export function closer(words, value, props = {}) {
  return el("button", { type: "button", value, text: words, ...props, on: { click: (event) => event.currentTarget.closest("dialog").close(value) } });
}

/** Ask for yes or no. */
export async function confirm(title, text, yes) {
  return (await open(title, [el("p", { text })], [[t("cancel"), ""], [yes, "yes", "primary"]])) === "yes";
}
