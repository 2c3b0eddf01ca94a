"""Which pixels a stroke has, in exact fractions, one pixel and one segment at a time."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from scribbleseg.records import Stroke

Place = tuple[Fraction, Fraction]


def distance2(p: Place, a: Place, b: Place) -> Fraction:
    """Return the squared distance of a point from a segment."""
    along = (b[0] - a[0], b[1] - a[1])
    length2 = along[0] ** 2 + along[1] ** 2
    t = Fraction(0)
    if length2:
        t = ((p[0] - a[0]) * along[0] + (p[1] - a[1]) * along[1]) / length2
    t = min(max(t, Fraction(0)), Fraction(1))
    return (p[0] - a[0] - t * along[0]) ** 2 + (p[1] - a[1] - t * along[1]) ** 2


def rasterise(strokes: Sequence[Stroke], size: tuple[int, int], width_px: float | None = None) -> np.ndarray:
    """Return what ``scribbleseg.data.vector.rasterise`` must return."""
    labels = np.full(size, 255, np.uint8)
    half = Fraction(1, 2)
    for stroke in strokes:
        width = stroke.width_px if stroke.tool == "eraser" or width_px is None else width_px
        reach2 = max(Fraction(width) ** 2 / 4, half)
        points = [(Fraction(float(x)), Fraction(float(y))) for x, y in stroke.points]
        segments = list(zip(points, points[1:] or points, strict=False))
        for row in range(size[0]):
            for column in range(size[1]):
                centre = (column + half, row + half)
                if any(distance2(centre, a, b) <= reach2 for a, b in segments):
                    labels[row, column] = 255 if stroke.tool == "eraser" else stroke.label
    return labels
