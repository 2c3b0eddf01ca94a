"""Which axis of an array is which, and what to cut out of it for one slice and window."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scribbleseg.data.readers.image import MAX_SLICES, Window
from scribbleseg.data.shards.files import File
from scribbleseg.errors import DataError

#: Up to so many entries, a last axis without a name is taken for channels.
MAX_COLOURS = 4


@dataclass(frozen=True)
class Layout:
    """The axes of an array that holds a picture or a stack.

    Attributes:
        axes: a letter an axis: ``y``, ``x``, ``c`` for channels; any other counts slices where it is longer than 1.
        shape: of the array.
    """

    axes: str
    shape: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.axes)

    @property
    def slices(self) -> int:
        """Number of slices."""
        return math.prod(n for letter, n in zip(self.axes, self.shape, strict=True) if letter not in "yxc")

    @property
    def picture(self) -> tuple[int, int, int]:
        """(height, width, channels) of a slice."""
        lengths = dict(zip(self.axes, self.shape, strict=True))
        return lengths["y"], lengths["x"], lengths.get("c", 1)

    def index(self, number: int, window: Window) -> tuple[int | slice, ...]:
        """Return what to cut out of the array."""
        rows, columns = window.place
        along = {"y": rows, "x": columns, "c": slice(None)}
        stack = {letter: number if n > 1 else 0 for letter, n in zip(self.axes, self.shape, strict=True)}
        return tuple(along.get(letter, stack[letter]) for letter in self.axes)

    def upright(self, part: np.ndarray) -> np.ndarray:
        """Turn what :meth:`index` cut out into (h, w, channels)."""
        left = [letter for letter in self.axes if letter in "yxc"]
        part = np.asarray(part)
        if "c" not in left:
            left, part = [*left, "c"], part[..., None]
        return part.transpose([left.index(letter) for letter in "yxc"])


def layout(path: File, shape: Sequence[int], axes: str | None) -> Layout:
    """Return the layout of an array.

    Args:
        path: of the file, for messages.
        axes: its letters if the file or the user names them; None tells by number and length.

    Raises:
        DataError: the axes are not those of a picture or of one stack of pictures.
    """
    shape = tuple(int(n) for n in shape)
    if axes is None:
        colours = bool(shape) and shape[-1] <= MAX_COLOURS
        axes = {2: "yx", 3: "yxc" if colours else "zyx", 4: "zyxc" if colours else "?"}.get(len(shape), "?")
    letters = axes.lower()
    got = f"axes {letters} of lengths {' × '.join(map(str, shape))}" if letters != "?" else f"shape {shape}, axes not named"
    do = "say what the axes are in dataset.yaml, as `axes: cyx` or `axes: zyx` (c channels, z slices)"
    if len(letters) != len(shape) or letters.count("y") != 1 or letters.count("x") != 1 or letters.count("c") > 1:
        raise DataError(path, "an array with axes y and x, and perhaps channels and slices", got, do)
    if min(shape) < 1:
        raise DataError(path, "at least one pixel", got, "export the picture again")
    if sum(n > 1 for letter, n in zip(letters, shape, strict=True) if letter not in "yxc") > 1:
        do = "save each time point or position as a file of its own"
        raise DataError(path, "at most one axis of slices besides channels", got, do)
    found = Layout(letters, shape)
    if found.slices > MAX_SLICES:
        raise DataError(path, f"at most {MAX_SLICES} slices", str(found.slices), "is the header damaged? re-export the file")
    return found
