/** The images: only the rows in sight exist, so that ten thousand are as quick as ten. */

import { get } from "./api.js";
import { Signal, byId, el } from "./dom.js";
import { t } from "./text.js";

const ROW_PX = 56;
const FILTERS = ["all", "undrawn", "drawn", "open", "doubtful"];

export class ImageList {
  constructor() {
    this.chosen = new Signal(); // id of the image that the user wants
    this.rows = [];
    this.shown = [];
    this.current = null;
    this.#build(byId("images"));
  }

  #build(node) {
    this.filter = el("select", { id: "filter", "aria-label": t("images.filter") }, ...FILTERS.map((key) => el("option", { value: key, text: t(`images.${key}`) })));
    this.search = el("input", { type: "search", id: "search", placeholder: t("images.search"), "aria-label": t("images.search") });
    this.counted = el("p", { class: "quiet", id: "counted" });
    this.space = el("div", { class: "space", role: "listbox", tabindex: "0", "aria-label": t("images.title"), id: "image-list" });
    this.scroll = el("div", { class: "list" }, this.space);
    this.filter.addEventListener("change", () => this.refilter());
    this.search.addEventListener("input", () => this.refilter());
    this.scroll.addEventListener("scroll", () => this.#render(), { passive: true });
    this.space.addEventListener("keydown", (event) => this.#key(event));
    this.space.addEventListener("click", (event) => {
      const row = event.target.closest("[data-id]");
      if (row) this.chosen.tell(Number(row.dataset.id));
    });
    new ResizeObserver(() => this.#render()).observe(this.scroll);
    node.append(el("h2", { text: t("images.title") }), el("div", { class: "filters" }, this.filter, this.search), this.counted, this.scroll, this.#steps());
  }

  #steps() {
    const previous = el("button", { type: "button", id: "previous", text: t("images.previous"), title: `${t("images.previous")} (A)`, on: { click: () => this.step(-1) } });
    const next = el("button", { type: "button", id: "next", text: t("images.next"), title: `${t("images.next")} (D)`, on: { click: () => this.step(1) } });
    this.done = el("input", { type: "checkbox", id: "done" });
    return el("div", { class: "steps" }, previous, next, el("label", { class: "done" }, this.done, el("span", { text: t("images.done") })));
  }

  /** Read all rows. */
  async load() {
    this.take(await get("/api/images"));
  }

  /** Take over the server's columns. */
  take(columns) {
    this.rows = columns.id.map((id, k) => ({
      id,
      stem: columns.stem[k],
      strokes: columns.strokes[k],
      done: Boolean(columns.done[k]),
      doubt: columns.doubt[k],
    }));
    this.refilter();
  }

  /** Something of one image has changed. */
  update(id, change) {
    const row = this.rows.find((each) => each.id === id);
    if (!row) return;
    Object.assign(row, change);
    this.#render();
    this.#tellCounts();
  }

  /** Take over the doubts of all images. */
  doubts({ id, doubt }) {
    const told = new Map(id.map((each, k) => [each, doubt[k]]));
    for (const row of this.rows) row.doubt = told.get(row.id) ?? null;
    if (this.filter.value === "doubtful") this.refilter();
    else this.#render();
  }

  select(id) {
    this.current = id;
    const at = this.shown.findIndex((row) => row.id === id);
    if (at >= 0) this.#reveal(at);
    this.#render();
  }

  /** Go on to the image that is so many rows further. */
  step(by) {
    const at = this.shown.findIndex((row) => row.id === this.current);
    const next = this.shown[at < 0 ? 0 : at + by];
    if (next) this.chosen.tell(next.id);
  }

  refilter() {
    const words = this.search.value.trim().toLowerCase();
    const wanted = {
      all: () => true,
      undrawn: (row) => row.strokes === 0,
      drawn: (row) => row.strokes > 0,
      open: (row) => !row.done,
      doubtful: (row) => row.doubt !== null && row.doubt !== undefined,
    }[this.filter.value];
    this.shown = this.rows.filter((row) => wanted(row) && row.stem.toLowerCase().includes(words));
    if (this.filter.value === "doubtful") this.shown.sort((a, b) => b.doubt - a.doubt);
    this.space.style.height = `${Math.max(this.shown.length, 1) * ROW_PX}px`;
    this.#tellCounts();
    this.#render();
  }

  #tellCounts() {
    const drawn = this.rows.filter((row) => row.strokes > 0).length;
    const done = this.rows.filter((row) => row.done).length;
    this.counted.textContent = t("images.counted", { shown: this.shown.length.toLocaleString("en"), all: this.rows.length.toLocaleString("en"), drawn, done });
  }

  #reveal(at) {
    const [top, height] = [at * ROW_PX, this.scroll.clientHeight];
    if (top < this.scroll.scrollTop) this.scroll.scrollTop = top;
    else if (top + ROW_PX > this.scroll.scrollTop + height) this.scroll.scrollTop = top + ROW_PX - height;
  }

