from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from scribbleseg.metrics import counts as metrics

CASES = [
    pytest.param(0, 4, (7, 9), id="four classes"),
    pytest.param(1, 2, (11, 5), id="two classes"),
    pytest.param(2, 7, (3, 4), id="some classes absent"),
    pytest.param(3, 3, (1, 1), id="one pixel"),
]


def maps(seed: int, num_classes: int, size: tuple[int, int], ignored: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, num_classes, size).astype(np.uint8)
    prediction = np.where(rng.random(size) < 0.5, truth, rng.integers(0, num_classes, size)).astype(np.uint8)
    truth[rng.random(size) < ignored] = 255
    return truth, prediction


def counts(truth: np.ndarray, prediction: np.ndarray, c: int) -> tuple[int, int, int]:
    """Return hits, false alarms and misses of a class, pixel by pixel."""
    pairs = [(t, p) for t, p in zip(truth.ravel().tolist(), prediction.ravel().tolist(), strict=True) if t != 255]
    hits = sum(t == p == c for t, p in pairs)
    return hits, sum(t != c == p for t, p in pairs), sum(t == c != p for t, p in pairs)


def ratio(above: float, below: float) -> float:
    return above / below if below else math.nan


@pytest.mark.parametrize(("seed", "num_classes", "size"), CASES)
class TestAgainstLoops:
    def test_confusion(self, seed, num_classes, size):
        truth, prediction = maps(seed, num_classes, size)
        expected = [[0] * num_classes for _ in range(num_classes)]
        for t, p in zip(truth.ravel().tolist(), prediction.ravel().tolist(), strict=True):
            if t != 255:
                expected[t][p] += 1
        got = metrics.confusion_matrix(truth, prediction, num_classes)
        assert got.tolist() == expected
        assert got.dtype == np.int64

    def test_scores(self, seed, num_classes, size):
        truth, prediction = maps(seed, num_classes, size)
        confusion = metrics.confusion_matrix(truth, prediction, num_classes)
        by_class = [counts(truth, prediction, c) for c in range(num_classes)]
        for function, expected in {
            metrics.iou: [ratio(h, h + f + m) for h, f, m in by_class],
            metrics.dice: [ratio(2 * h, 2 * h + f + m) for h, f, m in by_class],
            metrics.precision: [ratio(h, h + f) for h, f, m in by_class],
            metrics.recall: [ratio(h, h + m) for h, f, m in by_class],
        }.items():
            np.testing.assert_allclose(function(confusion), expected, rtol=1e-12, err_msg=function.__name__)
        hits = sum(h for h, _, _ in by_class)
        assert metrics.pixel_accuracy(confusion) == pytest.approx(ratio(hits, int((truth != 255).sum())), nan_ok=True)

    @pytest.mark.parametrize("border_px", [1, 2, 3, 5])
    def test_near_border(self, seed, num_classes, size, border_px):
        truth = np.repeat(np.repeat(maps(seed, num_classes, size)[0], 4, 0), 3, 1)[:20, :22]
        height, width = truth.shape
        touching = [
            (y, x)
            for y in range(height)
            for x in range(width)
            for v, u in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1))
            if 0 <= v < height and 0 <= u < width and truth[y, x] != truth[v, u]
        ]
        expected = [
            [any(math.hypot(y - v, x - u) < border_px for v, u in touching) for x in range(width)] for y in range(height)
        ]
        assert metrics.near_border(truth, border_px).tolist() == expected


@pytest.mark.parametrize(("seed", "num_classes", "size"), CASES[:3])
def test_against_torchmetrics(seed, num_classes, size):
    classification = pytest.importorskip("torchmetrics.classification")
    truth, prediction = maps(seed, num_classes, size)
    t, p = torch.from_numpy(truth).long(), torch.from_numpy(prediction).long()
    confusion = metrics.confusion_matrix(truth, prediction, num_classes)
    theirs = classification.MulticlassConfusionMatrix(num_classes, ignore_index=255)(p, t)
    assert confusion.tolist() == theirs.tolist()
    present = confusion.sum(0) + confusion.sum(1) > 0  # theirs calls an absent class 0, ours NaN
    jaccard = classification.MulticlassJaccardIndex(num_classes, ignore_index=255, average=None)(p, t).numpy()
    np.testing.assert_allclose(metrics.iou(confusion)[present], jaccard[present], rtol=1e-6)
    f1 = classification.MulticlassF1Score(num_classes, ignore_index=255, average=None)(p, t).numpy()
    np.testing.assert_allclose(metrics.dice(confusion)[present], f1[present], rtol=1e-6)
    assert np.isnan(metrics.iou(confusion)[~present]).all()


