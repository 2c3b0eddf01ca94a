"""Distances between contours: Hausdorff's, without its outliers, and the average one."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

from scribbleseg.records import UNLABELLED

Spacing = tuple[float, float]


class Distances(NamedTuple):
    """Of one class in one image; NaN where there is nothing to measure.

    Attributes:
        hd95: the larger of the two 95th percentiles of the distances from one contour to the other.
        assd: the mean of the distances from the pixels of both contours to the other.
        missed: the class is in one of truth and prediction alone; both distances are then the image's diagonal.
    """

    hd95: float
    assd: float
    missed: bool


def surface_distances(truth: np.ndarray, prediction: np.ndarray, c: int, spacing: Spacing = (1.0, 1.0)) -> Distances:
    """Return the distances between the contours of class ``c``.

        d(a, B) = min_{b∈B} ‖a − b‖
        HD95 = max(P95 {d(a, B)}_{a∈A}, P95 {d(b, A)}_{b∈B}),   ASSD = (Σ_a d(a, B) + Σ_b d(b, A)) / (|A| + |B|)

    A contour are the pixels of a class that have a pixel of another class, or the picture's end, at one of four sides. Where
    the truth is unknown nothing ends: such pixels are no part of a contour, and no neighbour makes one towards them.

    Args:
        truth: class ids (H, W), 255 where it is unknown.
        prediction: class ids (H, W).
        c: class id.
        spacing: distance of the rows and of the columns: (1, 1) for pixels, millimetres where a scan's file says them.

    Returns:
        Both NaN where the class is in neither, or has no contour that can be seen (all around it is unknown). A class that was
        missed, or invented, is as far as the image is wide: never dropped, and never 0.

    Cost: n log n in the contours' pixels, which lie in a tree each, beside passes over the image: some 30 ms
    for a ragged class on 512 × 512.

    Reference: the percentile of each direction, the larger of both, as MONAI and Google DeepMind's surface-distance have it
    (medpy pools both directions first, and WSL4MIS with it). ASSD as MONAI's symmetric one.
    """
    known = truth != UNLABELLED
    inside = [(labels == c) & known for labels in (truth, prediction)]
    present = [bool(region.any()) for region in inside]
    nothing = Distances(math.nan, math.nan, False)
    if not any(present):
        return nothing
    if not all(present):
        diagonal = math.hypot(truth.shape[0] * spacing[0], truth.shape[1] * spacing[1])
        return Distances(diagonal, diagonal, True)
    contours = [np.argwhere(_contour(region, known)) * np.array(spacing) for region in inside]
    if not all(map(len, contours)):
        return nothing
    there, back = _from_to(contours[0], contours[1]), _from_to(contours[1], contours[0])
    hd95 = max(np.percentile(there, 95), np.percentile(back, 95))
    return Distances(float(hd95), float((there.sum() + back.sum()) / (there.size + back.size)), False)


def _contour(region: np.ndarray, known: np.ndarray) -> np.ndarray:
    return np.asarray(region & ~ndimage.binary_erosion(region | ~known))


def _from_to(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the distance of every place (N, 2) of ``a`` from the nearest of ``b``."""
    return np.asarray(KDTree(b).query(a)[0])
