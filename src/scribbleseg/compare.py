"""Two files of scores on the same images: is the difference more than chance?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import wilcoxon

from scribbleseg.errors import DataError
from scribbleseg.metrics.bootstrap import interval
from scribbleseg.scores import shown, volume_mean

#: Pooled scores with their names in words, and the key of the same score an image, where there is one.
FIGURES = {
    "miou": ("mIoU", "miou"),
    "foreground_dice": ("foreground Dice", None),
    "pixel_accuracy": ("pixel accuracy", "pixel_accuracy"),
}

#: Fewer pairs than this cannot come out significant at 5 % in Wilcoxon's test.
SMALLEST_TEST = 6


@dataclass(frozen=True)
class Difference:
    """How two models differ in a score.

    Attributes:
        name: of the score, in words.
        one, other: the pooled scores; None where there is none.
        difference: other − one, with its 95 % ``interval`` from a bootstrap over the images (or volumes) they share.
        p: of Wilcoxon's signed-rank test of the score an image (or a volume), two-sided; None for fewer than 6 that differ.
        cases: number of pairs in that test.
    """

    name: str
    one: float | None
    other: float | None
    difference: float | None
    interval: tuple[float, float] | None
    p: float | None
    cases: int

    def texts(self) -> tuple[str, str, str, str]:
        """Return difference, interval, p and number of pairs as they are printed; a dash for what is not defined."""
        gained = "–" if self.difference is None else f"{self.difference:+.3f}"
        between = "–" if self.interval is None else f"{self.interval[0]:+.3f} … {self.interval[1]:+.3f}"
        p = "–" if self.p is None else "< 0.001" if self.p < 0.001 else f"{self.p:.3f}"
        return gained, between, p, str(self.cases or "–")


def compare(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[Difference]:
    """Compare two trees of ``scores.read_scores``.

    Raises:
        DataError: they are not of the same images, or of the same classes.
    """
    stems = [{row["stem"] for row in tree["per_image"]} for tree in (one, other)]
    if stems[0] != stems[1] or list(one["classes"]) != list(other["classes"]):
        apart = sorted(stems[0] ^ stems[1])
        got = f"{len(apart)} images in one alone, as {apart[0]}" if apart else "other classes"
        raise DataError("the two files", "scores of the same images and classes", got, "evaluate both on the same split")
    for tree in (one, other):
        if "replicates" not in tree:
            raise DataError(str(tree.get("source")), "scores with `replicates`", "none", "evaluate it again with this version")
    found = [_difference(one, other, key, name, of_image) for key, (name, of_image) in FIGURES.items()]
    if "per_volume" in one and "per_volume" in other:
        found.append(_of_volumes(one, other))
    return found


def _difference(one: Mapping[str, Any], other: Mapping[str, Any], key: str, name: str, of_image: str | None) -> Difference:
    a, b = one[key], other[key]
    p, cases = None, 0
    if of_image is not None:
        p, cases = _test(*({row["stem"]: row[of_image] for row in tree["per_image"]} for tree in (one, other)))
    sets = [np.array(tree["replicates"][key], np.float64) for tree in (one, other)]
    low, high = interval(sets[1] - sets[0])
    known = a is not None and b is not None
    return Difference(name, a, b, b - a if known else None, (low, high) if known and not np.isnan(low) else None, p, cases)


def _of_volumes(one: Mapping[str, Any], other: Mapping[str, Any]) -> Difference:
    a, b = one["volume_dice"]["foreground"], other["volume_dice"]["foreground"]
    p, cases = _test(*({row["volume"]: volume_mean(row) for row in tree["per_volume"]} for tree in (one, other)))
    return Difference("Dice a volume", a, b, b - a if a is not None and b is not None else None, None, p, cases)


def _test(one: Mapping[str, float | None], other: Mapping[str, float | None]) -> tuple[float | None, int]:
    pairs = [(a, other[name]) for name, a in one.items()]
    differences = [b - a for a, b in pairs if a is not None and b is not None]
    if sum(d != 0 for d in differences) < SMALLEST_TEST:
        return None, len(differences)
    return float(wilcoxon(differences).pvalue), len(differences)


def comparison_table(found: list[Difference], names: tuple[str, str]) -> str:
    """Return the differences as text."""
    width = max(14, *(len(name) + 2 for name in names))
    lines = [f"{'':<16}{names[0]:>{width}}{names[1]:>{width}}{'difference':>12}{'95 %':>18}{'p':>10}{'pairs':>7}"]
    for d in found:
        gained, between, p, cases = d.texts()
        scores = f"{shown(d.one):>{width}}{shown(d.other):>{width}}"
        lines.append(f"{d.name:<16}{scores}{gained:>12}{between:>18}{p:>10}{cases:>7}")
    return "\n".join(lines)
