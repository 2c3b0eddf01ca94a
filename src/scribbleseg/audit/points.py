"""Which points are looked at: random ones, a number for each predicted class, with known chances."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from scribbleseg.errors import ConfigError
from scribbleseg.records import UNLABELLED

Unit = Literal["pixel", "patch"]

#: Half the side of a patch, without its middle, and half of what is shown around a pixel.
PATCH_RADIUS, PIXEL_RADIUS = 8, 24

#: Share of the points that is given to all classes alike; the rest goes by how much of the picture a class has.
EVEN = 0.5


@dataclass(frozen=True)
class Item:
    """A point to be looked at.

    Attributes:
        number: from 1, in the order in which they are to be looked at, which is random.
        image: its stem.
        x, y: column and row of the pixel, or of the middle of the patch.
        radius: of what is judged (a patch) or shown (around a pixel), px.
        predicted: class id; not to be told before the answer.
        confidence: of the prediction, from 0 to 1; NaN where there is none.
    """

    number: int
    image: str
    x: int
    y: int
    radius: int
    predicted: int
    confidence: float = float("nan")


@dataclass(frozen=True)
class Plan:
    """The points of an audit, and what is needed to conclude from them.

    Attributes:
        names: class names by id.
        unit: ``pixel`` or ``patch``.
        sizes: number of pixels (patches) predicted as each class, over all images.
        items: in the order of their numbers.
    """

    names: tuple[str, ...]
    unit: Unit
    sizes: tuple[int, ...]
    items: tuple[Item, ...]

    def tree(self) -> dict[str, Any]:
        """Return the plan as plain values, for JSON."""
        items = [asdict(item) | {"confidence": None if np.isnan(item.confidence) else item.confidence} for item in self.items]
        return {"names": list(self.names), "unit": self.unit, "sizes": list(self.sizes), "items": items}

    @classmethod
    def from_tree(cls, tree: dict[str, Any]) -> Plan:
        """Return the plan that :meth:`tree` wrote."""
        items = [
            Item(**each | {"confidence": float("nan") if each["confidence"] is None else each["confidence"]})
            for each in tree["items"]
        ]
        return cls(tuple(tree["names"]), tree["unit"], tuple(tree["sizes"]), tuple(items))


class Pool:
    """Takes predictions one image after the other and keeps a random sample of each predicted class.

    Every unit gets a random key; the units with the smallest keys of a class are a sample of it without replacement, however
    the images come. Memory: ``number`` candidates a class.

    Args:
        names: class names by id.
        number: of points wanted in all.
        unit: ``pixel``; or ``patch``: squares that tile each image, of the class that most of it was given.
        rng: source of randomness.
    """

    def __init__(self, names: tuple[str, ...], number: int, unit: Unit, rng: np.random.Generator) -> None:
        if number < 1:
            raise ConfigError("audit", "at least one point", str(number), "try 100")
        self.names, self.number, self.unit, self.rng = names, number, unit, rng
        self.sizes = np.zeros(len(names), np.int64)
        self.kept: list[list[tuple[float, str, int, int, float]]] = [[] for _ in names]

    def add(self, image: str, prediction: np.ndarray, confidence: np.ndarray | None = None) -> None:
        """Take an image's prediction, uint8 (H, W), and perhaps how sure it was, (H, W) from 0 to 1."""
        if self.unit == "patch":
            prediction, confidence = majority(prediction, len(self.names)), None if confidence is None else blocks(confidence)
        flat = prediction.ravel()
        for label in np.unique(flat[flat != UNLABELLED]).tolist():
            own = np.flatnonzero(flat == label)
            self.sizes[label] += len(own)
            number = min(self.number, len(own))
            chosen = own[self.rng.choice(len(own), number, replace=False)]
            sure = np.full(number, np.nan) if confidence is None else confidence.ravel()[chosen].astype(float)
            row, column = np.divmod(chosen, prediction.shape[1])
            keys = smallest_keys(len(own), number, self.rng)
            rows = zip(keys.tolist(), [image] * number, column.tolist(), row.tolist(), sure.tolist(), strict=True)
            self.kept[label] = sorted([*self.kept[label], *rows])[: self.number]

    def plan(self) -> Plan:
        """Return the points of all images taken so far."""
        wanted = allocate(self.sizes, self.number)
        found = [(label, each) for label, n in enumerate(wanted.tolist()) for each in self.kept[label][:n]]
        order = self.rng.permutation(len(found))
        side, radius = (2 * PATCH_RADIUS, PATCH_RADIUS) if self.unit == "patch" else (1, PIXEL_RADIUS)
        items = []
        for number, at in enumerate(order.tolist(), 1):
            label, (_, image, column, row, sure) = found[at]
            items.append(Item(number, image, column * side + side // 2, row * side + side // 2, radius, label, sure))
        return Plan(self.names, self.unit, tuple(self.sizes.tolist()), tuple(items))


def smallest_keys(population: int, number: int, rng: np.random.Generator) -> np.ndarray:
    """Return the smallest of ``population`` uniform random numbers, ascending, without drawing the others."""
    left = population - np.arange(number)
    rest = np.cumsum(np.log1p(-rng.random(number)) / left)
    return np.asarray(-np.expm1(rest))


def allocate(sizes: np.ndarray, number: int) -> np.ndarray:
    """Return how many points each class gets: half of them alike, half by size; never more than it has.

    Olofsson et al. 2014: a share by size is best for the overall accuracy, the same number for every class best for
    each class's own; they advise a compromise.
    """
    sizes = np.asarray(sizes, np.int64)
    present = sizes > 0
    given = np.zeros(len(sizes), np.int64)
    if not present.any():
        return given
    wanted = number * (EVEN * present / present.sum() + (1 - EVEN) * sizes / sizes.sum())
    while given.sum() < min(number, sizes.sum()):
        given[np.argmax(np.where(given < sizes, wanted - given, -np.inf))] += 1
    return given


def majority(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the class that has most of each square of 2 · ``PATCH_RADIUS`` px; 255 where all of it is unlabelled."""
    counts = np.stack([blocks((labels == c).astype(np.float32)) for c in range(num_classes)])
    return np.where(counts.max(axis=0) > 0, counts.argmax(axis=0), UNLABELLED).astype(np.uint8)


def blocks(values: np.ndarray) -> np.ndarray:
    """Return the mean of each square of 2 · ``PATCH_RADIUS`` px; those at the right and below may be smaller."""
    side = 2 * PATCH_RADIUS
    starts = [np.arange(0, n, side) for n in values.shape]
    sums = np.add.reduceat(np.add.reduceat(values.astype(np.float64), starts[0], axis=0), starts[1], axis=1)
    areas = np.outer(*(np.diff(np.append(s, n)) for s, n in zip(starts, values.shape, strict=True)))
    return np.asarray(sums / areas)
