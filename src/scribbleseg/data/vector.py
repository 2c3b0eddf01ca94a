"""Strokes as lines: the one function that turns them into labels, and the file that keeps them.

The drawing page, the trainer and the simulator all rasterise here, so that they agree on every pixel.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from scribbleseg.atomic import write_text
from scribbleseg.data.images import MAX_PIXELS
from scribbleseg.data.shards.files import File
from scribbleseg.errors import ConfigError, DataError
from scribbleseg.records import UNLABELLED, Stroke

#: A file is refused beyond these: 2¹⁸ points are 18 minutes of a pen at 240 Hz without lifting it.
MAX_BYTES, MAX_POINTS, MAX_WIDTH_PX, FARTHEST_PX = 32 * 2**20, 2**18, 4096.0, 1e6

#: Rows of segments that are drawn on an image, of all strokes together: about 20 s. Dense hatching of a photograph has 10⁵.
MAX_ROWS = 2**24

#: Rows of segments that are worked on at a time: about 2 MB, which stay in the cache.
CHUNK = 2**13

#: What is found approximately is found with so many pixels to spare, and then tested exactly.
SLACK = 2.0**-10


def rasterise(strokes: Iterable[Stroke], size: tuple[int, int], width_px: float | None = None) -> np.ndarray:
    """Return the labels that strokes draw: uint8 (H, W), 255 where nobody drew. Later strokes lie over earlier ones.

    A pixel belongs to a stroke if and only if its centre is at most ``max(width / 2, √½)`` from the line through the
    stroke's points (from the point, where there is one): from the nearest place on the nearest segment, not from the
    infinite line. √½ is half a pixel's diagonal: no line has gaps, however thin, and a dot has at least one pixel.
    Points may lie outside the image.

    Args:
        strokes: in the order in which they were drawn.
        size: (height, width) of the image.
        width_px: of all brushes, instead of each stroke's own. Erasers keep theirs, or a thinner drawing would show again
            what was erased.

    Raises:
        DataError: points that are not (N, 2), not finite or far from any image; or more to draw than anybody draws.

    Float64 sums, products, quotients and roots alone, each rounded as IEEE 754 has it: all machines agree. Pixels exactly at
    that distance belong to the stroke where coordinates and widths are multiples of 1/256 px, as centres, corners and a
    mouse's places on a screen of whole zoom are; the outcome is then the same bit for bit when all is flipped or transposed.

    Cost: 1 µs for every row of pixels that a segment touches, however many columns; 2 MB beside the labels and 100 bytes
    for each point of the longest stroke. A stroke of 10⁵ points takes 1 s if it is 5 px wide and 6 s at 50.
    """
    labels = np.full(size, UNLABELLED, np.uint8)
    draw_over(labels, strokes, width_px)
    return labels


def draw_over(labels: np.ndarray, strokes: Iterable[Stroke], width_px: float | None = None) -> None:
    """Draw strokes over labels as :func:`rasterise` does, in place: the first strokes, then the rest, give what all give.

    Args:
        labels: uint8 (H, W), one block of memory.
        strokes: in the order in which they were drawn.
        width_px: of all brushes, instead of each stroke's own.

    Raises:
        DataError: as :func:`rasterise`, where more than these strokes is too much to draw by themselves. Nothing is drawn.
    """
    size = (labels.shape[0], labels.shape[1])
    flat = labels.reshape(-1)
    strokes = tuple(strokes)
    _refuse_too_much(strokes, size, width_px)
    for stroke in strokes:
        for start, stop in _runs(_lines(stroke.points, _width(stroke, width_px), size), size):
            flat[start:stop] = UNLABELLED if stroke.tool == "eraser" else stroke.label


def _width(stroke: Stroke, width_px: float | None) -> float:
    return stroke.width_px if stroke.tool == "eraser" or width_px is None else width_px


def _refuse_too_much(strokes: Sequence[Stroke], size: tuple[int, int], width_px: float | None) -> None:
    """Refuse what would take minutes to draw before any of it is drawn."""
    if sum(np.size(stroke.points) for stroke in strokes) * size[0] <= MAX_ROWS:
        return  # no more, even if every segment touches all rows
    num_rows = sum(rows_of(stroke, size, width_px) for stroke in strokes)
    if num_rows > MAX_ROWS:
        got = f"{num_rows}: too many points for so wide a brush"
        raise DataError("strokes", f"segments that touch at most {MAX_ROWS} rows of pixels", got, "draw them simpler")


def rows_of(stroke: Stroke, size: tuple[int, int], width_px: float | None = None) -> int:
    """Return how many rows of pixels a stroke's segments touch, which ``MAX_ROWS`` limits: 1 µs each to draw.

    Raises:
        DataError: a stroke that cannot be drawn.
    """
    return int(_lines(stroke.points, _width(stroke, width_px), size).number.sum())


class _Lines(NamedTuple):
    """A stroke's segments: ends (2, M), square of the reach, first row that each touches and how many."""

    a: np.ndarray
    b: np.ndarray
    reach2: float
    first: np.ndarray
    number: np.ndarray


