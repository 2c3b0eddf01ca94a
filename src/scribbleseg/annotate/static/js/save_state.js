/** The words at the top: saved, saving, or how many commands wait in the browser. */

import { byId } from "./dom.js";
import { t } from "./text.js";

const SAVING_SHOWN_MS = 250; // shorter than that is not worth a flicker

export function showSaveState(sender) {
  const node = byId("save");
  let timer = 0;
  const show = () => {
    const { state, count } = sender;
    node.dataset.state = state;
    const words = t(`save.${state}`, { n: count });
    if (node.textContent !== words) node.textContent = words;
    node.dataset.count = count;
    node.title = state === "offline" ? t(sender.store.works ? "save.kept" : "save.unkept") : "";
  };
  sender.changed.on(() => {
    clearTimeout(timer);
    if (sender.state === "saving" && node.dataset.state === "saved") {
      node.dataset.state = "saving"; // for those who wait for it; the words follow
      timer = setTimeout(show, SAVING_SHOWN_MS);
    } else show();
  });
  window.addEventListener("beforeunload", (event) => {
    if (sender.count > 0 && !sender.store.works) event.preventDefault();
  });
  show();
}
