"""Lines that keep to their region, so that no stroke has a wrong label."""

from __future__ import annotations

import numpy as np

from scribbleseg.data.simulate.region import RIM, Region, centre_of, length_px
from scribbleseg.data.vector import rasterise, touching
from scribbleseg.records import Stroke

#: Points are rounded to multiples of this, px: short numbers in the file, and exact arithmetic in drawing.
GRID_PX = 1 / 16

#: A thinner brush is tried where less than this share of a line is left.
ENOUGH = 0.5


def fitted(line: np.ndarray, region: Region, width_px: float) -> tuple[np.ndarray, float]:
    """Return the longest part of a line none of whose pixels lies outside the region, and the width of its brush.

    Where less than half of the line would be left, or nothing of a dot, a brush half as wide is tried, then one of a single
    pixel. The last resort is a dot of one pixel where the region is deepest.
    """
    line = np.round(line / GRID_PX) * GRID_PX
    best, best_width = line[:0], width_px
    for width in dict.fromkeys((width_px, max(width_px / 2, 1.0), 1.0)):
        part = longest_inside(line, region.inside, width)
        if len(part) and (not len(best) or length_px(part) > 1.25 * length_px(best)):
            best, best_width = part, width
        if len(best) and length_px(best) >= ENOUGH * length_px(line):
            break
    if not len(best):
        deepest = np.array(np.unravel_index(int(region.depth.argmax()), region.inside.shape))
        return centre_of(deepest), 1.0
    return best, best_width


def longest_inside(line: np.ndarray, inside: np.ndarray, width_px: float) -> np.ndarray:
    """Return the longest chain of a line's segments all of whose pixels are inside; no points where there is none."""
    height, width = inside.shape
    far = np.array([width, height]) - RIM / 2
    here: np.ndarray = np.all((line >= RIM / 2) & (line <= far), axis=1)
    good = here if len(line) == 1 else here[:-1] & here[1:]
    if good.any():
        labels = rasterise([Stroke(0, width_px, line)], inside.shape)
        wrong = np.argwhere((labels == 0) & ~inside)
        if len(wrong):
            good &= ~touching(line, width_px, centre_of(wrong))
    if not good.any():
        return line[:0]
    if len(line) == 1:
        return line
    edges = np.flatnonzero(np.diff(np.concatenate([[0], good.astype(int), [0]])))
    parts = [line[start : stop + 1] for start, stop in zip(edges[::2], edges[1::2], strict=True)]
    return max(parts, key=length_px)
