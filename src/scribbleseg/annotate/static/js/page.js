/** The page: its parts, the image that is shown, and what follows when one of them changes. */

import { get } from "./api.js";
import { AuditPanel } from "./audit_panel.js";
import { ClassesPanel } from "./classes_panel.js";
import { settle } from "./conflict.js";
import { Document } from "./document.js";
import { byId } from "./dom.js";
import { Drawing } from "./drawing.js";
import { FilesPanel } from "./files_panel.js";
import { showHints } from "./hints.js";
import { ImageList } from "./image_list.js";
import { KeyboardPen } from "./keyboard_pen.js";
import { listen } from "./keys.js";
import { OverlayLayer, coloured, numbers } from "./layer_overlay.js";
import { PictureLayer } from "./layer_picture.js";
import { StrokesLayer } from "./layer_strokes.js";
import { failed, notice, say } from "./notice.js";
import { PlacesPanel } from "./places_panel.js";
import { Pointer } from "./pointer.js";
import { Poll } from "./poll.js";
import { PredictionPanel } from "./prediction_panel.js";
import { RenderingPanel } from "./rendering_panel.js";
import { showSaveState } from "./save_state.js";
import { Selection } from "./selection.js";
import { Stage } from "./stage.js";
import { t } from "./text.js";
import { Toolbar, actionsOf } from "./toolbar.js";
import { Tools } from "./tools.js";
import { TrainingPanel } from "./training_panel.js";
import { View } from "./view.js";

const LARGEST_BASE_PX = 4096;
const RANK_MS = 5000;
const OPEN_MS = 120000; // the first look at a very large image takes its time

export class Page {
  constructor(project, sender) {
    this.project = project;
    this.sender = sender;
    this.document = null;
    this.spaceHeld = false;
    this.revision = null;
    this.rankedAt = 0;
    byId("project").textContent = project.name;
    document.title = `${project.name} · scribbleseg`;
    this.tools = new Tools();
    this.view = new View();
    this.stage = new Stage(this.view);
    this.classes = new ClassesPanel(project, this.tools);
    const classes = () => this.classes.classes;
    this.picture = new PictureLayer(this.stage);
    this.overlay = new OverlayLayer(this.stage, classes);
    this.strokes = new StrokesLayer(this.stage, classes, byId("layer-live"));
    this.stage.add("layer-picture", this.picture);
    this.stage.add("layer-overlay", this.overlay);
    this.stage.add("layer-strokes", this.strokes);
    this.drawing = new Drawing(this, (stroke) => this.send(this.document.add(stroke)));
    this.list = new ImageList();
    this.prediction = new PredictionPanel(this.overlay);
    this.rendering = new RenderingPanel();
    this.training = new TrainingPanel();
    this.places = new PlacesPanel(this.view);
    this.audit = new AuditPanel(this.view, classes);
    this.files = new FilesPanel(project);
    this.selection = new Selection(this);
    this.toolbar = new Toolbar(this);
    this.#connect();
  }

