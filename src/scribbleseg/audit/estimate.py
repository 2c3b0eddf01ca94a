"""What the answers say: accuracy, precision, recall and IoU, each with an interval of 95 %."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from scribbleseg.audit.points import Plan

#: Draws of the posterior; its quantiles then err by less than 0.5 % of the interval's width.
DRAWS = 4000

#: Prior of a class's precision, Beta(a, a): with a third its median is nearest to the share that was seen (Kerman 2011).
NEUTRAL = 1 / 3

#: Limits of the confidences that are put together in the reliability curve.
RELIABILITY = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)

Interval = tuple[float, float]


@dataclass(frozen=True)
class Estimate:
    """What an audit found. NaN where nothing can be said.

    Attributes:
        answered: number of points with an answer.
        unanswered: points that were seen but not decided.
        accuracy: share of the units that are right, and its interval.
        classes: a dict a class: name, number, precision, recall, iou, each with an ``…_interval``.
        reliability: a dict a range of confidence with answers: low, high, n, confidence (mean), accuracy, interval.
    """

    answered: int
    unanswered: int
    accuracy: float
    interval: Interval
    classes: tuple[dict[str, Any], ...]
    reliability: tuple[dict[str, Any], ...]

    def tree(self) -> dict[str, Any]:
        """Return it as plain values, for JSON: None where nothing can be said."""
        return _plain(vars(self))


def estimate(plan: Plan, answers: Mapping[int, int | None], seed: int = 0) -> Estimate:
    """Conclude from answers.

    The sample is random within each predicted class h, of which ``sizes`` has N_h units, W_h = N_h / ΣN. Of n_h answers there
    n_hj were class j. Estimates are p̂_hj = n_hj / n_h, accuracy Σ W_h p̂_hh, precision p̂_hh, and IoU of j
    W_j p̂_jj / (W_j + Σ_{h≠j} W_h p̂_hj).

    Intervals: of a precision Jeffreys's; of the accuracy those put together by variance recovery (MOVER), lower limit
    Â − √Σ W_h² (p̂_hh − l_h)²; of recall and IoU the quantiles of a posterior, p_hh from Beta(1/3, 1/3), the errors shared
    out among the other classes by a Dirichlet of 1 / (C − 1) each. Which of the known intervals keep their word was found by
    simulation: docs/explanation/audit.md.

    Args:
        plan: of the points.
        answers: class id by number of the item; None where nobody can tell, which is then left out.
        seed: of the posterior's draws.

    Reference: Olofsson et al. 2014, *Good practices for estimating area and assessing accuracy of land change*; Brown, Cai,
    DasGupta 2001; Zou, Donner 2008 (MOVER).

    Cost: DRAWS · C² numbers: 10 ms for 4 classes, 0.1 s for 20.
    """
    num_classes = len(plan.names)
    counts = np.zeros((num_classes, num_classes))
    for item in plan.items:
        answer = answers.get(item.number)
        if answer is not None:
            counts[item.predicted, answer] += 1
    weights = np.asarray(plan.sizes, float) / max(1, sum(plan.sizes))
    number = counts.sum(axis=1)
    right = np.diag(counts)
    accuracy, interval = overall(weights, right, number)
    drawn = posterior(weights, counts, np.random.default_rng(seed))
    found = ratios(weights[:, None] * counts / np.maximum(number, 1)[:, None])
    rows = []
    for label, name in enumerate(plan.names):
        low, high = jeffreys(right[label : label + 1], number[label : label + 1])
        row: dict[str, Any] = {"name": name, "number": int(number[label])}
        row |= {"precision": _share(right[label], number[label]), "interval": (float(low[0]), float(high[0]))}
        for key in ("recall", "iou"):
            value = float(found[key][label])
            row |= {key: value, f"{key}_interval": _around(drawn[key][:, label], value)}
        rows.append(row)
    seen = sum(1 for item in plan.items if item.number in answers)
    answered = int(number.sum())
    return Estimate(
        answered, seen - answered, accuracy, interval, tuple(rows), tuple(_reliability(plan, answers, weights, number))
    )


def overall(weights: np.ndarray, right: np.ndarray, number: np.ndarray) -> tuple[float, Interval]:
    """Return the accuracy and its interval. A class without answers counts as half right, give or take a half."""
    share = np.where(number > 0, right / np.maximum(number, 1), 0.5)
    low, high = jeffreys(right, number)
    value = float((weights * share).sum())
    if not number.any():
        return math.nan, (0.0, 1.0)
    below, above = (float(np.sqrt((weights**2 * (share - end) ** 2).sum())) for end in (low, high))
    return value, (max(0.0, value - below), min(1.0, value + above))


def jeffreys(right: np.ndarray, number: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Return Jeffreys's interval of shares, from 0 where none and to 1 where all were right (Brown, Cai, DasGupta 2001)."""
    tail = (1 - level) / 2
    low = stats.beta.ppf(tail, right + 0.5, number - right + 0.5)
    high = stats.beta.ppf(1 - tail, right + 0.5, number - right + 0.5)
    return np.where(right > 0, low, 0.0), np.where(right < number, high, 1.0)


