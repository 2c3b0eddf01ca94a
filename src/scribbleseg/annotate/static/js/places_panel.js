/** Where next: numbered frames in which a stroke would teach the model most; a key jumps from one to the next. */

import { get } from "./api.js";
import { Signal, byId, el } from "./dom.js";
import { notice } from "./notice.js";
import { sentence, t } from "./text.js";

export class PlacesPanel {
  constructor(view) {
    this.view = view;
    this.wanted = new Signal(); // a place to go to
    this.places = [];
    this.at = -1;
    this.image = null;
    this.frames = byId("marks");
    this.why = el("p", { class: "quiet", id: "places-why", text: t("places.why") });
    this.list = el("ol", { class: "places" });
    this.button = el("button", { type: "button", id: "next-place", class: "wide", on: { click: () => this.next() } }, el("span", { text: t("places.next") }), el("kbd", { text: "N" }));
    byId("places").append(el("h2", { text: t("places.title") }), this.why, this.list, this.button);
    view.changed.on(() => this.#move());
  }

  /** Ask the server again; show the frames that lie in the image shown. */
  async load() {
    const told = await get("/api/next?limit=9").catch(() => null);
    this.places = told?.enabled === false ? [] : (told?.places ?? []);
    this.why.textContent = told?.why ? sentence(told.why) : t("places.why");
    this.#draw();
  }

  open(image) {
    this.image = image;
    this.#draw();
  }

  /** Go to the next place, of any image. */
  async next() {
    if (this.at + 1 >= this.places.length) {
      await this.load();
      this.at = -1;
    }
    if (this.places.length === 0) {
      notice(this.why.textContent);
      return;
    }
    this.at += 1;
    this.wanted.tell(this.places[this.at]);
    this.#draw();
  }

  #draw() {
    this.list.replaceChildren(
      ...this.places.map((place, n) => {
        const words = t("places.one", { n: n + 1, percent: Math.round(100 * place.doubt) });
        const here = place.image === this.image ? "" : ` ${t("places.elsewhere")}`;
        const go = () => {
          this.at = n;
          this.wanted.tell(place);
          this.#draw();
        };
        return el("li", {}, el("button", { type: "button", class: "link", text: words + here, "aria-current": n === this.at ? "true" : null, on: { click: go } }));
      }),
    );
    this.boxes = this.places
      .map((place, n) => ({ place, n }))
      .filter(({ place }) => place.image === this.image)
      .map(({ place, n }) => ({ place, node: el("div", { class: n === this.at ? "frame current" : "frame" }, el("span", { text: n + 1 })) }));
    this.frames.querySelectorAll(".frame").forEach((node) => node.remove());
    this.frames.append(...this.boxes.map(({ node }) => node));
    this.#move();
  }

  #move() {
    for (const { place, node } of this.boxes ?? []) {
      const [x, y] = this.view.toStage(place.x0, place.y0);
      node.style.transform = `translate(${x}px, ${y}px)`;
      node.style.width = `${(place.x1 - place.x0) * this.view.scale}px`;
      node.style.height = `${(place.y1 - place.y0) * this.view.scale}px`;
    }
  }
}
