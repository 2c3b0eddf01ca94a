/** The classes: a row each to choose by click or number, with strokes of this image, and what can be done to them. */

import { Refused, get, post } from "./api.js";
import { editClass } from "./class_dialog.js";
import { Signal, byId, el, icon } from "./dom.js";
import { failed, notice } from "./notice.js";
import { swatch } from "./patterns.js";
import { t } from "./text.js";

export class ClassesPanel {
  constructor(project, tools) {
    this.tools = tools;
    this.changed = new Signal(); // names, colours or order: strokes may be renumbered
    this.counts = [];
    this.ready = async () => {}; // strokes on their way know the old classes
    this.node = byId("classes");
    this.list = el("ul", { class: "classes" });
    this.add = el("button", { type: "button", class: "wide", text: t("classes.add"), on: { click: () => this.#add() } });
    this.node.append(el("h2", { text: t("classes.title") }), this.list, this.add);
    this.take(project);
    tools.changed.on(() => this.#mark());
  }

  /** What names a class for good; its id changes with the order. */
  keyOf(id) {
    return this.classes[id]?.key;
  }

  /** The id of the class of a key, or of the one it was merged into; undefined if it is gone. */
  idOf(key) {
    return this.ids[key];
  }

  get names() {
    return this.classes.map((each) => each.name);
  }

  /** Take over the server's classes. */
  take({ classes, class_version, class_ids, palette }) {
    this.classes = classes;
    this.ids = class_ids;
    this.version = class_version;
    this.elsewhere = classes.map((each) => each.strokes ?? 0); // in all images, as of the last answer
    this.palette = palette ?? this.palette ?? [];
    if (this.tools.classId >= classes.length) this.tools.pickClass(classes.length - 1);
    this.#build();
  }

  /** Show how many strokes of the image each class has. */
  count(strokes) {
    this.counts = this.classes.map((each) => strokes.filter((s) => s.tool !== "eraser" && s.class === each.id).length);
    this.counts.forEach((count, id) => {
      const node = this.list.children[id]?.querySelector(".count");
      if (node && node.textContent !== String(count)) {
        node.textContent = count;
        node.title = t("classes.count", { n: count });
      }
    });
  }

  #build() {
    const had = this.list.contains(document.activeElement);
    this.list.replaceChildren(...this.classes.map((each) => this.#row(each)));
    byId("chips").replaceChildren(...this.classes.map((each) => this.#chip(each)));
    this.#mark();
    if (had) this.list.querySelector("[aria-pressed=true]")?.focus();
  }

  #row({ id, name, colour }) {
    const pick = el("button", { type: "button", class: "pick", on: { click: () => this.tools.pickClass(id) } });
    const count = this.counts[id] ?? 0;
    pick.append(swatch(id, colour), el("span", { class: "name", text: name }), el("span", { class: "count", text: count, title: t("classes.count", { n: count }) }));
    const words = t("classes.edit", { name });
    const more = el("button", { type: "button", class: "icon small", "aria-label": words, title: words, on: { click: () => this.#edit(id) } }, icon("more"));
    return el("li", {}, pick, more);
  }

  #chip({ id, name, colour }) {
    const chip = el("button", { type: "button", class: "chip", on: { click: () => this.tools.pickClass(id) } });
    chip.append(swatch(id, colour), el("span", { class: "name", text: name }));
    return chip;
  }

  #mark() {
    const erases = this.tools.tool === "eraser";
    for (const list of [this.list.querySelectorAll(".pick"), byId("chips").children]) {
      [...list].forEach((node, id) => node.setAttribute("aria-pressed", String(id === this.tools.classId && !erases)));
    }
  }

  /** Send a change of the classes; return whether it was taken. */
  async send(body) {
    await this.ready();
    try {
      const told = await post("/api/classes", body, { version: this.version });
      this.take(told);
      this.changed.tell();
      return true;
    } catch (error) {
      if (error instanceof Refused && error.status === 412) {
        this.take(await get("/api/project"));
        this.changed.tell();
        notice(t("classes.elsewhere"), "error");
      } else failed(error);
      return false;
    }
  }

  async #add() {
    const used = new Set(this.classes.map((each) => each.colour));
    const colour = this.palette.find((each) => !used.has(each)) ?? "#7755cc";
    const told = await editClass({ id: this.classes.length, name: "", colour }, this, true);
    if (told && (await this.send({ op: "add", name: told.name, colour: told.colour }))) this.tools.pickClass(this.classes.length - 1);
  }

  async #edit(id) {
    const { name, colour } = this.classes[id];
    const told = await editClass({ id, name, colour }, this, false);
    if (!told) return;
    if (told.op) await this.send(told);
    else {
      if (told.name !== name && !(await this.send({ op: "rename", class: id, name: told.name }))) return;
      if (told.colour !== colour) await this.send({ op: "recolour", class: id, colour: told.colour });
    }
  }
}
