/** Two pages drew on the same image: the user decides. */

import { get } from "./api.js";
import { open } from "./dialog.js";
import { el } from "./dom.js";
import { t } from "./text.js";

/** Ask, and settle it with the sender; return the document's state to show, with this page's strokes still to be replayed. */
export async function settle(image, told, sender, document) {
  const theirs = told?.image?.strokes ? told.image : await get(`/api/images/${image}`);
  const pending = [...sender.pending(image)];
  const added = pending.filter((command) => command.op === "add").length;
  let answer = "";
  while (answer === "") {
    answer = await open(
      t("conflict.title"),
      [el("p", { text: t("conflict.what", { stem: theirs.stem ?? image }) }), el("p", { text: t("conflict.mine", { n: added }) })],
      [[t("conflict.theirs"), "theirs"], [t("conflict.both"), "both", "primary"]],
      { id: "conflict" },
    );
  }
  const theirIds = new Set(theirs.strokes.map((stroke) => stroke.id));
  const adds = (command) => command.op === "add" && !theirIds.has(command.stroke.id);
  const own = document ? document.rebased(pending, theirIds) : pending.filter(adds);
  await sender.settle(image, theirs.version, answer === "both" ? own : []);
  return theirs;
}
