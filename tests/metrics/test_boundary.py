from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from scribbleseg.metrics.boundary import boundary_counts
from tests.metrics.test_surfaces import blobs


def eroded(mask: np.ndarray, times: int) -> np.ndarray:
    return ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=times)


@pytest.mark.parametrize("width", [1, 2, 5])
@pytest.mark.parametrize("seed", range(3))
def test_against_erosion_by_a_square(seed, width):
    """The band as its authors describe it: what d erosions with a 3 × 3 square take away."""
    truth, prediction = blobs(seed, (40, 52)), blobs(seed + 9, (40, 52))
    got = boundary_counts(truth, prediction, 3, width)
    for c in range(3):
        g, p = (m == c for m in (truth, prediction))
        g, p = g & ~eroded(g, width), p & ~eroded(p, width)
        assert got[:, c].tolist() == [(g & p).sum(), (g | p).sum()]


def test_the_usual_width_is_2_percent_of_the_diagonal():
    truth, prediction = blobs(0, (300, 400)), blobs(1, (300, 400))
    assert boundary_counts(truth, prediction, 3).tolist() == boundary_counts(truth, prediction, 3, 10).tolist()


def test_unknown_pixels_are_not_counted_and_make_no_contour():
    truth = np.zeros((30, 30), np.uint8)
    truth[:, 15:] = 1
    prediction = truth.copy()
    alone = boundary_counts(truth, prediction, 2, 2)
    truth[:, 20:] = 255
    prediction[:, 20:] = 0
    hidden = boundary_counts(truth, prediction, 2, 2)
    # Class 1 keeps the band along column 15, 2 wide, and its upper and lower ends, but gets none along column 20.
    assert hidden[:, 1].tolist() == [30 * 2 + 2 * 2 * 3] * 2
    assert hidden[:, 0].tolist() == alone[:, 0].tolist()


def test_a_class_in_neither_has_nothing_to_count():
    assert boundary_counts(blobs(0), blobs(1), 9)[:, 8].tolist() == [0, 0]


def test_all_unknown():
    assert boundary_counts(np.full((8, 8), 255, np.uint8), np.zeros((8, 8), np.uint8), 2).tolist() == [[0, 0], [0, 0]]
