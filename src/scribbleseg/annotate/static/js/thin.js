/** Fewer points on the same line: a pen gives 240 points a second, most of them on a straight piece. */

const THINNEST_PX = Math.SQRT2; // the rasteriser's: no line has gaps
const FINEST = 256; // places are kept to 1/256 px, where the rasteriser is exact

/** Return how far, in image pixels, a thinned line may lie from the drawn one: an eighth of a pixel, and half one of the screen. */
export function tolerance(scale) {
  return Math.min(0.125, 0.5 / scale);
}

/** Return the width that a stroke is drawn with. */
export function thinnest(width_px) {
  return Math.max(width_px, THINNEST_PX);
}

export function round([x, y]) {
  return [Math.round(x * FINEST) / FINEST, Math.round(y * FINEST) / FINEST];
}

/** Leave out points (Douglas and Peucker) as long as none of them is farther than `most` from the line that stays. */
export function thin(points, most) {
  const kept = new Uint8Array(points.length);
  kept[0] = kept[points.length - 1] = 1;
  const spans = [[0, points.length - 1]];
  while (spans.length > 0) {
    const [from, to] = spans.pop();
    let farthest = -1;
    let at = -1;
    for (let k = from + 1; k < to; k += 1) {
      const off = distance(points[k], points[from], points[to]);
      if (off > farthest) [farthest, at] = [off, k];
    }
    if (farthest > most) {
      kept[at] = 1;
      spans.push([from, at], [at, to]);
    }
  }
  return points.filter((_, k) => kept[k]);
}

/** Return how far a place is from the piece of a line between two others. */
export function distance([x, y], [ax, ay], [bx, by]) {
  const [dx, dy] = [bx - ax, by - ay];
  const length2 = dx * dx + dy * dy;
  const along = length2 === 0 ? 0 : Math.min(1, Math.max(0, ((x - ax) * dx + (y - ay) * dy) / length2));
  return Math.hypot(x - ax - along * dx, y - ay - along * dy);
}
