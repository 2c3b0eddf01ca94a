"""Where a stroke would help most: frames that are doubtful, far from strokes and unlike one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

#: Whether the page offers it, and why: docs/explanation/live_learning.md has the comparison with frames anywhere.
ENABLED = True
WHY = "with a simulated user such frames were better than frames anywhere on photographs, and as good elsewhere"

#: Side of a frame as a share of the image's shorter side, and the least in px.
FRAME, LEAST_PX = 0.25, 32

#: Frames overlap by half: their places are this share of a side apart.
STEP = 0.5

#: Distance from strokes, in sides of a frame, at which it no longer matters.
REACH = 1.0

#: How much likeness to a frame that is already proposed takes from another, from 0 to 1.
UNLIKE = 0.7


@dataclass(frozen=True)
class Place:
    """A frame in an image: columns x0 to x1 and rows y0 to y1, px, and how doubtful it is from 0 to 1."""

    image: int
    x0: int
    y0: int
    x1: int
    y1: int
    doubt: float


@dataclass(frozen=True, eq=False)
class Seen:
    """What is known of an image.

    Attributes:
        image: its id.
        size: (height, width) of the image.
        labels, doubt: uint8 (h, w) of its prediction, on any grid.
        strokes: rows and columns (N, 2) of pixels of strokes in the image; may be a part of them.
        colours: (h, w, 3) on the same grid.
    """

    image: int
    size: tuple[int, int]
    labels: np.ndarray
    doubt: np.ndarray
    strokes: np.ndarray
    colours: np.ndarray


def rank(images: Sequence[Seen], limit: int) -> list[Place]:
    """Return the best frames, best first.

    A frame's worth is its mean doubt, times how far its middle is from a stroke (1 beyond a frame's side, a third on a stroke),
    times one minus ``UNLIKE`` times its likeness to the most alike of those before it: the likeness of two frames is that of
    their mean colours, spreads of colours and shares of classes; frames that overlap are wholly alike.
    """
    frames = [frame for one in images for frame in _frames(one)]
    if not frames:
        return []
    worth = np.array([frame[1] for frame in frames])
    kinds = np.stack([frame[2] for frame in frames])
    kinds = (kinds - kinds.mean(axis=0)) / (kinds.std(axis=0) + 1e-3) / kinds.shape[1] ** 0.5
    like = np.zeros(len(frames))
    chosen: list[Place] = []
    while len(chosen) < min(limit, len(frames)):
        now = worth * (1 - UNLIKE * like)
        now[[n for n, frame in enumerate(frames) if any(_overlap(frame[0], other) for other in chosen)]] = -1
        best = int(np.argmax(now))
        if now[best] <= 0:
            break
        chosen.append(frames[best][0])
        like = np.maximum(like, np.exp(-((kinds - kinds[best]) ** 2).sum(axis=1)))
    return chosen


def _overlap(one: Place, other: Place) -> bool:
    return one.image == other.image and one.x0 < other.x1 and other.x0 < one.x1 and one.y0 < other.y1 and other.y0 < one.y1


def frames_of(size: tuple[int, int]) -> list[tuple[int, int, int, int]]:
    """Return the frames of an image of (height, width): x0, y0, x1, y1."""
    side = min(max(LEAST_PX, round(FRAME * min(size))), *size)
    tops, lefts = (_starts(n, side) for n in size)
    return [(x, y, x + side, y + side) for y in tops for x in lefts]


def _starts(length: int, side: int) -> list[int]:
    number = 1 + -(-(length - side) // max(1, int(side * STEP)))
    return [round(k * (length - side) / max(1, number - 1)) for k in range(number)]


def _frames(one: Seen) -> list[tuple[Place, float, np.ndarray]]:
    """Return the frames of an image with their worth and what they look like."""
    height, width = one.doubt.shape
    scale = np.array([height / one.size[0], width / one.size[1]])
    doubt = one.doubt.astype(np.float32) / 255
    away = np.ones((height, width), bool)
    cells = (one.strokes * scale).astype(int)
    away[cells[:, 0].clip(0, height - 1), cells[:, 1].clip(0, width - 1)] = False
    far = ndimage.distance_transform_edt(away) if len(cells) else np.full(away.shape, np.inf)
    classes = range(int(one.labels.max(initial=0)) + 1)
    found = []
    for x0, y0, x1, y1 in frames_of(one.size):
        top, bottom = int(y0 * scale[0]), max(int(y0 * scale[0]) + 1, int(y1 * scale[0]))
        left, right = int(x0 * scale[1]), max(int(x0 * scale[1]) + 1, int(x1 * scale[1]))
        part = np.s_[top:bottom, left:right]
        mean = float(doubt[part].mean())
        near = min(1.0, float(far[(top + bottom) // 2, (left + right) // 2]) / (REACH * (bottom - top)))
        colours = np.asarray(one.colours[part], np.float32).reshape(-1, 3)
        shares = np.zeros(16, np.float32)
        for c in classes:
            shares[c % 16] += (one.labels[part] == c).mean()
        kind = np.concatenate([colours.mean(axis=0), colours.std(axis=0), shares])
        found.append((Place(one.image, x0, y0, x1, y1, mean), mean * (1 + 2 * near) / 3, kind))
    return found
