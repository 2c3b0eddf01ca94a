"""What one image adds to the scores of many: sums and counts, which can be written down and added up in another process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from scribbleseg.metrics import counts
from scribbleseg.metrics.boundary import boundary_counts
from scribbleseg.metrics.calibration import reliability_counts
from scribbleseg.metrics.surfaces import Spacing, surface_distances
from scribbleseg.records import UNLABELLED

#: Distance from a class border within which the border scores count, in pixels.
BORDER_PX = 5


class Prediction(NamedTuple):
    """What is compared with a mask.

    Attributes:
        labels: class ids (H, W).
        confidence: probability of each pixel's class (H, W), where a network says it.
    """

    labels: np.ndarray
    confidence: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class ImageScores:
    """The counts of one image. C classes.

    Attributes:
        stem: name of the image.
        volume: that the image is a slice of, if it is one.
        spacing_mm: distances between its rows and its columns, where the file says them.
        confusion: pixels, row = truth, column = prediction.
        border: the same, of pixels within ``BORDER_PX`` of a class border.
        boundary: pixels in both bands along the contours of a class, and in either.
        px: a row a class: HD95 and ASSD in pixels, 1, and whether truth or prediction lacks the class; zeros where both do.
        mm: the same in millimetres, where the file says the spacing.
        reliability: pixels, sum of confidence and right ones by confidence; None for masks alone.
    """

    stem: str
    volume: str | None
    spacing_mm: Spacing | None
    confusion: Int64[np.ndarray, "C C"]
    border: Int64[np.ndarray, "C C"]
    boundary: Int64[np.ndarray, "2 C"]
    px: Float64[np.ndarray, "C 4"]
    mm: Float64[np.ndarray, "C 4"] | None
    reliability: Float64[np.ndarray, "3 N"] | None

    @property
    def row(self) -> dict[str, Any]:
        """What is told of the image: stem, mIoU, pixel accuracy, mean HD95 in pixels of its classes but the first."""
        present = np.where(self.px[1:, 2] > 0, self.px[1:, 0], np.nan)
        scores = {
            "miou": counts.mean_present(counts.iou(self.confusion)),
            "pixel_accuracy": counts.pixel_accuracy(self.confusion),
        }
        row = {"stem": self.stem} | scores | {"hd95": counts.mean_present(present)}
        return row if self.spacing_mm is None else row | {"spacing_mm": list(self.spacing_mm)}

    def to_tree(self) -> dict[str, Any]:
        """Return a tree for JSON, from which :meth:`from_tree` makes the same numbers to the last bit."""
        tree: dict[str, Any] = {key: value for key, value in vars(self).items() if not isinstance(value, np.ndarray)}
        tree |= {key: _pairs(getattr(self, key)) for key in ("confusion", "border")}
        arrays = {key: getattr(self, key) for key in ("boundary", "px", "mm", "reliability")}
        return tree | {key: None if array is None else array.tolist() for key, array in arrays.items()}

    @classmethod
    def from_tree(cls, tree: dict[str, Any]) -> ImageScores:
        """Return what ``to_tree`` was called on."""
        num_classes = len(tree["px"])
        arrays = {key: _from_pairs(tree[key], num_classes) for key in ("confusion", "border")}
        arrays |= {key: None if tree[key] is None else np.array(tree[key], float) for key in ("px", "mm", "reliability")}
        spacing = None if tree["spacing_mm"] is None else (tree["spacing_mm"][0], tree["spacing_mm"][1])
        return cls(tree["stem"], tree["volume"], spacing, boundary=np.array(tree["boundary"], np.int64), **arrays)


def measure(
    stem: str,
    truth: np.ndarray,
    prediction: Prediction,
    num_classes: int,
    *,
    spacing_mm: Spacing | None = None,
    volume: str | None = None,
) -> ImageScores:
    """Compare a prediction with the truth, uint8 (H, W) with 255 where it is unknown.

    Cost: distances between contours are most of it: 20 to 50 ms a class of 512 × 512 pixels, on one core.
    """
    labels, confidence = prediction
    inside = np.where(counts.near_border(truth, BORDER_PX), truth, UNLABELLED)
    return ImageScores(
        stem,
        volume,
        spacing_mm,
        counts.confusion_matrix(truth, labels, num_classes),
        counts.confusion_matrix(inside, labels, num_classes),
        boundary_counts(truth, labels, num_classes),
        _distances(truth, labels, num_classes, None),
        None if spacing_mm is None else _distances(truth, labels, num_classes, spacing_mm),
        None if confidence is None else reliability_counts(truth, labels, confidence),
    )


def _distances(truth: np.ndarray, labels: np.ndarray, num_classes: int, spacing: Spacing | None) -> np.ndarray:
    rows = np.zeros((num_classes, 4))
    for c in range(num_classes):
        found = surface_distances(truth, labels, c) if spacing is None else surface_distances(truth, labels, c, spacing)
        if not np.isnan(found.hd95):
            rows[c] = (found.hd95, found.assd, 1, found.missed)
    return rows


def _pairs(confusion: np.ndarray) -> list[list[int]]:
    """Return (truth, prediction, pixels) of the pairs that there are, which are few of the C²."""
    return [[int(t), int(p), int(confusion[t, p])] for t, p in np.argwhere(confusion)]


def _from_pairs(pairs: list[list[int]], num_classes: int) -> np.ndarray:
    confusion = np.zeros((num_classes, num_classes), np.int64)
    for t, p, pixels in pairs:
        confusion[t, p] = pixels
    return confusion
