from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from scribbleseg.metrics.calibration import NUM_BINS, expected_calibration_error, reliability_counts


def answers(seed: int, num_classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Truth (H, W) and probabilities (C, H, W)."""
    rng = np.random.default_rng(seed)
    probs = torch.from_numpy(rng.normal(0, 2, (num_classes, 30, 20))).softmax(0).numpy()
    truth = np.where(rng.random((30, 20)) < 0.6, probs.argmax(0), rng.integers(0, num_classes, (30, 20))).astype(np.uint8)
    truth[rng.random((30, 20)) < 0.2] = 255
    return truth, probs


@pytest.mark.parametrize("seed", range(3))
def test_against_torchmetrics(seed):
    from torchmetrics.classification import MulticlassCalibrationError

    truth, probs = answers(seed)
    theirs = MulticlassCalibrationError(4, n_bins=NUM_BINS, norm="l1", ignore_index=255)
    expected = theirs(torch.from_numpy(probs)[None], torch.from_numpy(truth).long()[None])
    counts = reliability_counts(truth, probs.argmax(0), probs.max(0))
    assert expected_calibration_error(counts) == pytest.approx(float(expected), abs=1e-6)


def test_sums_of_parts_are_the_sum_of_the_whole():
    truth, probs = answers(0)
    labels, sure = probs.argmax(0), probs.max(0)
    parts = [reliability_counts(truth[rows], labels[rows], sure[rows]) for rows in (slice(0, 7), slice(7, 30))]
    np.testing.assert_allclose(sum(parts), reliability_counts(truth, labels, sure), rtol=1e-12)


def test_sure_and_always_right_is_perfect():
    truth = np.zeros((4, 4), np.uint8)
    assert expected_calibration_error(reliability_counts(truth, truth, np.ones((4, 4)))) == 0


def test_sure_and_right_half_the_time():
    truth, prediction = np.zeros((2, 4, 4), np.uint8)
    prediction[:2] = 1
    counts = reliability_counts(truth, prediction, np.ones((4, 4)))
    assert expected_calibration_error(counts) == 0.5
    assert counts[:, -1].tolist() == [16, 16, 8]


def test_no_pixel_known():
    counts = reliability_counts(np.full((2, 2), 255, np.uint8), np.zeros((2, 2), np.uint8), np.ones((2, 2)))
    assert math.isnan(expected_calibration_error(counts))
