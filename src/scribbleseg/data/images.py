"""Reading and writing pictures and label maps: one opener for every format, ``readers/`` has one file a family."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image as Pillow

from scribbleseg.atomic import atomic_path
from scribbleseg.data.intensity import Ranges, rgb_of
from scribbleseg.data.readers import IN_SHARDS, READERS, Reader, pillow, reader_of
from scribbleseg.data.readers.image import MAX_PIXELS, Image, Window, decoding
from scribbleseg.data.shards.files import File, Member
from scribbleseg.errors import DataError
from scribbleseg.reading import PLAIN, Reading

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "Image",
    "Window",
    "image_size",
    "open_image",
    "read_index",
    "read_rgb",
    "write_png",
    "write_tiff",
]

#: Suffixes that are looked for, in this order, when only a stem is known.
IMAGE_SUFFIXES = tuple(READERS)


@contextlib.contextmanager
def open_image(path: File, reading: Reading = PLAIN, what: str = "an image") -> Iterator[Image]:
    """Open a file of any known format, for as long as the block lasts.

    >>> with open_image(Path("slide.tif")) as image:                              # doctest: +SKIP
    ...     part = image.read(Window(top=9000, left=9000, height=512, width=512))

    Args:
        path: of the file, on disk or in a shard; a folder for zarr and for the files of a DICOM series.
        reading: names of array and axes, where the file leaves them open.
        what: it should be, for messages.

    Raises:
        DataError: missing, not of a known format, undecodable, or its library is not installed.
    """
    path = path if isinstance(path, Member) else Path(path)
    with contextlib.ExitStack() as stack:
        with decoding(path, what):
            image = stack.enter_context(_reader(path)(path, reading))
        yield replace(image, what=what)


def _reader(path: File) -> Reader:
    reader = reader_of(path)
    if isinstance(path, Member) and not path.name.lower().endswith(IN_SHARDS):
        do = "keep the data set as a plain folder: volumes are few files, and large ones"
        raise DataError(path, f"a file in a shard that ends in {', '.join(IN_SHARDS)}", f"'{path.name}'", do)
    if reader is not None:
        return reader
    raise DataError(path, f"a file ending in {', '.join(READERS)}", f"'{path.name}'", "export it as one of these")


def image_size(path: File, reading: Reading = PLAIN) -> tuple[int, int]:
    """Return (height, width) as :func:`read_rgb` would give it, from the file's header alone.

    Raises:
        DataError: missing or not an image.
    """
    with open_image(path, reading) as image:
        return image.shape[:2]


def read_rgb(path: File, reading: Reading = PLAIN, index: int | None = None, ranges: Ranges | None = None) -> np.ndarray:
    """Read a picture as float32 (H, W, 3) in [0, 1]: grey becomes three equal channels, 16 bit keeps its depth.

    8-bit values are divided by 255, 16-bit by 65535, floats are taken as they are if already in [0, 1].

    Args:
        path: of the file.
        reading: which channels and values to take instead.
        index: of the slice, where the file is a stack.
        ranges: see :func:`~scribbleseg.data.intensity.rgb_of`.

    Raises:
        DataError: missing, undecodable, or of a kind with no natural range.
    """
    with open_image(path, reading) as image:
        return rgb_of(image, reading, index=index, ranges=ranges)


def read_index(path: File, index: int | None = None, array: str | None = None) -> np.ndarray:
    """Read a label map as uint8 (H, W) of class ids as stored. Palette files give their indices.

    Args:
        path: of the file.
        index: of the slice, where the file is a stack.
        array: name of the array in an HDF5 or zarr file that holds several.

    Raises:
        DataError: missing, undecodable, or not one channel of small integers.
    """
    if path.suffix.lower() in (".jpg", ".jpeg"):
        raise DataError(path, "a format that keeps values, as PNG", "JPEG, which invents new ones", "export label ids as PNG")
    if _reader(path) is pillow.opened:
        with decoding(path, "a label file"):
            labels = pillow.indices(path)
    else:
        with open_image(path, Reading(array=array), "a label file") as image:
            labels = image.pixels(index=index)
        labels = labels[..., 0] if labels.shape[-1] == 1 else labels
    if labels.ndim != 2 or labels.dtype.kind not in "bui" or labels.max(initial=0) > 255 or labels.min(initial=0) < 0:
        got = f"{labels.dtype} of shape {labels.shape} up to {labels.max(initial=0)}"
        raise DataError(path, "one channel of class ids from 0 to 255", got, "export label ids as 8-bit")
    return labels.astype(np.uint8)


def write_png(path: Path, array: np.ndarray) -> None:
    """Write uint8 (H, W) or (H, W, 3) as PNG; the file appears whole or not at all."""
    with atomic_path(path) as temporary:
        Pillow.fromarray(array).save(temporary, format="PNG")


def write_tiff(path: Path, array: np.ndarray) -> None:
    """Write uint8 (H, W) as a tiled TIFF, packed without loss; the file appears whole or not at all."""
    with atomic_path(path) as temporary:
        tifffile.imwrite(temporary, array, tile=(512, 512), compression="zlib", photometric="minisblack")