def _lines(points: np.ndarray, width_px: float, size: tuple[int, int]) -> _Lines:
    points = np.asarray(points, np.float64)
    if points.ndim != 2 or points.shape[1:] != (2,) or not (np.abs(points) <= FARTHEST_PX).all():
        got = f"shape {points.shape}, up to {np.abs(points).max(initial=0):g}"
        raise DataError("a stroke", f"points (N, 2) within {FARTHEST_PX:g} px of the corner", got, "mend the stroke")
    if not 0 <= width_px <= FARTHEST_PX:
        raise DataError("a stroke", f"a width from 0 to {FARTHEST_PX:g} px", f"{width_px:g}", "mend the stroke")
    a, b = _segments(points)
    reach2 = _reach2(width_px)
    reach = np.sqrt(reach2)
    first = np.clip(np.ceil(np.minimum(a[1], b[1]) - reach - 0.5 - SLACK), 0, size[0]).astype(int)
    beyond = np.clip(np.floor(np.maximum(a[1], b[1]) + reach - 0.5 + SLACK) + 1, 0, size[0]).astype(int)
    return _Lines(a, b, reach2, first, np.maximum(beyond - first, 0))


def _runs(lines: _Lines, size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Yield the pixels of a stroke as intervals of the flattened image."""
    a, b, reach2, first, number = lines
    total = np.cumsum(number)
    at = 0
    while at < len(number):
        done = total[at - 1] if at else 0
        end = max(at + 1, int(np.searchsorted(total, done + CHUNK, side="right")))
        segment = np.repeat(np.arange(at, end), number[at:end])
        row = first[segment] + np.arange(len(segment)) - (total - number)[segment] + done
        start, stop = _spans(row, a[:, segment], b[:, segment], reach2, size[1])
        drawn = start < stop
        yield from _merged(row[drawn] * size[1] + start[drawn], row[drawn] * size[1] + stop[drawn])
        at = end


def _segments(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends (2, M) of a line's segments, each from the left: either direction gives the same numbers."""
    a, b = (points, points) if len(points) == 1 else (points[:-1], points[1:])
    turn = (a[:, 0] > b[:, 0]) | ((a[:, 0] == b[:, 0]) & (a[:, 1] > b[:, 1]))
    return np.where(turn[:, None], b, a).T, np.where(turn[:, None], a, b).T


def _reach2(width_px: float) -> float:
    return max(width_px * width_px / 4, 0.5)


def touching(points: np.ndarray, width_px: float, centres: np.ndarray) -> np.ndarray:
    """Say which of a stroke's segments (of its point, where there is one) have any of the pixels at ``centres`` (M, 2)."""
    a, b = _segments(np.asarray(points, np.float64))
    along = b - a
    length2 = along[0] * along[0] + along[1] * along[1]
    touched = np.zeros(len(length2), bool)
    for x, y in centres:
        touched |= _near(np.float64(x), np.float64(y), a, b, along, length2, _reach2(width_px))
    return touched


def _spans(row: np.ndarray, a: np.ndarray, b: np.ndarray, reach2: float, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where the pixels of each row that are near its segment start and stop; the start is not less where none is.

    What is near a segment is convex: in each row it is an interval. Where its ends lie is computed, with ``SLACK`` to spare;
    which of the two pixels that may be outermost there belongs to it is then tested.
    """
    y = row + 0.5
    along = b - a
    length2 = along[0] * along[0] + along[1] * along[1]
    reach, length = np.sqrt(reach2), np.sqrt(length2)
    outermost = []
    for side, none in ((-1.0, width), (1.0, -1)):
        # The border of the strip meets the row where a perpendicular of length ``reach`` ends whose foot is on the segment;
        # beyond the segment the nearer end is the foot. A flat segment has its left end first.
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            down = -side * np.sign(along[1]) * along[0] / length
            foot = np.clip((y - reach * down - a[1]) / along[1], 0, 1)
        foot = np.where(along[1] == 0, (side + 1) / 2, foot)
        off = y - (a[1] + foot * along[1])
        x = a[0] + foot * along[0] + side * (np.sqrt(np.maximum(reach2 - off * off, 0)) + SLACK)
        outer = np.ceil(x - 0.5) if side < 0 else np.floor(x - 0.5)
        found = np.full(len(row), none)
        for column in (outer - side, outer):
            column = np.clip(column, -1, width)  # beyond the image one place is as good as another
            near = _near(column + 0.5, y, a, b, along, length2, reach2)
            found = np.where(near, column, found)
        outermost.append(found)
    return np.clip(outermost[0], 0, width).astype(int), np.clip(outermost[1] + 1, 0, width).astype(int)


def _near(
    x: np.ndarray | np.float64,
    y: np.ndarray | np.float64,
    a: np.ndarray,
    b: np.ndarray,
    along: np.ndarray,
    length2: np.ndarray,
    reach2: float,
) -> np.ndarray:
    """Say whether points are at most √reach2 from their segments. No division: exact where the coordinates are short."""
    ax, ay, bx, by = x - a[0], y - a[1], x - b[0], y - b[1]
    place = ax * along[0] + ay * along[1]
    across = ax * along[1] - ay * along[0]
    near_a = ax * ax + ay * ay <= reach2
    near_b = bx * bx + by * by <= reach2
    between = across * across <= reach2 * length2
    return np.where(place <= 0, near_a, np.where(place >= length2, near_b, between))


def _merged(start: np.ndarray, stop: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield the union of intervals as intervals that do not meet."""
    if not len(start):
        return
    order = np.argsort(start, kind="stable")
    start, stop = start[order], np.maximum.accumulate(stop[order])
    gap = np.flatnonzero(start[1:] > stop[:-1])
    begins, ends = np.append(0, gap + 1), np.append(gap, len(start) - 1)
    yield from zip(start[begins].tolist(), stop[ends].tolist(), strict=True)


Place = Annotated[float, Field(ge=-FARTHEST_PX, le=FARTHEST_PX, allow_inf_nan=False)]
Side = Annotated[int, Field(ge=1, le=MAX_PIXELS)]


class Line(BaseModel):
    """A stroke as it stands in the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)

    label: Annotated[int, Field(alias="class", ge=0, lt=UNLABELLED)]
    width_px: Annotated[float, Field(gt=0, le=MAX_WIDTH_PX, allow_inf_nan=False)]
    tool: Literal["brush", "eraser"] = "brush"
    points: Annotated[list[tuple[Place, Place]], Field(min_length=1)]
    time: Annotated[str | None, Field(max_length=40)] = None
    author: Annotated[str | None, Field(max_length=200)] = None

    @field_validator("time")
    @classmethod
    def _iso(cls, time: str | None) -> str | None:
        if time is not None:
            datetime.fromisoformat(time)
        return time


class _Drawing(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    version: Literal[1]
    size: tuple[Side, Side]
    strokes: list[Line]

    @model_validator(mode="after")
    def _bounded(self) -> _Drawing:
        if self.size[0] * self.size[1] > MAX_PIXELS:
            raise ValueError(f"an image of at most {MAX_PIXELS} pixels")
        if sum(len(line.points) for line in self.strokes) > MAX_POINTS:
            raise ValueError(f"at most {MAX_POINTS} points in all")
        return self


def read_strokes(path: File) -> tuple[tuple[Stroke, ...], tuple[int, int]]:
    """Read ``strokes/STEM.json``: the strokes in the order drawn, and (height, width) of the image they are for.

    Raises:
        DataError: missing, no such file as :func:`write_strokes` makes, or too large.
    """
    do = "docs/reference/dataset.md shows the file"
    try:
        if path.stat().st_size > MAX_BYTES:
            got = f"{path.stat().st_size / 2**20:.0f} MiB"
            raise DataError(path, f"strokes in at most {MAX_BYTES // 2**20} MiB", got, "draw with fewer points")
        drawing = _Drawing.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(path, "a file of strokes", error.strerror or str(error), "draw them, or check the path") from None
    except ValidationError as error:
        told = ConfigError.from_pydantic(error, path, _Drawing)
        got = told.got if len(told.got) <= 200 else told.got[:200] + " …"
        raise DataError(told.where, told.expected, got, do) from None
    strokes = tuple(
        Stroke(line.label, line.width_px, np.array(line.points, np.float64), line.tool, line.time, line.author)
        for line in drawing.strokes
    )
    return strokes, (drawing.size[1], drawing.size[0])


def write_strokes(path: Path, strokes: Iterable[Stroke], size: tuple[int, int]) -> None:
    """Write strokes so that :func:`read_strokes` gives the same; the file appears whole or not at all.

    Args:
        size: (height, width) of the image.

    Raises:
        DataError: something in them that would be refused on reading; nothing is written then.
        StorageError: the file cannot be written.
    """
    lines = [
        {
            "class": stroke.label,
            "width_px": float(stroke.width_px),
            "tool": stroke.tool,
            "points": np.asarray(stroke.points, np.float64).tolist(),
            "time": stroke.time,
            "author": stroke.author,
        }
        for stroke in strokes
    ]
    head = {"version": 1, "size": [size[1], size[0]]}
    try:
        _Drawing.model_validate_json(json.dumps({**head, "strokes": lines}))
    except ValidationError as error:
        told = ConfigError.from_pydantic(error, path, _Drawing)
        raise DataError(told.where, told.expected, told.got[:200], "mend the stroke") from None
    body = ",\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    write_text(path, f'{json.dumps(head)[:-1]}, "strokes": [\n{body}\n]}}\n')
