/** How good is it: random places are shown one by one without the prediction, the user says what they are, the server reckons. */

import { get, post } from "./api.js";
import { open } from "./dialog.js";
import { Signal, byId, el } from "./dom.js";
import { failed, notice, say } from "./notice.js";
import { reliability } from "./reliability.js";
import { t } from "./text.js";

const NUMBERS = [30, 50, 100, 200];

export class AuditPanel {
  constructor(view, classes) {
    this.view = view;
    this.classes = classes; // () => [{id, name}]
    this.wanted = new Signal(); // an item to go to
    this.running = new Signal(); // true and false: nothing may be drawn over the picture meanwhile
    this.items = [];
    this.at = -1;
    this.mark = el("div", { class: "target", hidden: true });
    byId("marks").append(this.mark);
    this.#build(byId("audit"));
    view.changed.on(() => this.#move());
  }

  #build(node) {
    this.number = el("select", { id: "audit-number" }, ...NUMBERS.map((n) => el("option", { value: n, text: n })));
    this.unit = el("select", { id: "audit-unit" }, ...["pixel", "patch"].map((unit) => el("option", { value: unit, text: t(`audit.${unit}`) })));
    this.start = el("button", { type: "button", id: "audit-start", class: "wide", text: t("audit.start"), on: { click: () => this.#begin() } });
    this.question = el("p", { class: "question", role: "status" });
    this.answers = el("div", { class: "answers" });
    this.stop = el("button", { type: "button", class: "wide", text: t("audit.stop"), on: { click: () => this.#end() } });
    this.asking = el("div", { hidden: true }, this.question, this.answers, this.stop);
    this.rest = el("div", {}, el("div", { class: "row" }, this.number, this.unit), this.start);
    this.number.setAttribute("aria-label", t("audit.number"));
    this.unit.setAttribute("aria-label", t("audit.unit"));
    node.append(el("h2", { text: t("audit.title") }), el("p", { class: "quiet", text: t("audit.what") }), this.rest, this.asking);
  }

  get on() {
    return this.at >= 0;
  }

  async #begin() {
    try {
      const told = await post("/api/audit", { number: Number(this.number.value), unit: this.unit.value });
      this.items = told.items ?? [];
    } catch (error) {
      failed(error);
      return;
    }
    if (this.items.length === 0) return;
    this.answers.replaceChildren(
      ...this.classes().map(({ id, name }) => el("button", { type: "button", on: { click: () => this.answer(id) } }, el("kbd", { text: id + 1 }), el("span", { text: name }))),
      el("button", { type: "button", on: { click: () => this.answer(null) } }, el("kbd", { text: "0" }), el("span", { text: t("audit.unsure") })),
    );
    this.rest.hidden = true;
    this.asking.hidden = false;
    this.running.tell(true);
    this.#show(0);
  }

  #show(at) {
    this.at = at;
    const item = this.items[at];
    this.question.textContent = t("audit.question", { n: at + 1, all: this.items.length });
    say("audit.question", { n: at + 1, all: this.items.length });
    this.wanted.tell(item);
    this.mark.hidden = false;
    this.#move();
  }

  /** Answer with a class, or null for "cannot tell". */
  async answer(classId) {
    if (!this.on || this.busy || (classId !== null && classId >= this.classes().length)) return;
    this.busy = true;
    try {
      await post("/api/audit/answers", { item: this.items[this.at].item, class: classId });
      if (this.at + 1 < this.items.length) this.#show(this.at + 1);
      else await this.#end();
    } catch (error) {
      failed(error);
    }
    this.busy = false;
  }

  async #end() {
    const answered = this.at;
    this.at = -1;
    this.mark.hidden = this.asking.hidden = true;
    this.rest.hidden = false;
    this.running.tell(false);
    if (answered < 1) return;
    try {
      await result(await get("/api/audit"));
    } catch (error) {
      failed(error);
    }
  }

  #move() {
    if (!this.on) return;
    const { x, y, radius } = this.items[this.at];
    const [left, top] = this.view.toStage(x, y);
    const across = Math.max(2 * (radius ?? 0) * this.view.scale, 28);
    this.mark.style.width = this.mark.style.height = `${across}px`;
    this.mark.style.transform = `translate(${left - across / 2}px, ${top - across / 2}px)`;
  }
}

const percent = (value) => (value === null || value === undefined ? "–" : `${(100 * value).toFixed(1)} %`);
const interval = (pair) => (pair ? `${percent(pair[0])} – ${percent(pair[1])}` : "–");

function result(told) {
  if (!told?.answered) return notice(t("audit.nothing"));
  const head = ["class", "precision", "interval", "iou", "interval"].map((key) => el("th", { scope: "col", text: t(`audit.${key}`) }));
  const rows = (told.classes ?? []).map((each) => {
    const cells = [percent(each.precision), interval(each.interval), percent(each.iou), interval(each.iou_interval)];
    return el("tr", {}, el("th", { scope: "row", text: each.name }), ...cells.map((text) => el("td", { text })));
  });
  const body = el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": t("audit.result") },
    el("p", { class: "big", text: t("audit.accuracy", { accuracy: percent(told.accuracy), interval: interval(told.interval), n: told.answered }) }),
    el("div", { class: "across", tabindex: "0", role: "group", "aria-label": t("audit.title") }, el("table", {}, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...rows))),
    el("p", { class: "quiet", text: t("audit.caveat") }),
    reliability(told.reliability),
  );
  return open(t("audit.result"), [body], [[t("close"), "", "primary"]], { wide: true, focused: true, id: "audit-result" });
}
