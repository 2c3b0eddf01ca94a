from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from scribbleseg.metrics.surfaces import surface_distances


def blobs(seed: int, size: tuple[int, int] = (24, 31), num_classes: int = 3) -> np.ndarray:
    """Regions with round and ragged contours that touch the picture's end."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    labels = np.zeros(size, np.uint8)
    for c in range(1, num_classes):
        for _ in range(3):
            cy, cx, r = rng.uniform(0, size[0]), rng.uniform(0, size[1]), rng.uniform(2, 8)
            labels[np.hypot(y - cy, x - cx) < r] = c
    noise = rng.random(size) < 0.03
    return np.where(noise, rng.integers(0, num_classes, size), labels).astype(np.uint8)


def brute(truth: np.ndarray, prediction: np.ndarray, c: int, spacing: tuple[float, float]) -> tuple[float, float]:
    """HD95 and ASSD pixel by pixel."""

    def contour(labels: np.ndarray) -> list[tuple[int, int]]:
        def ends(y: int, x: int) -> bool:
            if not (0 <= y < labels.shape[0] and 0 <= x < labels.shape[1]):
                return True
            return bool(truth[y, x] != 255 and labels[y, x] != c)

        return [
            (y, x)
            for y, x in np.argwhere((labels == c) & (truth != 255)).tolist()
            if any(ends(*p) for p in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)))
        ]

    a, b = contour(truth), contour(prediction)

    def far(some: list[tuple[int, int]], others: list[tuple[int, int]]) -> list[float]:
        return [min(math.hypot((y - v) * spacing[0], (x - u) * spacing[1]) for v, u in others) for y, x in some]

    there, back = far(a, b), far(b, a)
    return max(np.percentile(there, 95), np.percentile(back, 95)), sum(there + back) / len(there + back)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.7, 2.5)])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("unknown", [0.0, 0.2])
def test_against_pixel_by_pixel(seed, spacing, unknown):
    truth, prediction = blobs(seed), blobs(seed + 100)
    truth[np.random.default_rng(seed).random(truth.shape) < unknown] = 255
    for c in range(3):
        found = surface_distances(truth, prediction, c, spacing)
        assert found[:2] == pytest.approx(brute(truth, prediction, c, spacing), rel=1e-12)
        assert not found.missed


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.7, 2.5)])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.filterwarnings("ignore:.*deprecated:FutureWarning")  # of one part of MONAI by another
def test_against_monai(seed, spacing):
    monai = pytest.importorskip("monai.metrics", reason="MONAI is not installed")
    truth, prediction = blobs(seed, (40, 52)), blobs(seed + 50, (40, 52))
    one_hot = [torch.nn.functional.one_hot(torch.from_numpy(m).long(), 3).movedim(-1, 0)[None] for m in (prediction, truth)]
    hd95 = monai.compute_hausdorff_distance(*one_hot, include_background=True, percentile=95, spacing=spacing)[0]
    assd = monai.compute_average_surface_distance(*one_hot, include_background=True, symmetric=True, spacing=spacing)[0]
    ours = [surface_distances(truth, prediction, c, spacing) for c in range(3)]
    np.testing.assert_allclose([d.hd95 for d in ours], hd95.numpy(), rtol=1e-5)  # theirs is float32
    np.testing.assert_allclose([d.assd for d in ours], assd.numpy(), rtol=1e-5)  # theirs is float32


def test_a_shifted_square_is_as_far_as_it_was_shifted():
    truth, prediction = np.zeros((2, 40, 40), np.uint8)
    truth[10:20, 10:20], prediction[10:20, 14:24] = 1, 1
    assert surface_distances(truth, prediction, 1).hd95 == 4
    assert surface_distances(truth, prediction, 1, (1.0, 0.5)).hd95 == 2


def test_the_same_is_0_apart():
    truth = blobs(0)
    assert surface_distances(truth, truth, 1) == (0, 0, False)


@pytest.mark.parametrize("missing", ["truth", "prediction"])
def test_a_missed_class_is_as_far_as_the_image_is_wide(missing):
    with_it, without = blobs(1), np.zeros((24, 31), np.uint8)
    truth, prediction = (without, with_it) if missing == "truth" else (with_it, without)
    assert surface_distances(truth, prediction, 1, (2.0, 1.0)) == (math.hypot(48, 31), math.hypot(48, 31), True)


def test_an_absent_class_is_nan_and_not_missed():
    found = surface_distances(blobs(0), blobs(1), 7)
    assert math.isnan(found.hd95)
    assert math.isnan(found.assd)
    assert not found.missed


def test_what_is_predicted_where_the_truth_is_unknown_is_not_seen():
    truth, prediction = np.zeros((2, 30, 30), np.uint8)
    truth[5:10, 5:10] = prediction[5:10, 5:10] = 1
    truth[:, 20:] = 255
    prediction[:, 20:] = 1
    assert surface_distances(truth, prediction, 1) == (0, 0, False)


def test_an_all_unknown_truth_has_no_distance():
    assert math.isnan(surface_distances(np.full((5, 5), 255, np.uint8), np.ones((5, 5), np.uint8), 1).hd95)
