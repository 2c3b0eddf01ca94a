/** Import and export: strokes in every format, predictions, the model. */

import { call, file } from "./api.js";
import { open } from "./dialog.js";
import { Signal, byId, el } from "./dom.js";
import { failed, notice } from "./notice.js";
import { t } from "./text.js";

const PREDICTIONS = ["png", "tiff", "geojson"];
const LONG_MS = 30 * 60 * 1000;

export class FilesPanel {
  constructor(project) {
    this.formats = project.formats;
    this.imported = new Signal();
    const bring = el("button", { type: "button", id: "import", text: t("files.import"), on: { click: () => this.#import() } });
    const take = el("button", { type: "button", id: "export", text: t("files.export"), on: { click: () => this.#export() } });
    byId("files").append(el("h2", { text: t("files.title") }), el("div", { class: "pair" }, bring, take));
  }

  async #export() {
    const strokes = select("export-strokes", this.formats.write);
    const predictions = select("export-predictions", PREDICTIONS);
    const body = [
      row(t("files.strokes"), strokes, link("strokes", () => `/api/export/strokes?format=${encodeURIComponent(strokes.value)}`)),
      row(t("files.predictions"), predictions, link("predictions", () => `/api/export/predictions?format=${encodeURIComponent(predictions.value)}`)),
      row(t("files.model"), el("span"), link("model", () => "/api/export/model")),
    ];
    await open(t("files.export"), body, [[t("close"), ""]]);
  }

  async #import() {
    const file = el("input", { type: "file", id: "import-file", required: true });
    const format = select("import-format", this.formats.read);
    const unlabelled = el("input", { type: "number", id: "import-unlabelled", min: 0, max: 255, step: 1, placeholder: t("files.asFormat") });
    const body = [
      el("p", { class: "quiet", text: t("files.importHow") }),
      row(t("files.file"), file),
      row(t("files.format"), format),
      row(t("files.unlabelled"), unlabelled),
    ];
    const answer = await open(t("files.import"), body, [[t("cancel"), ""], [t("files.import"), "yes", "primary"]]);
    if (answer !== "yes" || file.files.length === 0) return;
    const form = new FormData();
    form.set("file", file.files[0]);
    form.set("format", format.value);
    if (unlabelled.value !== "") form.set("unlabelled", unlabelled.value);
    notice(t("files.importing"), "busy");
    try {
      this.#told(await call("POST", "/api/import", { body: form, timeout_ms: LONG_MS }));
    } catch (error) {
      failed(error);
    }
  }

  #told({ converted, failed: bad }) {
    const count = Array.isArray(converted) ? converted.length : converted;
    notice(t("files.imported", { n: count, failed: bad.length }));
    if (bad.length > 0) {
      const words = (each) => (typeof each === "string" ? each : [each.where, each.got, each.do].filter(Boolean).join(": "));
      open(t("files.failed"), [el("ul", {}, ...bad.slice(0, 100).map((each) => el("li", { text: words(each) })))], [[t("close"), ""]], { wide: true });
    }
    this.imported.tell();
  }
}

function select(id, values) {
  return el("select", { id }, ...values.map((each) => el("option", { value: each.name ?? each, text: each.title ?? each.name ?? each })));
}

function row(words, ...controls) {
  return el("label", { class: "row" }, el("span", { text: words }), ...controls);
}

function link(kind, address) {
  const download = async (event) => {
    const button = event.currentTarget;
    button.disabled = true;
    notice(t("files.preparing"), "busy");
    try {
      const { name, content } = await file(address());
      const anchor = el("a", { href: URL.createObjectURL(content), download: name || `${kind}.zip` });
      anchor.click();
      setTimeout(() => URL.revokeObjectURL(anchor.href), 60000);
      notice(t("files.ready"));
    } catch (error) {
      button.closest("dialog")?.close("");
      failed(error);
    }
    button.disabled = false;
  };
  return el("button", { type: "button", "aria-label": t("files.downloadOf", { what: t(`files.${kind}`) }), text: t("files.download"), on: { click: download } });
}
