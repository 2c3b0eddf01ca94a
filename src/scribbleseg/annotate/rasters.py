"""Rasterised labels that are kept while strokes are added: only what is new is drawn."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import replace

import numpy as np

from scribbleseg.annotate.strokes import Drawn
from scribbleseg.data.vector import draw_over
from scribbleseg.records import UNLABELLED

#: Bytes of labels that are kept, of the images looked at last.
KEPT = 192 * 2**20

#: A stroke and the class id that it has now.
Shown = tuple[Drawn, int]


class Rasters:
    """Labels by image. Drawing further strokes over the labels so far is exact; anything else draws all of them again.

    Cost: adding a stroke to any number of others is drawing that one stroke, and one comparison a stroke.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[int, tuple[object, list[Shown], np.ndarray]] = OrderedDict()
        self._lock = threading.Lock()

    def labels(
        self, image: int, ground: tuple[object, np.ndarray | None], shown: list[Shown], size: tuple[int, int]
    ) -> np.ndarray:
        """Return uint8 (H, W), the caller's own.

        Args:
            image: its id.
            ground: what lies under the strokes: something that tells it from any other, and its labels.
            shown: the strokes in their order.
            size: (height, width).
        """
        key = ground[0], size
        with self._lock:
            before = self._kept.pop(image, None)
            if before is not None and before[0] == key and _begins(shown, before[1]):
                labels, rest = before[2], shown[len(before[1]) :]
            else:
                labels = np.full(size, 255, np.uint8) if ground[1] is None else ground[1].copy()
                rest = shown
            draw_over(labels, (replace(drawn.stroke, label=label) for drawn, label in rest))
            self._kept[image] = key, list(shown), labels
            while len(self._kept) > 1 and sum(kept[2].nbytes for kept in self._kept.values()) > KEPT:
                self._kept.popitem(last=False)
            return labels.copy()


def _begins(strokes: list[Shown], start: list[Shown]) -> bool:
    same = (a is b and m == n for (a, m), (b, n) in zip(strokes, start, strict=False))
    return len(strokes) >= len(start) and all(same)


def cut_to(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return labels of another size, each pixel where it was; what was not there is unlabelled."""
    if labels.shape == size:
        return labels
    out = np.full(size, UNLABELLED, np.uint8)
    part = np.s_[: min(size[0], labels.shape[0]), : min(size[1], labels.shape[1])]
    out[part] = labels[part]
    return out
