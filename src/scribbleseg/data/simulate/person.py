"""Strokes as people draw them: along an object, and around it where the background is meant."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from scribbleseg.data.simulate.border import corners_cut
from scribbleseg.data.simulate.geodesic import path_through
from scribbleseg.data.simulate.region import Region, centre_of, resampled, scikit_image, smoothed

#: Chances of one, two and three strokes along an object, and shares of the way that they keep.
HOW_MANY, KEPT = (0.6, 0.25, 0.15), (0.6, 1.0)

#: Chance that an object is filled in with a zigzag instead.
ZIGZAG = 0.2

#: Chance that what surrounds objects is drawn as one ring, and its share of an outline; else it is pieces of the other share.
RING, RING_SHARE, PIECE_SHARE = 0.5, (0.6, 1.0), (0.08, 0.22)

#: Distance from the objects of what is drawn around them, in √area of the background.
GAP = (0.02, 0.1)


def person(region: Region, rng: np.random.Generator, width_px: float) -> list[np.ndarray]:
    """Draw as the people did whose scribbles are at hand: docs/explanation/simulation.md shows how near this comes.

    An object gets one to three lines along its longer way, now and then a zigzag. A background gets two to four pieces that run
    along the objects' outlines at some distance, or a ring around them: hardly anybody draws in its middle.
    """
    if region.surrounds:
        lines = around(region, rng)
        if lines:
            return lines
    if rng.random() < ZIGZAG:
        return [zigzag(region, rng, width_px)]
    lines = [along(region, rng)]
    for _ in range(int(rng.choice(len(HOW_MANY), p=HOW_MANY))):
        rest = without(region, lines[-1], 0.35 * float(region.depth.max()))
        if rest is None or rest.depth.max() < width_px:
            break
        region = rest
        lines.append(along(region, rng))
    return lines


def along(region: Region, rng: np.random.Generator) -> np.ndarray:
    """Return a part of the way from one end of a region's inside to another: two that are far apart."""
    rows, columns = np.nonzero(region.depth >= 0.15 * region.depth.max())
    at = region.place(rng)
    ends = []
    for _ in range(2):
        far = ((rows - at[0]) ** 2 + (columns - at[1]) ** 2).astype(float) ** 2
        chosen = int(rng.choice(len(rows), p=far / far.sum())) if far.any() else 0
        at = (int(rows[chosen]), int(columns[chosen]))
        ends.append(at)
    line = smoothed(path_through(region, ends[0], ends[1:], rng), 8.0)
    kept = max(2, round(len(line) * rng.uniform(*KEPT)))
    start = int(rng.integers(0, max(1, len(line) - kept + 1)))
    return line[start : start + kept]


def without(region: Region, line: np.ndarray, reach_px: float) -> Region | None:
    """Return the largest piece of a region that is farther than ``reach_px`` from a line; None where there is none."""
    height, width = region.inside.shape
    column, row = np.clip(np.floor(line).astype(int), 0, [[width - 1, height - 1]]).T
    drawn = np.ones(region.inside.shape, bool)
    drawn[row, column] = False
    numbers, number = ndimage.label(region.inside & (ndimage.distance_transform_edt(drawn) > reach_px))
    if not number:
        return None
    return replace(region, inside=numbers == 1 + int(np.argmax(np.bincount(numbers.ravel())[1:])))


def zigzag(region: Region, rng: np.random.Generator, width_px: float) -> np.ndarray:
    """Return a line that goes to and fro across a region's longer side, over a part of it."""
    points = centre_of(np.argwhere(region.depth >= min(width_px / 2 + 2, 0.6 * float(region.depth.max()))))
    middle = points.mean(axis=0)
    _, axes = np.linalg.eigh(np.cov((points - middle).T)) if len(points) > 2 else (None, np.eye(2))
    place = (points - middle) @ axes[:, ::-1]  # along the longer side, and across
    low, high = np.quantile(place[:, 0], [0.1, 0.9])
    bands = np.linspace(low, high, int(rng.integers(5, 10)))
    turns = []
    for n, at in enumerate(bands):
        near = place[np.abs(place[:, 0] - at) <= max(1.0, (high - low) / len(bands) / 2)]
        if len(near):
            turns.append((at, np.quantile(near[:, 1], rng.uniform(0.1, 0.3) if n % 2 else rng.uniform(0.7, 0.9))))
    if len(turns) < 2:
        return centre_of(np.array([region.place(rng)]))
    return resampled(corners_cut(np.array(turns) @ axes[:, ::-1].T + middle), 2.0)


def around(region: Region, rng: np.random.Generator) -> list[np.ndarray]:
    """Return strokes that run along what a region surrounds, on its outside; the image's edge is no outline."""
    if not np.isfinite(region.depth_within).all():
        return []
    away = ndimage.gaussian_filter(region.depth_within, 2.0)
    gap = np.sqrt(region.area) * rng.uniform(*GAP)
    outlines = []
    for level in (gap, gap / 2, gap / 4):
        found = scikit_image("measure").find_contours(away, level)
        outlines = [resampled(outline[:, ::-1] + 0.5, 2.0) for outline in found if len(outline) > 30]
        if outlines:
            break
    if not outlines:
        return []
    sizes = np.array([len(outline) for outline in outlines], float)
    one = rng.random() < RING
    shares = rng.uniform(*RING_SHARE, 1) if one else rng.uniform(*PIECE_SHARE, int(rng.integers(2, 5)))
    turn = rng.random()
    lines = []
    for n, share in enumerate(shares):
        outline = outlines[int(rng.choice(len(outlines), p=sizes / sizes.sum()))]
        closed = bool(np.hypot(*(outline[0] - outline[-1])) < 3)
        start = (turn + (n + rng.uniform(-0.2, 0.2)) / len(shares)) % 1.0 * len(outline)
        places = np.arange(int(start), int(start) + max(3, int(share * len(outline))))
        part = outline[places % len(outline)] if closed else outline[places[places < len(outline)]]
        if len(part) > 2:
            lines.append(smoothed(part, rng.uniform(6, 16)))
    return lines
