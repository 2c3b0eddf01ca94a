"""Label maps from and to other conventions: which value means "not annotated", ids that move down, filled polygons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scribbleseg.errors import DataError
from scribbleseg.records import UNLABELLED

#: A polygon whose outline crosses more rows of pixels than this in all is refused (64 MiB times a few at work).
MAX_CROSSINGS = 1 << 23


def to_ours(where: object, labels: np.ndarray, unlabelled: int) -> np.ndarray:
    """Return labels in which 255 means "not annotated"; ids above ``unlabelled`` move down by one.

    Args:
        where: the file, for the message.
        labels: whole numbers (H, W).
        unlabelled: the value that means it in them.

    Raises:
        DataError: not one channel of whole numbers, or a value that cannot be a class.
    """
    if labels.ndim != 2 or labels.dtype.kind not in "bui":
        got = f"{labels.dtype} of shape {labels.shape}"
        raise DataError(where, "one channel of class ids, whole numbers", got, "export label ids, not probabilities or colours")
    lowest, highest = int(labels.min(initial=0)), int(labels.max(initial=0))
    drawn = labels != unlabelled
    if lowest < 0 or int(labels.max(initial=0, where=drawn)) > (UNLABELLED - 1 if unlabelled >= UNLABELLED else UNLABELLED):
        got = f"values from {lowest} to {highest}"
        raise DataError(where, "class ids from 0 to 254", got, "check which value means 'not annotated' (--unlabelled)")
    ids = labels.astype(np.int32)
    return np.where(drawn, ids - (ids > unlabelled), UNLABELLED).astype(np.uint8)


def from_zero(labels: np.ndarray) -> np.ndarray:
    """Return labels in which 0 means "not annotated" and class k is k + 1; uint8, for 254 classes at most."""
    return np.where(labels == UNLABELLED, 0, labels + np.uint8(1)).astype(np.uint8)


def check_ids(where: object, labels: np.ndarray, names: Sequence[str]) -> None:
    """Refuse ids that have no name.

    Raises:
        DataError: there is one.
    """
    strange = np.flatnonzero(np.bincount(labels.ravel(), minlength=256)[len(names) : UNLABELLED]) + len(names)
    if len(strange):
        got = f"id {', '.join(map(str, strange[:5]))}"
        raise DataError(where, f"class ids 0 to {len(names) - 1}", got, "name every class (--names), or mend the file")


def fill(where: object, rings: Sequence[np.ndarray], size: tuple[int, int]) -> tuple[np.ndarray, tuple[int, int]]:
    """Return which pixels have their centre inside a polygon, by the even-odd rule: further rings cut holes.

    Args:
        where: the file, for the message.
        rings: each float (N, 2) of x, y; the corner of the picture is (0, 0), the centre of its first pixel (0.5, 0.5).
        size: (height, width) of the picture.

    Returns:
        A bool mask of the part that the polygon reaches, and the (y, x) of its top left pixel.

    Raises:
        DataError: the outline is absurdly long.

    Cost: points + rows that the edges cross + the area of the bounding box.
    """
    height, width = size
    if not rings:
        return np.zeros((0, 0), dtype=bool), (0, 0)
    start = np.concatenate(rings)
    end = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
    x0, y0, x1, y1 = start[:, 0], start[:, 1], end[:, 0], end[:, 1]
    first = np.clip(np.ceil(np.minimum(y0, y1) - 0.5), 0, height).astype(np.int64)
    last = np.clip(np.ceil(np.maximum(y0, y1) - 0.5), 0, height).astype(np.int64)
    rows = last - first
    if rows.sum() > MAX_CROSSINGS:
        got = f"one that crosses {rows.sum()} rows of pixels"
        raise DataError(where, f"an outline that crosses at most {MAX_CROSSINGS}", got, "draw or export it simpler")
    if not rows.sum():
        return np.zeros((0, 0), dtype=bool), (0, 0)
    top, bottom = int(first[rows > 0].min()), int(last.max())
    edge = np.repeat(np.arange(len(rows)), rows)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(rows) - rows, rows) + first[edge]
    x = x0[edge] + (row + 0.5 - y0[edge]) * (x1 - x0)[edge] / (y1 - y0)[edge]
    column = np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)
    left, right = int(column.min()), int(column.max())
    wide = right - left + 1
    toggles = np.bincount((row - top) * wide + column - left, minlength=(bottom - top) * wide).astype(np.uint8) & 1
    parity = np.bitwise_xor.accumulate(toggles.reshape(bottom - top, wide), axis=1)
    return parity[:, :-1] == 1, (top, left)


def read_runs(where: object, counts: Sequence[int] | np.ndarray, length: int) -> np.ndarray:
    """Return bool (length,) from run lengths that alternate, starting with "outside".

    Raises:
        DataError: they are no whole numbers, or do not add up to ``length``.
    """
    try:
        runs = np.asarray(counts, dtype=np.float64)
        ok = runs.ndim == 1 and len(runs) and bool(((runs >= 0) & (runs <= length) & (runs == np.floor(runs))).all())
    except (TypeError, ValueError, OverflowError):
        ok, runs = False, np.empty(0)
    if not ok or runs.sum() != length:
        got = f"{int(runs.sum())}" if ok else "runs that are no counts, or too long"
        raise DataError(where, f"run lengths that add up to {length}", got, "export the mask again")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs.astype(np.int64))


def runs_of(inside: np.ndarray) -> list[int]:
    """Return alternating run lengths of a flat mask, starting with "outside", which may be 0 long."""
    edges = np.flatnonzero(np.diff(inside.astype(np.int8)))
    lengths = np.diff(np.concatenate([[-1], edges, [len(inside) - 1]]))
    return [0, *lengths.tolist()] if len(inside) and inside[0] else lengths.tolist()
