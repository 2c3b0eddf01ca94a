"""A connected region of a mask, and what drawing in it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import ndimage

from scribbleseg.extras import library
from scribbleseg.records import UNLABELLED

#: What lies around a region's box in its cut-out: never inside.
RIM = 2


@dataclass(frozen=True, eq=False)
class Region:
    """One 4-connected region of a class, cut out of its mask with a rim of ``RIM`` pixels around its box.

    Attributes:
        label: its class id.
        inside: (h, w), True where the region is.
        origin: x and y of the cut-out's corner in the image, px.
        surrounds: whether it reaches three sides of the image or more and other classes lie in its box, as with a background.
    """

    label: int
    inside: np.ndarray
    origin: tuple[int, int]
    surrounds: bool

    @cached_property
    def depth(self) -> np.ndarray:
        """Distance of each pixel's centre from the nearest that is not inside, px; the image's edge is a border too."""
        return ndimage.distance_transform_edt(self.inside)

    @cached_property
    def depth_within(self) -> np.ndarray:
        """The same, where the edge of the region's box, and so the image's, is no border; infinite where there is none."""
        here = np.pad(self.inside[RIM:-RIM, RIM:-RIM], RIM, constant_values=True)
        return ndimage.distance_transform_edt(here) if not here.all() else np.full(here.shape, np.inf)

    @property
    def area(self) -> int:
        """Number of its pixels."""
        return int(self.inside.sum())

    def place(self, rng: np.random.Generator, among: np.ndarray | None = None) -> tuple[int, int]:
        """Return (row, column) of a random pixel, likelier the farther it is from the border.

        Args:
            rng: source of randomness.
            among: (h, w) weights besides; where they leave nothing, all pixels are considered.
        """
        weight = (self.depth**2 if among is None else self.depth**2 * among).ravel()
        total = np.cumsum(weight)
        if total[-1] <= 0:
            return self.place(rng)
        pixel = int(np.searchsorted(total, rng.random() * total[-1], side="right"))
        row, column = divmod(min(pixel, len(weight) - 1), self.inside.shape[1])
        return row, column


#: Lines, (N, 2) points x, y in the cut-out's pixels, that a hand would draw in a region with a brush of a width in px. They may
#: leave it: what lies outside is cut off.
Style = Callable[[Region, np.random.Generator, float], list[np.ndarray]]


def regions(mask: np.ndarray, min_area: int) -> Iterator[Region]:
    """Yield the regions of at least ``min_area`` pixels, class by class, each from the top. Pixels of 255 are in none."""
    for label in np.unique(mask[mask != UNLABELLED]).tolist():
        numbers, _ = ndimage.label(mask == label)
        for number, box in enumerate(ndimage.find_objects(numbers), 1):
            inside = numbers[box] == number
            area = int(inside.sum())
            if area >= min_area:
                others = ((mask[box] != label) & (mask[box] != UNLABELLED)).any()
                origin = (box[1].start - RIM, box[0].start - RIM)
                yield Region(label, np.pad(inside, RIM), origin, surrounds=bool(others) and reaches_far(box, mask))


def reaches_far(box: tuple[slice, slice], mask: np.ndarray) -> bool:
    """Say whether a box reaches three sides of the image at least."""
    height, width = mask.shape
    return sum([box[0].start == 0, box[0].stop == height, box[1].start == 0, box[1].stop == width]) >= 3


def scikit_image(part: str) -> Any:
    """Return a module of scikit-image, or say how to get it."""
    instead = "take a style that needs none of it: straight, curve, walk or points"
    what = "which computes paths and outlines"
    return library(f"skimage.{part}", "scribbleseg simulate", what, "simulate", instead=instead)


def centre_of(pixels: np.ndarray) -> np.ndarray:
    """Return the points x, y at the centres of pixels (N, 2) given as row, column."""
    return np.asarray(pixels, np.float64).reshape(-1, 2)[:, ::-1] + 0.5


def length_px(line: np.ndarray) -> float:
    """Return the length of a line."""
    return float(np.hypot(*np.diff(line, axis=0).T).sum())


def resampled(line: np.ndarray, spacing_px: float) -> np.ndarray:
    """Return a line's points at even distances of at most ``spacing_px`` along it, its ends among them."""
    steps = np.hypot(*np.diff(line, axis=0).T)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    if along[-1] == 0:
        return line[:1]
    wanted = np.linspace(0, along[-1], max(2, int(np.ceil(along[-1] / spacing_px)) + 1))
    return np.stack([np.interp(wanted, along, line[:, axis]) for axis in (0, 1)], axis=1)


def smoothed(line: np.ndarray, sigma_px: float) -> np.ndarray:
    """Return a line as a hand draws it, without the corners of a grid; points 2 px apart, its ends where they were."""
    line = resampled(line, 2.0)
    if len(line) < 3:
        return line
    ends = line[[0, -1]]
    line = ndimage.gaussian_filter1d(line, sigma_px / 2, axis=0, mode="nearest")
    return np.concatenate([ends[:1], line[1:-1], ends[1:]])