def test_by_hand():
    truth = np.array([[0, 0, 1, 1], [0, 255, 1, 255]])
    prediction = np.array([[0, 1, 1, 1], [0, 1, 0, 0]])
    confusion = metrics.confusion_matrix(truth, prediction, 3)
    assert confusion.tolist() == [[2, 1, 0], [1, 2, 0], [0, 0, 0]]
    np.testing.assert_allclose(metrics.iou(confusion), [0.5, 0.5, np.nan])
    np.testing.assert_allclose(metrics.dice(confusion), [2 / 3, 2 / 3, np.nan])
    assert metrics.pixel_accuracy(confusion) == pytest.approx(4 / 6)


def test_perfect_prediction():
    truth, _ = maps(0, 4, (7, 9))
    confusion = metrics.confusion_matrix(truth, np.where(truth == 255, 0, truth), 4)
    for function in (metrics.iou, metrics.dice, metrics.precision, metrics.recall):
        np.testing.assert_array_equal(function(confusion), 1.0)
    assert metrics.pixel_accuracy(confusion) == 1.0


def test_a_class_that_is_only_predicted():
    confusion = metrics.confusion_matrix(np.array([[0, 0]]), np.array([[0, 1]]), 3)
    np.testing.assert_allclose(metrics.iou(confusion), [0.5, 0.0, np.nan])
    np.testing.assert_allclose(metrics.recall(confusion), [0.5, np.nan, np.nan])
    np.testing.assert_allclose(metrics.precision(confusion), [1.0, 0.0, np.nan])


def test_all_ignored():
    confusion = metrics.confusion_matrix(np.full((3, 4), 255, np.uint8), np.zeros((3, 4), np.uint8), 2)
    assert not confusion.any()
    assert confusion.shape == (2, 2)
    assert math.isnan(metrics.pixel_accuracy(confusion))
    assert np.isnan(metrics.iou(confusion)).all()
    assert math.isnan(metrics.mean_present(metrics.iou(confusion)))


def test_a_prediction_of_255_where_nothing_is_counted():
    assert metrics.confusion_matrix(np.array([[255, 1]]), np.array([[255, 0]]), 2).tolist() == [[0, 0], [1, 0]]


def test_many_classes_do_not_overflow_8_bits():
    truth = np.full((2, 2), 200, np.uint8)
    confusion = metrics.confusion_matrix(truth, truth - np.uint8(1), 201)
    assert int(confusion[200, 199]) == 4


def test_counts_of_parts_add_up():
    truth, prediction = maps(0, 4, (8, 9))
    halves = metrics.confusion_matrix(truth[:4], prediction[:4], 4) + metrics.confusion_matrix(truth[4:], prediction[4:], 4)
    np.testing.assert_array_equal(halves, metrics.confusion_matrix(truth, prediction, 4))


def test_mean_present_leaves_absent_classes_out():
    assert metrics.mean_present(np.array([0.5, np.nan, 1.0])) == 0.75


class TestNearBorder:
    def test_a_straight_border_has_a_band_on_both_sides(self):
        truth = np.zeros((4, 20), np.uint8)
        truth[:, 10:] = 1
        expected = [False] * 7 + [True] * 6 + [False] * 7
        assert metrics.near_border(truth, 3).tolist() == [expected] * 4

    def test_one_label_has_no_border(self):
        assert not metrics.near_border(np.full((6, 7), 3, np.uint8), 5).any()

    def test_an_unlabelled_band_is_a_border(self):
        truth = np.zeros((3, 9), np.uint8)
        truth[:, 4] = 255
        assert metrics.near_border(truth, 1).tolist() == [[x in (3, 4, 5) for x in range(9)]] * 3
