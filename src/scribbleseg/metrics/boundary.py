"""Boundary IoU: the overlap of what lies near the contours."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from scribbleseg.records import UNLABELLED

#: Width of the band over the diagonal of the image, as the authors have it.
SHARE = 0.02


def boundary_counts(truth: np.ndarray, prediction: np.ndarray, num_classes: int, width_px: int | None = None) -> np.ndarray:
    """Count, per class, the pixels in both bands and in either: int64 (2, C); their ratio, pooled, is the boundary IoU.

        |(G_d ∩ G) ∩ (P_d ∩ P)| / |(G_d ∩ G) ∪ (P_d ∩ P)|

    G is the truth of a class, P its prediction; X_d are the pixels at most d from the outside of X, in steps to any of the
    eight neighbours. Where the picture ends X ends, too.

    Args:
        truth: class ids (H, W), 255 where it is unknown: such pixels are never counted, and no contour is taken there.
        prediction: class ids (H, W).
        num_classes: C.
        width_px: d; 2 % of the image's diagonal if None, 1 at least.

    Cost: two distance transforms a class, within the box that holds it: some 50 ms a class and megapixel.

    Reference: Cheng et al., *Boundary IoU: Improving Object-Centric Image Segmentation Evaluation*, CVPR 2021, arXiv
    2103.16562, eq. 2 and its band of 2 % of the diagonal; the authors erode d times with a 3 × 3 square, which is the same.
    """
    known = truth != UNLABELLED
    width = max(1, round(SHARE * math.hypot(*truth.shape))) if width_px is None else width_px
    counts = np.zeros((2, num_classes), np.int64)
    for c in range(num_classes):
        bands = [_band((labels == c) | ~known, width) & (labels == c) & known for labels in (truth, prediction)]
        counts[0, c] = np.count_nonzero(bands[0] & bands[1])
        counts[1, c] = np.count_nonzero(bands[0] | bands[1])
    return counts


def _band(region: np.ndarray, width: int) -> np.ndarray:
    """Say which pixels of a region are at most ``width`` steps from its outside."""
    band = np.zeros(region.shape, bool)
    places = ndimage.find_objects(region.astype(np.uint8))
    if places:
        box = places[0]
        steps = ndimage.distance_transform_cdt(np.pad(region[box], 1), "chessboard")[1:-1, 1:-1]
        band[box] = region[box] & (steps <= width)
    return band