  #render() {
    const first = Math.max(0, Math.floor(this.scroll.scrollTop / ROW_PX) - 3);
    const last = Math.min(this.shown.length, Math.ceil((this.scroll.scrollTop + this.scroll.clientHeight) / ROW_PX) + 3);
    const old = new Map([...this.space.children].map((node) => [node.dataset.id, node]));
    const nodes = [];
    for (let at = first; at < last; at += 1) {
      const row = this.shown[at];
      const node = old.get(String(row.id)) ?? this.#row(row);
      this.#fill(node, row, at);
      nodes.push(node);
    }
    if (nodes.length === 0) nodes.push(el("p", { class: "quiet none", text: t("images.none"), role: "option", "aria-disabled": "true", "aria-selected": "false" }));
    if (nodes.length !== this.space.children.length || nodes.some((node, k) => this.space.children[k] !== node)) this.space.replaceChildren(...nodes);
    const there = nodes.find((node) => node.dataset.id === String(this.current));
    if (there) this.space.setAttribute("aria-activedescendant", there.id);
    else this.space.removeAttribute("aria-activedescendant");
  }

  #row(row) {
    const thumbnail = el("img", { src: `/api/images/${row.id}/thumbnail`, alt: "", loading: "lazy", decoding: "async", draggable: "false" });
    const cut = row.stem.lastIndexOf("/") + 1; // of a long path the folders are cut short, not the name
    const folder = cut > 0 && el("span", { class: "folder", text: row.stem.slice(0, cut) });
    const name = el("span", { class: "name", title: row.stem }, folder, el("span", { class: "file", text: row.stem.slice(cut) }));
    return el("div", { role: "option", class: "image", id: `image-${row.id}`, data: { id: row.id } }, thumbnail, el("span", { class: "what" }, name, el("span", { class: "facts" })));
  }

  #fill(node, row, at) {
    node.style.transform = `translateY(${at * ROW_PX}px)`;
    node.setAttribute("aria-selected", String(row.id === this.current));
    node.setAttribute("aria-setsize", this.shown.length);
    node.setAttribute("aria-posinset", at + 1);
    const facts = [t("images.strokes", { n: row.strokes })];
    if (row.doubt !== null && row.doubt !== undefined) facts.push(t("images.doubt", { percent: Math.round(100 * row.doubt) }));
    if (row.done) facts.push(t("images.isDone"));
    const words = facts.join(" · ");
    const place = node.querySelector(".facts");
    if (place.textContent !== words) place.textContent = words;
    node.classList.toggle("isdone", row.done);
  }

  #key(event) {
    const page = Math.max(1, Math.floor(this.scroll.clientHeight / ROW_PX) - 1);
    const far = this.shown.length;
    const by = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -far, End: far }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    const at = this.shown.findIndex((row) => row.id === this.current);
    const next = this.shown[Math.min(Math.max(at + by, 0), far - 1)];
    if (next) this.chosen.tell(next.id);
  }
}
