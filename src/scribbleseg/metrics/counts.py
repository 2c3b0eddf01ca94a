"""Metrics from pooled pixel counts. Label maps in, numbers out; logits are never seen here.

Counts are pooled over the data set and divided once. A class that is absent where a score is defined is NaN.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from scribbleseg.records import UNLABELLED


def confusion_matrix(truth: np.ndarray, prediction: np.ndarray, num_classes: int) -> np.ndarray:
    """Count pixels, row = truth, column = prediction; pixels whose truth is 255 are left out. int64 (C, C)."""
    kept = truth != UNLABELLED
    pairs = truth[kept].astype(np.int64) * num_classes + prediction[kept]
    counts: np.ndarray = np.bincount(pairs, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def near_border(truth: np.ndarray, border_px: int) -> np.ndarray:
    """Say which pixels lie within ``border_px`` of a change of label in the truth (unlabelled bands count). bool (H, W)."""
    edge = np.zeros(truth.shape, dtype=bool)
    for axis in (0, 1):
        differs = np.diff(truth.astype(np.int16), axis=axis) != 0
        first = [slice(None)] * 2
        second = [slice(None)] * 2
        first[axis], second[axis] = slice(None, -1), slice(1, None)
        edge[tuple(first)] |= differs
        edge[tuple(second)] |= differs
    if not edge.any():
        return edge
    return np.asarray(ndimage.distance_transform_edt(~edge) < border_px)


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Divide; NaN where there is nothing to divide by."""
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=np.asarray(below) > 0)


def iou(confusion: np.ndarray) -> np.ndarray:
    """Intersection over union per class, (C,): TP / (TP + FP + FN); NaN if in neither truth nor prediction."""
    true_positive = np.diag(confusion).astype(float)
    return ratio(true_positive, confusion.sum(0) + confusion.sum(1) - true_positive)


def dice(confusion: np.ndarray) -> np.ndarray:
    """Dice per class, (C,): 2 TP / (2 TP + FP + FN); NaN if in neither truth nor prediction."""
    true_positive = np.diag(confusion).astype(float)
    return ratio(2 * true_positive, (confusion.sum(0) + confusion.sum(1)).astype(float))


def recall(confusion: np.ndarray) -> np.ndarray:
    """Share of a class's pixels that were found, (C,); NaN if the class is not in the truth."""
    return ratio(np.diag(confusion).astype(float), confusion.sum(1).astype(float))


def precision(confusion: np.ndarray) -> np.ndarray:
    """Share of the pixels given to a class that are of it, (C,); NaN if the class was never predicted."""
    return ratio(np.diag(confusion).astype(float), confusion.sum(0).astype(float))


def pixel_accuracy(confusion: np.ndarray) -> float:
    """Share of the labelled pixels that are right; NaN without any."""
    total = int(confusion.sum())
    return float(np.trace(confusion) / total) if total else float("nan")


def mean_present(values: np.ndarray) -> float:
    """Mean over the classes that are not NaN; NaN if all are."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
