/** The reliability curve of an audit: how sure the model was against how often it was right, drawn and as a table. */

import { el, svg } from "./dom.js";
import { t } from "./text.js";

const [SIDE, LEFT, BELOW, TOP, RIGHT] = [200, 60, 40, 10, 24];
const percent = (value) => `${Math.round(100 * value)} %`;

/** Return a figure, or null where the audit has no such numbers. */
export function reliability(rows) {
  if (!rows || rows.length === 0) return null;
  const figure = el("figure", { class: "reliability" }, el("h3", { text: t("reliability.title") }), el("div", { class: "beside" }, chart(rows), table(rows)));
  figure.append(el("figcaption", { class: "quiet", text: t("reliability.how") }));
  return figure;
}

function chart(rows) {
  const x = (value) => LEFT + value * SIDE;
  const y = (value) => TOP + (1 - value) * SIDE;
  const line = (x0, y0, x1, y1, name) => svg("line", { x1: x(x0), y1: y(y0), x2: x(x1), y2: y(y1), class: name });
  const parts = [];
  for (const value of [0, 0.5, 1]) {
    parts.push(line(value, 0, value, 1, "grid"), line(0, value, 1, value, "grid"));
    parts.push(word(x(value), y(0) + 15, "middle", percent(value)), word(x(0) - 6, y(value) + 4, "end", percent(value)));
  }
  parts.push(line(0, 0, 1, 1, "same"));
  parts.push(word(x(0.5), y(0) + 33, "middle", t("reliability.sure"), "axis"));
  const side = word(0, 0, "middle", t("reliability.right"), "axis");
  side.setAttribute("transform", `translate(13 ${y(0.5)}) rotate(-90)`);
  parts.push(side);
  const most = Math.max(...rows.map((row) => row.n));
  for (const row of rows) {
    const [low, high] = row.interval;
    parts.push(line(row.confidence, low, row.confidence, high, "range"));
    parts.push(svg("circle", { cx: x(row.confidence), cy: y(row.accuracy), r: 3 + 4 * Math.sqrt(row.n / most), class: "dot" }));
  }
  const size = { viewBox: `0 0 ${LEFT + SIDE + RIGHT} ${TOP + SIDE + BELOW}`, class: "chart", role: "img", "aria-label": t("reliability.label") };
  return svg("svg", size, ...parts);
}

function word(x, y, anchor, text, name = "") {
  const node = svg("text", { x, y, "text-anchor": anchor, class: name });
  node.textContent = text;
  return node;
}

function table(rows) {
  const head = ["sure", "right", "interval", "answers"].map((key) => el("th", { scope: "col", text: t(`reliability.${key}`) }));
  const body = rows.map((row) => {
    const cells = [percent(row.accuracy), row.interval.map(percent).join(" – "), row.n];
    return el("tr", {}, el("th", { scope: "row", text: percent(row.confidence) }), ...cells.map((text) => el("td", { text })));
  });
  return el("table", {}, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...body));
}
