"""How good, by strokes that were not learnt from: whole strokes, never pixels of a stroke that was.

Neighbouring pixels of one stroke are nearly the same: learning from some and scoring on others would only measure that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scribbleseg.annotate.instant import Samples, fit

#: Share of a class's strokes that a training does not see.
SHARE = 0.25

#: A class with fewer strokes than this gives none away.
FEWEST_TO_SHARE = 4

#: With fewer strokes held out, or of fewer than two classes, nothing is said.
FEWEST = 4

#: Groups of strokes that are left out in turn.
FOLDS = 5


@dataclass(frozen=True)
class Score:
    """How well held-out strokes are predicted.

    Attributes:
        value: share of a stroke's pixels that are right, mean over strokes of a class, then over classes; None where
            nothing can be said.
        error: its standard error, from how the strokes of a class differ.
        strokes, classes: how many there were.
    """

    value: float | None
    error: float
    strokes: int
    classes: int

    def tree(self) -> dict[str, float | int | None]:
        """Return it as plain values, None where nothing can be said."""
        error = None if self.value is None else self.error
        return {"value": self.value, "error": error, "strokes": self.strokes, "classes": self.classes}


def score(shares: Sequence[tuple[int, float]]) -> Score:
    """Return the score of strokes, each told as its class and the share of its pixels that is right."""
    by_class: dict[int, list[float]] = defaultdict(list)
    for label, share in shares:
        by_class[label].append(share)
    if len(shares) < FEWEST or len(by_class) < 2:
        return Score(None, float("nan"), len(shares), len(by_class))
    value = float(np.mean([np.mean(own) for own in by_class.values()]))
    spread = float(np.std(np.concatenate([np.array(own) - np.mean(own) for own in by_class.values()])))
    variance = sum(max(spread, 0.05) ** 2 / len(own) for own in by_class.values()) / len(by_class) ** 2
    return Score(value, variance**0.5, len(shares), len(by_class))


def choose(strokes: Sequence[tuple[str, int]], rng: np.random.Generator) -> set[str]:
    """Choose the strokes that a training is not to see: of each class with enough of them a quarter, one at least.

    Args:
        strokes: key and class of each.
        rng: source of randomness.

    Returns:
        Their keys; none where they would be too few to say anything.
    """
    by_class: dict[int, list[str]] = defaultdict(list)
    for key, label in strokes:
        by_class[label].append(key)
    chosen: set[str] = set()
    for own in by_class.values():
        if len(own) >= FEWEST_TO_SHARE:
            number = max(1, round(SHARE * len(own)))
            chosen |= {own[i] for i in rng.choice(len(own), number, replace=False).tolist()}
    labels = {label for key, label in strokes if key in chosen}
    return chosen if len(chosen) >= FEWEST and len(labels) >= 2 else set()


def instant_shares(samples: Mapping[str, Samples], judged: Sequence[str], *, kind: str = "auto") -> dict[str, float]:
    """Return the share of each judged stroke's cells that is right when the classifier learnt from all strokes of other groups.

    Args:
        samples: of all strokes, by key.
        judged: keys of the strokes to be scored; dealt into groups, each of which is left out as a whole.
        kind: of the classifier.
    """
    order = sorted(judged)
    shares: dict[str, float] = {}
    for fold in range(min(FOLDS, len(order))):
        out = set(order[fold::FOLDS])
        classifier = fit([each for key, each in samples.items() if key not in out], kind=kind)
        for key in out:
            right = 0.0
            if classifier is not None:
                found = classifier.classes[classifier.at(samples[key].features).argmax(axis=1)]
                right = float((found == samples[key].label).mean())
            shares[key] = right
    return shares


def network_shares(
    judged: Mapping[int, Sequence[tuple[str, int, np.ndarray]]], predict: Callable[[int], np.ndarray]
) -> dict[str, float]:
    """Return the share of each judged stroke's pixels that a network has right.

    Args:
        judged: by image: key, class and pixels of its strokes.
        predict: gives an image's classes at the image's size.
    """
    shares: dict[str, float] = {}
    for image, strokes in judged.items():
        found = predict(image).reshape(-1)
        shares |= {key: float((found[pixels] == label).mean()) for key, label, pixels in strokes}
    return shares


def better(network: Score | None, instant: Score | None) -> tuple[str, str]:
    """Say which overlay is to be shown, ``network`` or ``instant``, and why, in words for the page."""
    if network is None:
        return "instant", "there is no trained network yet"
    if network.value is None or instant is None or instant.value is None:
        held = f"{network.strokes} strokes of {network.classes} classes were kept from the training"
        return "instant", f"nothing can be said about the network: {held}, {FEWEST} of 2 classes are needed"
    numbers = (
        f"{100 * network.value:.0f} % against {100 * instant.value:.0f} % right on {network.strokes} strokes it has not seen"
    )
    if network.value > instant.value:
        sure = "" if network.value - instant.value > network.error else "; so few strokes that it may be chance"
        return "network", f"the network is better: {numbers}{sure}"
    return "instant", f"the network is not better: {numbers}"
