/** The words of the page: one JSON file a language, read once. */

let words = {};
const plural = new Intl.PluralRules("en");

/** Read the words and put those in that index.html asks for. */
export async function loadWords(language = "en") {
  const answer = await fetch(new URL(`../strings/${language}.json`, import.meta.url));
  words = await answer.json();
  for (const node of document.querySelectorAll("[data-text]")) node.textContent = t(node.dataset.text);
  for (const node of document.querySelectorAll("[data-label]")) label(node, t(node.dataset.label), node.dataset.key);
}

/** Return the words of a key with `{name}` replaced; a pair of `one` and `other` is chosen by `n`. */
export function t(key, values = {}) {
  let text = words[key];
  if (text === undefined) return key;
  if (typeof text === "object") text = text[plural.select(values.n)] ?? text.other;
  return text.replace(/\{(\w+)\}/g, (all, name) => (name in values ? String(values[name]) : all));
}

/** Give a control its name, and show it with its key under the mouse. */
export function label(node, name, key) {
  node.setAttribute("aria-label", name);
  if (node.matches("button")) node.title = key ? `${name} (${key})` : name;
}

/** Return words of the server as a sentence. */
export function sentence(text) {
  return text && `${text[0].toUpperCase()}${text.slice(1)}${/[.!?…]$/.test(text) ? "" : "."}`;
}
