"""Which pixels of an image each stroke still has, after what was drawn and erased over it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scribbleseg.data.strokes import strokes_of
from scribbleseg.data.vector import rasterise
from scribbleseg.records import UNLABELLED, Stroke


@dataclass(frozen=True, eq=False)
class Owned:
    """A stroke's pixels.

    Attributes:
        key: names the stroke: the same line of the same class and width has the same key.
        label: class id.
        pixels: ascending indices into the flattened image.
    """

    key: str
    label: int
    pixels: np.ndarray


def owned(strokes: Sequence[Stroke], labels: np.ndarray) -> list[Owned]:
    """Return the strokes of an image that have pixels left, in the order drawn, then what else is labelled, piece by piece.

    Args:
        strokes: as they were drawn, erasers among them.
        labels: (H, W) as they were rasterised; what came with the image as a mask is in them alone.

    Cost: of each stroke its own box is drawn, so memory does not grow with the image, but for ``labels``.
    """
    size = (labels.shape[0], labels.shape[1])
    found = [_pixels(stroke, size) for stroke in strokes]
    order = np.concatenate([np.full(len(p), n) for n, p in enumerate(found)]) if found else np.zeros(0, int)
    pixels = np.concatenate(found) if found else np.zeros(0, int)
    last = len(pixels) - 1 - np.unique(pixels[::-1], return_index=True)[1] if len(pixels) else pixels
    own = [
        Owned(key_of(stroke), stroke.label, np.sort(pixels[last[order[last] == n]]))
        for n, stroke in enumerate(strokes)
        if stroke.tool == "brush"
    ]
    own = [each for each in own if len(each.pixels)]
    rest = labels.copy()
    rest.reshape(-1)[pixels] = UNLABELLED
    if (rest != UNLABELLED).any():
        own += [Owned(f"base {label} {first[0]} {len(first)}", label, first) for label, first in strokes_of(rest)]
    return own


def _pixels(stroke: Stroke, size: tuple[int, int]) -> np.ndarray:
    """Return the pixels of one stroke alone, drawn in its own box."""
    reach = stroke.width_px / 2 + 2
    left, top = np.floor(stroke.points.min(axis=0) - reach).astype(int).clip(0)
    right, bottom = np.minimum(np.ceil(stroke.points.max(axis=0) + reach).astype(int), [size[1], size[0]])
    if right <= left or bottom <= top:
        return np.zeros(0, int)
    line = Stroke(0, stroke.width_px, stroke.points - np.array([left, top], float))
    row, column = np.nonzero(rasterise([line], (int(bottom - top), int(right - left))) == 0)
    return (row + top) * size[1] + column + left


def key_of(stroke: Stroke) -> str:
    """Return a name that the same line of the same class, width and tool always has."""
    digest = hashlib.sha1(np.ascontiguousarray(stroke.points, np.float64).tobytes(), usedforsecurity=False)
    digest.update(f"{stroke.label} {float(stroke.width_px)} {stroke.tool}".encode())
    return digest.hexdigest()
