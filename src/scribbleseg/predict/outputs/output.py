"""What every output has in common: which files it makes of an input, and how it takes the bands of a prediction."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from scribbleseg.data.images import MAX_PIXELS
from scribbleseg.data.listing import slice_stem
from scribbleseg.data.readers.image import stem_of
from scribbleseg.errors import DataError
from scribbleseg.predict.bands import Band

#: Takes the bands of an input, slice by slice and from top to bottom.
Sink = Callable[[Band], None]

#: Takes rows of a picture from top to bottom.
Rows = Callable[[np.ndarray], None]


@dataclass(frozen=True)
class Job:
    """An input whose prediction is written.

    Attributes:
        out: folder of all outputs.
        path: of the input.
        shape: (height, width) of a slice.
        names: class names by id.
        num_slices: 1 for a picture.
        spacing_mm: (between rows, between columns), where the file says it.
        slice_mm: distance between slices, where the file says it.
    """

    out: Path
    path: Path
    shape: tuple[int, int]
    names: tuple[str, ...]
    num_slices: int = 1
    spacing_mm: tuple[float, float] | None = None
    slice_mm: float | None = None

    @property
    def stem(self) -> str:
        """The input's name without its suffix."""
        return stem_of(self.path)

    @property
    def pixels(self) -> int:
        """Pixels of a slice."""
        return self.shape[0] * self.shape[1]

    def stem_at(self, number: int) -> str:
        """The name of a slice: the stem for a picture, ``STEM@007`` in a stack."""
        return self.stem if self.num_slices == 1 else slice_stem(self.stem, number)

    def for_slices(self, folder: str, ending: str) -> list[Path]:
        """Return a file in a folder of ``out`` for every slice."""
        return [self.out / folder / f"{self.stem_at(k)}{ending}" for k in range(self.num_slices)]


class Output(ABC):
    """A kind of file that a prediction is written as.

    Attributes:
        title: what it is, for the table.
        folder: that it goes to, inside ``out``; empty for ``out`` itself.
        probabilities: whether it needs them.
        extra: what ``pip install "scribbleseg[…]"`` must name; empty if nothing.
    """

    title: ClassVar[str]
    folder: ClassVar[str]
    probabilities: ClassVar[bool] = False
    extra: ClassVar[str] = ""

    def check(self) -> None:
        """Raise ``ConfigError`` where a library that it needs is not installed."""
        return

    @abstractmethod
    def files(self, job: Job) -> list[Path]:
        """Return the files, or folders, that are written of an input."""

    @abstractmethod
    def open(self, job: Job) -> AbstractContextManager[Sink]:
        """Return a context whose value takes the bands; files are there when it ends well.

        Raises:
            DataError: this input cannot be written so.
        """

    def finish(self, out: Path, names: tuple[str, ...], files: list[Path]) -> None:
        """Write what there is one of a folder.

        Args:
            out: the folder of all outputs.
            names: class names by id.
            files: what was written of all inputs so far, in the order of their names.
        """
        return


@contextlib.contextmanager
def whole_slices(job: Job, write: Callable[[int, np.ndarray], None], of: Callable[[Band], np.ndarray]) -> Iterator[Sink]:
    """Yield a sink that gathers what ``of`` makes of the bands, and calls ``write(slice, picture)`` for each slice."""
    parts: list[np.ndarray] = []

    def take(band: Band) -> None:
        parts.append(of(band))
        if band.top + len(band.labels) == job.shape[0]:
            whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
            parts.clear()
            write(band.number, whole)

    yield take


@contextlib.contextmanager
def slice_files(
    job: Job,
    files: list[Path],
    opened: Callable[[Path], AbstractContextManager[Rows]],
    of: Callable[[Band], np.ndarray],
) -> Iterator[Sink]:
    """Yield a sink that writes a file a slice, row by row.

    Args:
        job: the input.
        files: one a slice.
        opened: begins a file.
        of: what of a band is written.
    """
    with contextlib.ExitStack() as stack:
        current: list[tuple[contextlib.ExitStack, Rows]] = []

        def take(band: Band) -> None:
            if band.top == 0:
                inner = stack.enter_context(contextlib.ExitStack())
                current[:] = [(inner, inner.enter_context(opened(files[band.number])))]
            inner, add = current[0]
            add(of(band))
            if band.top + len(band.labels) == job.shape[0]:
                inner.close()

        yield take


def refuse_large(job: Job, what: str) -> None:
    """Refuse an output that must be held whole.

    Raises:
        DataError: more than ``MAX_PIXELS`` in a slice.
    """
    if job.pixels > MAX_PIXELS:
        got = f"{job.shape[1]} × {job.shape[0]}"
        do = "ask for mask, probabilities, zarr or uncertainty, which are written piece by piece"
        raise DataError(job.path, f"at most {MAX_PIXELS} pixels for {what}", got, do)
