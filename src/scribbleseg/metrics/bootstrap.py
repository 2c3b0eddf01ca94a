"""How far scores would move with other images of the same kind: a bootstrap in one pass."""

from __future__ import annotations

import hashlib

import numpy as np

from scribbleseg.metrics import counts

#: Resampled sets of images.
NUM_REPLICATES = 1000


class Replicates:
    """Counts of resampled sets of images, gathered while the images come, in memory that does not grow with them.

    Each image is in each of the sets 0, 1, 2, … times, drawn from Poisson(1): drawing as many images as there are with
    replacement differs from it only in that the number of images is fixed. How often depends on the image's name alone, so
    that two models that were scored on the same images have the same sets, in whatever order: their difference is then a
    paired one.

    Args:
        num_classes: C.
        num_replicates: R.

    Cost: R additions an image and pair of classes that it confuses; 8 R C² bytes.

    Reference: Efron, *Bootstrap Methods: Another Look at the Jackknife*, 1979, percentile intervals; Poisson weights: Hanley
    and MacGibbon, *Creating non-parametric bootstrap samples using Poisson frequencies*, 2006.
    """

    def __init__(self, num_classes: int, num_replicates: int = NUM_REPLICATES) -> None:
        self._sums = np.zeros((num_classes, num_classes, num_replicates))

    @classmethod
    def of(cls, confusion: np.ndarray) -> Replicates:
        """Return replicates whose counts, (R, C, C), are at hand."""
        made = cls(confusion.shape[-1], 0)
        made._sums = np.moveaxis(confusion, 0, -1)
        return made

    @property
    def confusion(self) -> np.ndarray:
        """The counts of each set, (R, C, C)."""
        return np.moveaxis(self._sums, -1, 0)

    def add(self, unit: str, confusion: np.ndarray) -> None:
        """Add the counts of an image. Images of one ``unit`` (a volume) come together or not at all: they are no strangers."""
        seed = int.from_bytes(hashlib.sha256(unit.encode()).digest()[:8])
        times = np.random.default_rng(seed).poisson(1.0, self._sums.shape[-1])
        for truth, prediction in np.argwhere(confusion):  # most images have few of the classes
            self._sums[truth, prediction] += times * confusion[truth, prediction]

    def scores(self) -> dict[str, np.ndarray]:
        """Return, by name, a score of each set, (R,)."""
        return {
            "miou": _mean_present(self.iou()),
            "foreground_dice": _mean_present(self._of_classes(2, 0)[:, 1:]),
            "pixel_accuracy": counts.ratio(np.trace(self.confusion, axis1=1, axis2=2), self.confusion.sum((1, 2))),
        }

    def iou(self) -> np.ndarray:
        """IoU of each set and class, (R, C)."""
        return self._of_classes(1, 1)

    def _of_classes(self, factor: int, subtracted: int) -> np.ndarray:
        hits = np.diagonal(self.confusion, axis1=1, axis2=2)
        return counts.ratio(factor * hits, self.confusion.sum(1) + self.confusion.sum(2) - subtracted * hits)


def _mean_present(values: np.ndarray) -> np.ndarray:
    """Return the mean of each row over what is not NaN in it."""
    known = ~np.isnan(values)
    return counts.ratio(np.where(known, values, 0).sum(1), known.sum(1))


def interval(values: np.ndarray, share: float = 0.95) -> tuple[float, float]:
    """Return the percentiles between which ``share`` of the values lie, NaN left out; both NaN if all are."""
    known = values[~np.isnan(values)]
    if not known.size:
        return float("nan"), float("nan")
    low, high = np.percentile(known, [50 * (1 - share), 50 * (1 + share)])
    return float(low), float(high)
