/** What the page has to say: in sight for a while, and read out. */

import { byId } from "./dom.js";
import { t } from "./text.js";

let timer = 0;

/** Show a sentence for some seconds; errors stay until the next one. */
export function notice(text, kind = "note") {
  const node = byId("notice");
  node.textContent = text;
  node.dataset.kind = kind;
  node.hidden = text === "";
  clearTimeout(timer);
  if (kind === "note") timer = setTimeout(() => (node.hidden = true), 6000);
}

/** Tell what went wrong in the server's words. */
export function failed(error) {
  notice(error.message || String(error), "error");
}

/** Say something to those who cannot see the stage. */
export function say(key, values) {
  byId("spoken").textContent = t(key, values);
}