  #connect() {
    showSaveState(this.sender);
    const picks = (place) => this.selection.pickAt(place);
    new Pointer(this.stage, this.drawing, () => this.spaceHeld || this.tools.tool === "pan" || this.audit.on, picks);
    new KeyboardPen(this.stage, this.drawing, say, picks);
    listen(actionsOf(this));
    this.list.chosen.on((id) => this.show(id));
    this.picture.preparing.on((on) => (byId("preparing").hidden = !on));
    this.rendering.changed.on((query) => this.picture.open(this.document, query));
    this.places.wanted.on((place) => this.goTo(place.image, place.x0, place.y0, place.x1, place.y1));
    this.audit.wanted.on(({ image, x, y, radius }) => {
      const reach = Math.max(4 * (radius ?? 0), 48);
      this.goTo(image, x - reach, y - reach, x + reach, y + reach);
    });
    this.audit.running.on((on) => this.bare(on));
    this.classes.ready = () => this.sender.quiet();
    this.classes.changed.on(() => this.#classesChanged());
    this.files.imported.on(() => this.#reread());
    this.sender.acknowledged.on((image, answer, more) => this.#acknowledged(image, answer, more));
    this.sender.conflicted.on((image, state) => this.#conflicted(image, state));
    this.sender.refused.on((image, error) => this.#refused(image, error));
  }

  /** Begin to ask the server how things are. */
  begin() {
    this.poll = new Poll(() => this.document?.id ?? null);
    this.poll.told.on((image, told) => this.#status(image, told));
  }

  /** Show an image; strokes that are still on their way to the server are on it. */
  async show(id) {
    if (this.document?.id === id) return;
    this.wanted = id;
    this.drawing.drop();
    this.list.select(id);
    let state;
    try {
      state = await get(`/api/images/${id}`, { timeout_ms: OPEN_MS });
    } catch (error) {
      this.list.select(this.document?.id ?? null);
      failed(error);
      return;
    }
    if (this.wanted !== id) return;
    this.#open(new Document(state), state);
    this.view.open(state.width, state.height);
    this.rendering.open(state);
    this.picture.open(this.document).catch(failed);
    this.prediction.open(this.document);
    this.places.open(id);
    this.poll?.now();
    history.replaceState(null, "", `${location.pathname}#image=${id}`); // and the token out of sight
  }

  #open(document, state) {
    this.document = document;
    this.#replay(document);
    this.strokes.open(document);
    document.changed.on(() => this.#drawn());
    this.list.done.checked = document.done;
    byId("where").textContent = t("stage.where", { stem: document.stem, width: document.width, height: document.height });
    this.#drawn();
    this.#readBase();
    notice(state.problem ?? "", state.problem ? "error" : "note");
  }

  /** Put what is still on its way to the server on what the server told. */
  #replay(document) {
    this.sender.builds(document.id, document.version);
    document.replay(this.sender.pending(document.id), (key) => this.classes.idOf(key));
  }

  /** Labels that came with the image lie under the strokes: the server's raster, strokes and all. */
  async #readBase() {
    const { document } = this;
    if (!document.has_base) return;
    const large = Math.max(document.width, document.height) > LARGEST_BASE_PX;
    const width = large ? Math.round(document.width * Math.min(1, LARGEST_BASE_PX / Math.max(document.width, document.height))) : undefined;
    const labels = await numbers(`/api/images/${document.id}/labels`, width).catch(() => null);
    if (document !== this.document || !labels) return;
    this.strokes.base = coloured(labels, this.classes.classes.map((each) => each.colour));
    this.stage.redraw(this.strokes);
  }

  #drawn() {
    const { strokes, id } = this.document;
    this.classes.count(strokes);
    this.list.update(id, { strokes: strokes.length });
    this.toolbar.update();
    this.selection.update();
    this.#hints();
    this.stage.redraw(this.strokes);
  }

  #hints() {
    showHints(this.document.strokes, this.classes.classes, this.classes.elsewhere);
  }

  /** Send a command of the image shown; nothing happens for null. */
  send(command) {
    if (command) this.sender.push(this.document.id, command);
  }

  async goTo(image, x0, y0, x1, y1) {
    await this.show(image);
    if (this.document?.id === image) this.view.show(x0, y0, x1, y1);
  }

  /** Hide everything that lies over the picture, or show it again. */
  bare(on) {
    this.strokes.hidden = on;
    this.stage.redraw(this.strokes);
    this.selection.update();
    this.prediction.hold(on);
  }

  #acknowledged(image, answer, more) {
    if (this.document?.id !== image) return;
    if (more) this.document.unsure = true;
    if (this.sender.pending(image).length > 0) return;
    this.document.version = answer.version;
    if (this.document.past.length === 0) this.document.server.undo = answer.can_undo;
    if (this.document.future.length === 0) this.document.server.redo = answer.can_redo;
    this.toolbar.update();
    const differs = answer.strokes !== undefined && answer.strokes !== this.document.strokes.length;
    if (this.document.unsure || differs) this.#refresh();
    else this.#readBase();
  }

  /** Read the image's strokes again, unless something is under way. */
  async #refresh(again = true) {
    const { document } = this;
    if (!document) return;
    const state = await get(`/api/images/${document.id}`).catch(() => null);
    if (!state || document !== this.document || this.sender.pending(document.id).length > 0) return;
    if (again && state.version < document.version) return this.#refresh(false); // told before the last stroke had come
    document.load(state);
    this.sender.builds(document.id, document.version);
    this.#readBase();
  }

  async #conflicted(image, told) {
    const shown = this.document?.id === image ? this.document : null;
    const theirs = await settle(image, told, this.sender, shown).catch(failed);
    if (!theirs) return;
    if (this.document?.id === image) {
      const state = await get(`/api/images/${image}`).catch(() => null);
      if (state) this.document.load(state);
      this.#replay(this.document);
    }
  }

  async #refused(image, error) {
    failed(error);
    await this.sender.quiet();
    if (this.document?.id === image) await this.#refresh();
  }

  async #classesChanged() {
    this.overlay.refresh();
    if (this.document) this.document.unsure = true; // read again at the latest when what is under way is saved
    await this.#refresh();
    this.strokes.drawn = null;
    this.stage.redraw(this.strokes);
  }

  async #reread() {
    await this.list.load();
    await this.#refresh();
  }

  #status(image, told) {
    if (this.sender.offline) this.sender.retry();
    this.training.update(told);
    if (told.storage) notice(told.storage, "error");
    if (!this.document || image !== this.document.id) return;
    if (told.image) {
      const newer = told.image.version > this.document.version;
      if (newer && this.sender.pending(image).length === 0 && !this.drawing.live) this.#refresh();
      this.prediction.offer(told.image.prediction_number ?? null);
    }
    const revision = JSON.stringify([told.revision, told.image?.prediction_number, told.shown?.number, told.instant?.state]);
    if (revision !== this.revision) this.revised = true;
    this.revision = revision;
    if (this.revised && Date.now() - this.rankedAt > RANK_MS) this.#rank();
  }

  /** Places and doubts may be others by now; asked for now and then only. */
  async #rank() {
    this.revised = false;
    const project = await get("/api/project").catch(() => null);
    if (project && project.class_version !== this.classes.version) {
      this.classes.take(project);
      await this.#classesChanged();
    }
    if (project) this.classes.elsewhere = project.classes.map((each) => each.strokes);
    if (this.document) this.#hints();
    this.rankedAt = Date.now();
    await this.places.load();
    const columns = await get("/api/images").catch(() => null);
    if (columns) this.list.doubts(columns);
  }

  /** Take all strokes of the image away; it can be undone. */
  clear() {
    if (this.document.strokes.length === 0) return;
    this.send(this.document.clear());
    notice(t("tools.cleared"));
  }
}
