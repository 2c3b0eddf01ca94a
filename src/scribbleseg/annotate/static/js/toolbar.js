/** The buttons over the stage, and what the keys do: the same things. */

import { byId } from "./dom.js";
import { help } from "./help.js";
import { t } from "./text.js";

const ZOOM = 1.25;

export class Toolbar {
  constructor(page) {
    this.page = page;
    const actions = actionsOf(page);
    const press = { brush: "brush", eraser: "eraser", pan: "pan", select: "select", undo: "undo", redo: "redo", "zoom-in": "zoomIn", "zoom-out": "zoomOut", fit: "fit", help: "help" };
    for (const [id, action] of Object.entries(press)) byId(id).addEventListener("click", () => actions[action]());
    byId("clear").addEventListener("click", () => page.clear());
    this.size = byId("size");
    this.size.addEventListener("input", () => page.tools.setSlider(Number(this.size.value)));
    page.tools.changed.on(() => this.#tools());
    page.view.changed.on(() => (byId("zoom").textContent = `${percent(page.view.scale)} %`));
    drawer("show-images", "images");
    drawer("show-panels", "panels");
    this.#tools();
  }

  #tools() {
    const { tool, width_px: width } = this.page.tools;
    for (const id of ["brush", "eraser", "select", "pan"]) byId(id).setAttribute("aria-pressed", String(id === tool));
    this.size.value = this.page.tools.slider;
    this.size.setAttribute("aria-valuetext", t("tools.px", { n: width }));
    byId("size-shown").textContent = t("tools.px", { n: width });
    byId("stage").dataset.tool = tool;
  }

  /** Say which buttons can be used. */
  update() {
    const { document } = this.page;
    byId("undo").disabled = !document?.canUndo;
    byId("redo").disabled = !document?.canRedo;
    byId("clear").disabled = !document || document.strokes.length === 0;
  }
}

function percent(scale) {
  const value = 100 * scale;
  return value < 10 ? value.toFixed(1) : Math.round(value);
}

/** On a narrow screen the images and the panels lie over the stage, one at a time. */
function drawer(button, id) {
  const [toggle, node] = [byId(button), byId(id)];
  const set = (open) => {
    toggle.setAttribute("aria-expanded", String(open));
    node.classList.toggle("open", open);
  };
  toggle.addEventListener("click", () => {
    const open = !node.classList.contains("open");
    for (const other of document.querySelectorAll(".narrow[aria-expanded=true]")) if (other !== toggle) other.click();
    set(open);
    if (open) node.querySelector("button, input, select")?.focus();
  });
  byId("stage").addEventListener("pointerdown", () => set(false));
  node.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !node.classList.contains("open")) return;
    set(false);
    toggle.focus();
  });
}

/** What the keys' table calls. */
export function actionsOf(page) {
  const { tools, view, prediction, list } = page;
  return {
    class: (id) => {
      if (page.audit.on) page.audit.answer(id);
      else if (id < page.classes.classes.length && page.selection.reclass(id)) return;
      else if (id < page.classes.classes.length) tools.pickClass(id);
    },
    brush: () => tools.pick("brush"),
    eraser: () => (page.audit.on ? page.audit.answer(null) : tools.pick("eraser")),
    pan: () => tools.pick("pan"),
    select: () => tools.pick("select"),
    remove: () => page.selection.remove(),
    release: () => page.selection.choose(null),
    holdPan: (held) => {
      page.spaceHeld = held;
      page.stage.node.classList.toggle("pans", held);
    },
    narrower: () => tools.step(-1),
    wider: () => tools.step(1),
    undo: () => !page.drawing.live && page.document && page.send(page.document.undo()),
    redo: () => !page.drawing.live && page.document && page.send(page.document.redo()),
    zoomIn: () => view.zoom(ZOOM),
    zoomOut: () => view.zoom(1 / ZOOM),
    fit: () => view.fit(),
    previous: () => list.step(-1),
    next: () => list.step(1),
    done: () => list.done.click(),
    place: () => page.places.next(),
    prediction: () => prediction.toggle(),
    outline: () => prediction.setMode("outline"),
    doubt: () => prediction.setMode("doubt"),
    fainter: () => prediction.stronger(-10),
    stronger: () => prediction.stronger(10),
    bare: (held) => page.bare(held),
    help: () => help(),
  };
}
