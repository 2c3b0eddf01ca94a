"""Calibration: is a network that is 80 % sure right in 80 % of such pixels?"""

from __future__ import annotations

import numpy as np

from scribbleseg.records import UNLABELLED

#: Of equal width, from 0 to 1.
NUM_BINS = 15


def reliability_counts(truth: np.ndarray, prediction: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """Sum up pixels by how sure the network is: float64 (3, bins): pixels, sum of confidence, right ones.

    Args:
        truth: class ids (H, W); pixels of 255 are left out.
        prediction: class ids (H, W).
        confidence: probability of the predicted class (H, W). A bin holds (low, high]; 0 belongs to the first.
    """
    known = truth != UNLABELLED
    sure = confidence[known].astype(np.float64)
    of_bin = np.clip(np.ceil(sure * NUM_BINS).astype(np.int64) - 1, 0, NUM_BINS - 1)
    weights = (None, sure, (truth[known] == prediction[known]).astype(np.float64))
    return np.array([np.bincount(of_bin, weight, NUM_BINS) for weight in weights], np.float64)


def expected_calibration_error(counts: np.ndarray) -> float:
    """Return Σ_b n_b/n |accuracy_b − confidence_b| of such sums; NaN without a pixel.

    Reference: Guo et al., *On Calibration of Modern Neural Networks*, ICML 2017, arXiv 1706.04599, eq. 3, with 15 bins.
    """
    total = counts[0].sum()
    return float(np.abs(counts[2] - counts[1]).sum() / total) if total else float("nan")