def posterior(weights: np.ndarray, counts: np.ndarray, rng: np.random.Generator, draws: int = DRAWS) -> dict[str, np.ndarray]:
    """Return draws (draws, C) of recall and IoU given the counts, row = predicted, column = true."""
    number, right, size = counts.sum(axis=1), np.diag(counts), len(counts)
    precise = rng.beta(right + NEUTRAL, number - right + NEUTRAL, (draws, size))
    wrong = rng.gamma(counts + 1 / max(1, size - 1), size=(draws, size, size))
    diagonal = np.arange(size)
    wrong[:, diagonal, diagonal] = 0
    wrong /= np.maximum(wrong.sum(axis=2, keepdims=True), 1e-300)
    joint = wrong * ((1 - precise) * weights)[:, :, None]
    joint[:, diagonal, diagonal] = precise * weights
    return ratios(joint)


def ratios(joint: np.ndarray) -> dict[str, np.ndarray]:
    """Return recall and IoU of each class, (…, C), of shares (…, C, C), row = predicted, column = true; NaN for 0 / 0."""
    both = np.diagonal(joint, axis1=-2, axis2=-1)
    true, union = joint.sum(axis=-2), joint.sum(axis=-1) + joint.sum(axis=-2) - both
    with np.errstate(invalid="ignore", divide="ignore"):
        return {"recall": np.where(true > 0, both / true, np.nan), "iou": np.where(union > 0, both / union, np.nan)}


def _around(draws: np.ndarray, value: float) -> Interval:
    """Return the middle 95 % of draws, widened to what was estimated from the answers alone."""
    known = draws[~np.isnan(draws)]
    if not len(known):
        return 0.0, 1.0
    low, high = (float(q) for q in np.quantile(known, [0.025, 0.975]))
    return (low, high) if math.isnan(value) else (min(low, value), max(high, value))


def _reliability(
    plan: Plan, answers: Mapping[int, int | None], weights: np.ndarray, number: np.ndarray
) -> list[dict[str, Any]]:
    """Compare how sure the predictions were with how often they were right, each point counted by what it stands for."""
    rows = [
        (item.confidence, weights[item.predicted] / number[item.predicted], answers[item.number] == item.predicted)
        for item in plan.items
        if answers.get(item.number) is not None and not math.isnan(item.confidence)
    ]
    table = []
    for low, high in itertools.pairwise(RELIABILITY):
        inside = [r for r in rows if low <= r[0] < high or r[0] == high == RELIABILITY[-1]]
        if not inside:
            continue
        sure, weight, good = (np.array(column, float) for column in zip(*inside, strict=True))
        share = float((weight * good).sum() / weight.sum())
        worth = float(weight.sum() ** 2 / (weight**2).sum())  # as many points of equal weight would say as much
        begin, end = jeffreys(np.array([share * worth]), np.array([worth]))
        mean = float((weight * sure).sum() / weight.sum())
        row = {"low": low, "high": high, "n": len(inside), "confidence": mean, "accuracy": share}
        table.append(row | {"interval": (float(begin[0]), float(end[0]))})
    return table


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else math.nan


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value
