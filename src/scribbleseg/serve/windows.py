"""Which windows cover a picture, and how much each counts: as in prediction, but without PyTorch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

#: Share of a window that overlaps the next.
OVERLAP = 0.5


class Plan(NamedTuple):
    """The windows of one picture.

    Attributes:
        shape: (height, width) of every window.
        places: (top, left) of each.
    """

    shape: tuple[int, int]
    places: tuple[tuple[int, int], ...]

    @property
    def weight(self) -> np.ndarray:
        """How much each pixel of a window counts, float32 (h, w): a Hann window that never reaches zero."""
        rows, columns = ((np.hanning(n + 2)[1:-1] + 1e-3).astype(np.float32) for n in self.shape)
        return np.outer(rows, columns)


def plan(height: int, width: int, window: int | None) -> Plan:
    """Return the windows that cover a picture and overlap by at least ``OVERLAP``; None for a single one of its size."""
    if window is None:
        return Plan((height, width), ((0, 0),))
    places = tuple((top, left) for top in _starts(height, window) for left in _starts(width, window))
    return Plan((min(height, window), min(width, window)), places)


def _starts(length: int, window: int) -> list[int]:
    if length <= window:
        return [0]
    number = -(-(length - window) // int(window * (1 - OVERLAP))) + 1
    return [round(k * (length - window) / (number - 1)) for k in range(number)]
