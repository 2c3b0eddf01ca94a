from __future__ import annotations

import math

import numpy as np
import pytest

from scribbleseg.metrics import counts
from scribbleseg.metrics.bootstrap import Replicates, interval


def images(seed: int, number: int, num_classes: int = 3) -> list[np.ndarray]:
    """Confusions of images that differ in how well they went."""
    rng = np.random.default_rng(seed)
    return [confusion(rng, rng.beta(6, 2), num_classes) for _ in range(number)]


def confusion(rng: np.random.Generator, right: float, num_classes: int = 3) -> np.ndarray:
    truth = rng.integers(0, num_classes, 400)
    prediction = np.where(rng.random(400) < right, truth, rng.integers(0, num_classes, 400))
    return counts.confusion_matrix(truth, prediction, num_classes)


def gathered(found: list[np.ndarray], order: list[int] | None = None, units: int = 10**6) -> Replicates:
    replicates = Replicates(found[0].shape[0])
    for n in order or range(len(found)):
        replicates.add(f"image{n % units}", found[n])
    return replicates


def test_against_drawing_images_with_replacement():
    found = images(0, 80)
    rng = np.random.default_rng(1)
    drawn = [sum(found[k] for k in rng.integers(0, len(found), len(found))) for _ in range(2000)]
    expected = np.array([counts.mean_present(counts.iou(c)) for c in drawn])
    got = gathered(found).scores()["miou"]
    # 1,000 and 2,000 draws: the means differ by 3 % of a standard deviation, the spreads by 3 %, one standard error each.
    assert got.mean() == pytest.approx(expected.mean(), abs=0.2 * expected.std())
    assert got.std() == pytest.approx(expected.std(), rel=0.15)
    assert interval(got) == pytest.approx(interval(expected), abs=0.4 * expected.std())


def test_each_score_is_that_of_the_set():
    replicates = gathered(images(2, 9))
    scores = replicates.scores()
    for k in range(0, 1000, 97):
        c = replicates.confusion[k]
        assert scores["miou"][k] == pytest.approx(counts.mean_present(counts.iou(c)))
        assert scores["foreground_dice"][k] == pytest.approx(counts.mean_present(counts.dice(c)[1:]))
        assert scores["pixel_accuracy"][k] == pytest.approx(counts.pixel_accuracy(c))
        np.testing.assert_allclose(replicates.iou()[k], counts.iou(c))


def test_the_order_of_the_images_does_not_matter():
    found = images(3, 12)
    a, b = gathered(found), gathered(found, list(range(11, -1, -1)))
    np.testing.assert_allclose(a.confusion, b.confusion)


def test_two_models_on_the_same_images_are_resampled_alike():
    """So the spread of their difference is the spread of the differences, however much images differ."""
    found = images(4, 60)
    better = [c + np.diag([4, 4, 4]) for c in found]
    difference = gathered(better).scores()["miou"] - gathered(found).scores()["miou"]
    assert difference.std() < 0.2 * gathered(found).scores()["miou"].std()
    assert interval(difference)[0] > 0


def test_images_of_one_volume_come_together():
    """Forty times the same image in four volumes is four images' worth of evidence, not forty."""
    found = images(5, 4) * 10
    apart, together = gathered(found).scores()["miou"], gathered(found, units=4).scores()["miou"]
    assert np.nanstd(together) > 2 * np.nanstd(apart)  # a set may hold none of four volumes


def test_the_interval_covers_the_truth_as_often_as_it_says():
    """300 samples of 40 images; the truth is the score of very many. Binomial: 95 % ± 1.3 % one standard error."""
    rng = np.random.default_rng(6)
    truth = counts.mean_present(counts.iou(sum(images(7, 4000))))
    hits = 0
    for trial in range(300):
        replicates = Replicates(3, 300)
        for n in range(40):
            replicates.add(f"trial {trial} image {n}", confusion(rng, rng.beta(6, 2)))
        low, high = interval(replicates.scores()["miou"])
        hits += low <= truth <= high
    assert 0.90 <= hits / 300 <= 0.98


def test_an_absent_class_is_left_out():
    replicates = Replicates(3)
    replicates.add("a", np.array([[5, 1, 0], [0, 4, 0], [0, 0, 0]]))
    replicates.add("b", np.array([[5, 1, 0], [0, 4, 0], [0, 0, 0]]))
    assert np.isnan(replicates.iou()[:, 2]).all()
    low, high = interval(replicates.scores()["miou"])
    assert low == pytest.approx(high)
    assert all(math.isnan(v) for v in interval(np.full(4, np.nan)))
