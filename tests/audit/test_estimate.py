from __future__ import annotations

import json
import math

import numpy as np
import pytest

from scribbleseg.audit.estimate import estimate, jeffreys, overall, posterior, ratios
from scribbleseg.audit.points import Item, Plan, allocate

NAMES = ("background", "leaf")


def answered(counts: list[list[int]], sizes: tuple[int, ...]) -> tuple[Plan, dict[int, int | None]]:
    """Points with these answers, row = predicted, column = true."""
    pairs = [(h, j) for h, row in enumerate(counts) for j, n in enumerate(row) for _ in range(n)]
    items = tuple(Item(k, "a", k, 0, 24, h, 0.55 + 0.4 * (h == j)) for k, (h, j) in enumerate(pairs, 1))
    return Plan(NAMES if len(counts) == 2 else tuple("abcdefgh"[: len(counts)]), "pixel", sizes, items), {
        k: j for k, (_, j) in enumerate(pairs, 1)
    }


def test_estimates_weigh_each_class_by_its_share_of_the_picture() -> None:
    found = estimate(*answered([[18, 2], [5, 15]], (900, 100)))
    assert found.answered == 40
    assert found.accuracy == pytest.approx(0.9 * 0.9 + 0.1 * 0.75)
    leaf = found.classes[1]
    assert leaf["precision"] == pytest.approx(0.75)
    assert leaf["recall"] == pytest.approx(0.075 / (0.075 + 0.09))
    assert leaf["iou"] == pytest.approx(0.075 / (0.1 + 0.09))
    for (low, high), value in ((found.interval, found.accuracy), (leaf["iou_interval"], leaf["iou"])):
        assert 0 < low < value < high < 1


def test_more_answers_make_narrower_intervals() -> None:
    few = estimate(*answered([[9, 1], [2, 8]], (900, 100)))
    many = estimate(*answered([[90, 10], [20, 80]], (900, 100)))
    assert many.interval[1] - many.interval[0] < 0.5 * (few.interval[1] - few.interval[0])
    width = [each.classes[1]["iou_interval"][1] - each.classes[1]["iou_interval"][0] for each in (few, many)]
    assert width[1] < 0.6 * width[0]


def test_nothing_wrong_is_not_taken_for_perfect() -> None:
    found = estimate(*answered([[20, 0], [0, 20]], (500, 500)))
    assert found.accuracy == 1
    assert 0.8 < found.interval[0] < 0.95
    assert found.interval[1] == 1
    assert found.classes[0]["iou_interval"][0] < 0.95


def test_a_point_that_nobody_can_decide_is_told_and_left_out() -> None:
    plan, answers = answered([[18, 2], [5, 15]], (900, 100))
    without = estimate(plan, answers)
    undecided = estimate(
        Plan(plan.names, plan.unit, plan.sizes, (*plan.items, Item(41, "b", 0, 0, 24, 0))), answers | {41: None}
    )
    assert undecided.unanswered == 1
    assert undecided.accuracy == without.accuracy


def test_a_class_without_answers_leaves_its_share_open() -> None:
    plan, answers = answered([[20, 0], [0, 0]], (500, 500))
    found = estimate(plan, answers)
    assert found.interval[1] - found.interval[0] > 0.45
    assert math.isnan(found.classes[1]["precision"])
    json.dumps(found.tree(), allow_nan=False)


def test_without_any_answer_nothing_is_said() -> None:
    found = estimate(answered([[5, 5], [5, 5]], (1, 1))[0], {})
    assert math.isnan(found.accuracy)
    assert found.interval == (0.0, 1.0)


def test_reliability_compares_certainty_with_being_right() -> None:
    found = estimate(*answered([[18, 2], [5, 15]], (500, 500)))
    rows = {row["low"]: row for row in found.reliability}
    assert rows[0.5]["accuracy"] == 0  # those that were unsure were made wrong here
    assert rows[0.95]["accuracy"] == 1
    assert rows[0.95]["interval"][0] < 1


def test_jeffreys_is_the_textbook_s() -> None:
    low, high = jeffreys(np.array([7.0, 0.0]), np.array([20.0, 20.0]))
    assert low == pytest.approx([0.173, 0.0], abs=1e-3)  # Brown, Cai, DasGupta 2001: scipy's Beta(7.5, 13.5)
    assert high[0] == pytest.approx(0.567, abs=1e-3)


@pytest.mark.parametrize(("num_classes", "accuracy", "number"), [(2, 0.7, 60), (3, 0.9, 100), (4, 0.95, 200)])
def test_intervals_hold_the_truth_about_95_times_in_100(num_classes: int, accuracy: float, number: int) -> None:
    rng = np.random.default_rng([num_classes, number])
    held: list[bool] = []
    held_iou: list[bool] = []
    for _ in range(300):
        weights = rng.dirichlet(np.full(num_classes, 3.0))
        true = np.full((num_classes, num_classes), (1 - accuracy) / (num_classes - 1))
        np.fill_diagonal(true, accuracy)
        given = allocate((weights * 1e6).astype(int), number)
        counts = np.stack([rng.multinomial(n, row) for n, row in zip(given, true, strict=True)]).astype(float)
        _, (low, high) = overall(weights, np.diag(counts), counts.sum(1))
        held.append(low <= accuracy <= high)
        ends = np.quantile(posterior(weights, counts, rng, 500)["iou"], [0.025, 0.975], axis=0)
        truth = ratios(weights[:, None] * true)["iou"]
        held_iou += ((ends[0] <= truth) & (truth <= ends[1])).tolist()
    assert 0.91 <= np.mean(held) <= 0.985
    assert 0.92 <= np.mean(held_iou) <= 0.98


@pytest.mark.parametrize("honest", [True, False])
def test_a_model_that_is_as_often_right_as_it_is_sure_lies_on_the_diagonal(honest: bool) -> None:
    rng = np.random.default_rng(7)
    sizes, held, curves = (900_000, 100_000), [], 0
    for _ in range(150):
        given = allocate(np.array(sizes), 200)
        items, answers = [], {}
        for label, n in enumerate(given.tolist()):
            for sure in rng.uniform(0.5, 1, n).tolist():
                right = rng.random() < (sure if honest else sure - 0.25)
                items.append(Item(len(items) + 1, "a", 0, 0, 24, label, sure))
                answers[len(items)] = label if right else 1 - label
        rows = estimate(Plan(NAMES, "pixel", sizes, tuple(items)), answers).reliability
        held += [row["interval"][0] <= row["confidence"] <= row["interval"][1] for row in rows]
        curves += sum(row["n"] for row in rows) == 200
    assert curves == 150, "every answer is on the curve"
    assert np.mean(held) >= 0.92 if honest else np.mean(held) < 0.5


def test_each_answer_on_the_curve_counts_for_the_pixels_that_it_stands_for() -> None:
    items = tuple(Item(k, "a", 0, 0, 24, int(k > 10), 0.75) for k in range(1, 21))
    answers: dict[int, int | None] = dict.fromkeys(range(1, 21), 0)  # all of class 0 right, all of class 1 wrong
    (row,) = estimate(Plan(NAMES, "pixel", (900, 100), items), answers).reliability
    assert (row["n"], row["confidence"]) == (20, pytest.approx(0.75))
    assert row["accuracy"] == pytest.approx(0.9)
    assert row["interval"][0] < 0.9 < row["interval"][1]


def test_without_probabilities_there_is_no_curve() -> None:
    plan = Plan(NAMES, "pixel", (9, 9), tuple(Item(k, "a", 0, 0, 24, 0) for k in range(1, 5)))
    assert estimate(plan, {1: 0, 2: 1}).reliability == ()
