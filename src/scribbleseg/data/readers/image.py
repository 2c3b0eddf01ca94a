"""What every reader hands out: one record a file, whose pixels are read when asked for."""

from __future__ import annotations

import contextlib
import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scribbleseg.data.shards.files import File
from scribbleseg.errors import DataError

#: More pixels than this are never read at once: a small file can claim an enormous size. (Pillow's own limit.)
MAX_PIXELS = 178_956_970

#: More slices than this are refused: no scan has as many, but a damaged header may.
MAX_SLICES = 100_000


class TooLargeError(Exception):
    """A picture of more than ``MAX_PIXELS``, or a piece of it that cannot be read without as many."""


class Window(NamedTuple):
    """A rectangle of a picture, in pixels from its top left corner."""

    top: int
    left: int
    height: int
    width: int

    @property
    def place(self) -> tuple[slice, slice]:
        """The rectangle as an index."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


@dataclass(frozen=True)
class Image:
    """An opened file: one picture, or a stack of equal slices.

    Attributes:
        path: of the file or, for zarr and DICOM series, the folder; a file may lie in a shard.
        shape: (height, width, channels) of a slice.
        dtype: of the stored values.
        fetch: slice number and window to stored values, (h, w, channels); call ``pixels`` or ``read`` instead.
        num_slices: 1 for a picture.
        spacing_mm: (between rows, between columns), or None where the file does not say.
        slice_mm: distance between slices, or None.
        what: the file should be, for messages.
    """

    path: File
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    fetch: Callable[[int, Window], np.ndarray]
    num_slices: int = 1
    spacing_mm: tuple[float, float] | None = None
    slice_mm: float | None = None
    what: str = "an image"

    def pixels(self, window: Window | None = None, index: int | None = None) -> np.ndarray:
        """Return stored values, (h, w, channels).

        Args:
            window: part of the picture; all of it for None.
            index: of the slice; a file that holds several needs one.

        Raises:
            DataError: a stack without, or not as large as, ``index``; too many pixels; undecodable.
        """
        number = self._slice(index)
        height, width, channels = self.shape
        window = Window(0, 0, height, width) if window is None else window
        if min(window) < 0 or window.top + window.height > height or window.left + window.width > width:
            raise DataError(self.path, f"a window inside {width} × {height} pixels", str(tuple(window)), "cut it at the border")
        with decoding(self.path, self.what):
            if window.height * window.width * max(1, channels / 4) > MAX_PIXELS:
                raise TooLargeError
            pixels = self.fetch(number, window)
            if pixels.shape != (window.height, window.width, channels):
                raise ValueError(f"pixels of shape {pixels.shape} where the header says {self.shape}")
        return pixels if pixels.dtype.isnative else pixels.astype(pixels.dtype.newbyteorder("="))

    def read(self, window: Window | None = None, index: int | None = None) -> np.ndarray:
        """Return the values as float32 (h, w, channels), in the file's own unit.

        Raises:
            DataError: as ``pixels``, or a value is not a number.
        """
        with np.errstate(over="ignore"):
            values = self.pixels(window, index).astype(np.float32)
        if self.dtype.kind == "f" and not np.isfinite(values).all():
            bad = np.count_nonzero(~np.isfinite(values))
            do = "replace them, perhaps by the lowest value of the picture (numpy.nan_to_num)"
            raise DataError(self.path, "a number at every pixel", f"NaN or infinity at {bad} of {values.size} values", do)
        return values

    def _slice(self, index: int | None) -> int:
        if index is None and self.num_slices > 1:
            do = f"name a slice, as {stem_of(self.path)}@000, or all of them: {stem_of(self.path)}@* in the split list"
            raise DataError(self.path, "one picture a stem", f"a stack of {self.num_slices}", do)
        if index is not None and not 0 <= index < self.num_slices:
            got = f"slice {index}"
            raise DataError(self.path, f"a slice from 0 to {self.num_slices - 1}", got, "mend the number after the @")
        return index or 0


def stem_of(path: File) -> str:
    """Return the name without its suffix; ``.nii.gz`` is one suffix."""
    return Path(path.name.removesuffix(".gz")).stem if path.name.lower().endswith(".nii.gz") else path.stem


@contextlib.contextmanager
def without_log(name: str) -> Iterator[None]:
    """Keep what a library logs in this thread to ourselves: of a damaged file our own error says what is wrong."""
    logger, own = logging.getLogger(name), threading.get_ident()

    def others(record: logging.LogRecord) -> bool:
        return record.thread != own

    logger.addFilter(others)
    try:
        yield
    finally:
        logger.removeFilter(others)


@contextlib.contextmanager
def decoding(path: File, what: str) -> Iterator[None]:
    """Turn whatever a decoder raises into our message; they raise a dozen unrelated types for a damaged file."""
    try:
        with warnings.catch_warnings(), without_log("tifffile"):
            warnings.simplefilter("ignore")  # about tags nobody here reads; our own limit is MAX_PIXELS
            yield
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(path, what, "no such file", "add it, or take it off the split list") from None
    except TooLargeError:
        raise DataError(path, f"at most {MAX_PIXELS} pixels", "more", "cut the picture into pieces") from None
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise DataError(path, f"{what} that decodes", reason, "re-export the file; it may be cut short") from None


def require_numbers(path: File, dtype: np.dtype[Any]) -> None:
    """Refuse records, text and complex numbers."""
    if dtype.kind not in "buif":
        raise DataError(
            path, "whole or decimal numbers", f"values of type {dtype}", "export a plain grey or multi-channel image"
        )
