/** How a class is drawn: its colour, a pattern of dashes along the middle and its number, so that no colour is needed to tell. */

/** Dashes in widths of the stroke; none for class 0, and from class 8 on again from the start. */
const DASHES = [[], [0.01, 0.9], [0.9, 0.7], [1.6, 0.6, 0.01, 0.6], [2.2, 0.9], [0.01, 0.5, 0.01, 1.3], [0.4, 0.4], [2.2, 0.6, 0.5, 0.6]];

export function dashes(classId) {
  return DASHES[classId % DASHES.length];
}

/** Return black or white, whichever stands out from `#rrggbb`. */
export function inkOn(colour) {
  const [r, g, b] = [1, 3, 5].map((at) => Number.parseInt(colour.slice(at, at + 2), 16) / 255);
  const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b) > 0.179 ? "#000000" : "#ffffff";
}

/** Return [r, g, b] of `#rrggbb`. */
export function parts(colour) {
  return [1, 3, 5].map((at) => Number.parseInt(colour.slice(at, at + 2), 16));
}

/** Draw the pattern of a class along a path; `width` is that of the stroke, or of what the pattern is scaled to, in units of the context. */
export function drawPattern(context, path, classId, colour, width) {
  const pattern = dashes(classId);
  if (pattern.length === 0) return;
  context.strokeStyle = inkOn(colour);
  context.lineWidth = width * 0.26;
  context.setLineDash(pattern.map((part) => part * width));
  context.stroke(path);
  context.setLineDash([]);
}

/** Return a small picture of a class's stroke with its number. */
export function swatch(classId, colour) {
  const canvas = document.createElement("canvas");
  const [width, height, ratio] = [34, 18, 2];
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  canvas.className = "swatch";
  canvas.setAttribute("aria-hidden", "true");
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  context.fillStyle = colour;
  context.beginPath();
  context.roundRect(0, 0, width, height, 4);
  context.fill();
  const path = new Path2D(`M16 ${height / 2}H${width - 5}`);
  context.lineCap = "round";
  drawPattern(context, path, classId, colour, 7);
  badge(context, 8.5, height / 2, classId, colour);
  return canvas;
}

/** Write the number that a class has on the keyboard (its id plus one). */
export function badge(context, x, y, classId, colour) {
  context.font = "600 11px system-ui, sans-serif";
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillStyle = inkOn(colour);
  context.fillText(String(classId + 1), x, y + 0.5);
}
