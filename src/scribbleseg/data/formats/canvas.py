"""Regions and lines of one image, laid over each other in the order in which they come."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scribbleseg.data.formats.labels import fill
from scribbleseg.data.vector import MAX_POINTS, rasterise
from scribbleseg.errors import DataError
from scribbleseg.records import UNLABELLED, Stroke

#: Regions may cover this many pixels in all: a thousand times a picture of twenty megapixels.
MAX_AREA = 20_000_000_000


class Canvas:
    """Collects what was drawn on one image. Later regions lie over earlier ones.

    Args:
        where: the file and the image, for messages.
        size: (height, width), already checked.
        names: class names by id.
        width_px: of lines.
    """

    def __init__(self, where: object, size: tuple[int, int], names: Sequence[str], width_px: float) -> None:
        self.where, self.size = where, size
        self._ids = {name: k for k, name in enumerate(names)}
        self._width = width_px
        self._labels = np.full(size, UNLABELLED, np.uint8)
        self._lines: list[Stroke] = []
        self._drawn: list[Stroke] = []
        self._regions = self._area = 0

    def class_id(self, name: object) -> int:
        """Return the id of a class.

        Raises:
            DataError: it has none.
        """
        if not isinstance(name, str) or name not in self._ids:
            got = repr(name)[:100]
            do = "name every class: --names a,b,c"
            raise DataError(self.where, f"a class of {', '.join(self._ids)[:200]}", got, do)
        return self._ids[name]

    def line(self, name: object, points: np.ndarray) -> None:
        """Draw an open line, or a dot, of float64 points (N, 2) in pixels from the picture's top left corner."""
        self._lines.append(Stroke(self.class_id(name), self._width, points))

    def region(self, name: object, inside: np.ndarray, corner: tuple[int, int] = (0, 0)) -> None:
        """Fill the True pixels of a mask whose top left pixel is at ``corner`` (y, x)."""
        self._flush()
        self._area += inside.size
        if self._area > MAX_AREA:
            got = f"{self._regions + 1} regions and more on {self.size[1]} × {self.size[0]} pixels"
            raise DataError(self.where, "an amount of regions that a hand can draw", got, "merge them before the export")
        top, left = corner
        self._labels[top : top + inside.shape[0], left : left + inside.shape[1]][inside] = self.class_id(name)
        self._regions += 1

    def polygon(self, name: object, rings: Sequence[np.ndarray]) -> None:
        """Fill a polygon; further rings cut holes."""
        self.region(name, *fill(self.where, rings, self.size))

    def labels(self) -> np.ndarray:
        """Return what is seen: uint8 (H, W), 255 where nobody drew."""
        self._flush()
        return self._labels

    def strokes(self) -> tuple[Stroke, ...]:
        """Return the lines, if the labels are made of nothing else and they fit into a file of strokes."""
        self._flush()
        many = sum(len(stroke.points) for stroke in self._drawn) > MAX_POINTS
        return () if self._regions or many else tuple(self._drawn)

    def _flush(self) -> None:
        if self._lines:
            seen = rasterise(self._lines, self.size)
            drawn = seen != UNLABELLED
            self._labels[drawn] = seen[drawn]
            self._drawn += self._lines
            self._lines = []
