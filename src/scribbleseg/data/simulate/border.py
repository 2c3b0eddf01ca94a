"""A curve inside the region, and a stroke along its border."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from scribbleseg.data.simulate.region import Region, centre_of, resampled, scikit_image
from scribbleseg.data.simulate.straight import to_border

#: Distance of the border stroke's edge from the border (px), and its share of the outline.
GAP_PX, SHARE = (1.0, 4.0), (0.07, 0.15)


def border(region: Region, rng: np.random.Generator, width_px: float) -> list[np.ndarray]:
    """Draw a curve through four places, each in sight of the one before, and a part of the outline, 1 to 4 px inside.

    Reference: ScribbleBench (MICCAI 2025), ``scribble_generation.py``. There one component of a class is drawn in, with a
    probability that grows with its area, and where the outline bends most is likeliest; here every region is drawn in, and
    so likely is every place of the outline that bends more than most.
    """
    return [interior(region, rng), *along_border(region, rng, width_px, SHARE)]


def interior(region: Region, rng: np.random.Generator) -> np.ndarray:
    """Return a quadratic B-spline of four control points, each on a free way from the one before."""
    knots = [centre_of(np.array([region.place(rng)]))[0]]
    while len(knots) < 4:
        direction = rng.normal(size=2)
        direction /= np.sqrt((direction**2).sum())
        knots.append(knots[-1] + direction * to_border(region, knots[-1], direction) * rng.uniform(0.3, 0.8))
    return resampled(corners_cut(np.array(knots)), 2.0)


def corners_cut(line: np.ndarray, times: int = 5) -> np.ndarray:
    """Return Chaikin's curve, which tends to the quadratic B-spline of the points; its ends are theirs."""
    for _ in range(times):
        a, b = line[:-1], line[1:]
        cut = np.stack([0.75 * a + 0.25 * b, 0.25 * a + 0.75 * b], axis=1).reshape(-1, 2)
        line = np.concatenate([line[:1], cut[1:-1], line[-1:]])
    return line


def along_border(
    region: Region, rng: np.random.Generator, width_px: float, share: tuple[float, float], gap_px: tuple[float, float] = GAP_PX
) -> list[np.ndarray]:
    """Return one part of the outline, drawn ``gap_px`` inside; none where the region is too thin, or borders on nothing."""
    for gap in (rng.uniform(*gap_px), gap_px[0], 0.5):
        level = gap + width_px / 2
        outlines = scikit_image("measure").find_contours(region.depth_within, level + 0.5)
        outlines = [o for o in outlines if len(o) > 6]
        if outlines:
            break
    else:
        return []
    sizes = np.array([len(o) for o in outlines], float)
    outline = resampled(outlines[int(rng.choice(len(outlines), p=sizes / sizes.sum()))][:, ::-1] + 0.5, 1.0)
    closed = bool(np.hypot(*(outline[0] - outline[-1])) < 2)
    bend = np.linalg.norm(np.roll(outline, -5, 0) - 2 * outline + np.roll(outline, 5, 0), axis=1)
    bend = ndimage.gaussian_filter1d(bend, 4, mode="wrap") + 1e-3
    middle = int(rng.choice(len(outline), p=bend / bend.sum()))
    half = max(2, int(len(outline) * rng.uniform(*share) / 2))
    part = np.take(outline, np.arange(middle - half, middle + half + 1), axis=0, mode="wrap" if closed else "clip")
    return [resampled(ndimage.gaussian_filter1d(part, 1.5, axis=0, mode="nearest"), 2.0)]
