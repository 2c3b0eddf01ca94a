"""PNG, JPEG and WebP through Pillow. Such a file is always decoded whole."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image as Pillow, ImageOps

from scribbleseg.data.readers.image import Image, TooLargeError
from scribbleseg.data.shards.files import File
from scribbleseg.errors import DataError
from scribbleseg.reading import Reading

#: What one channel is stored as; all other modes become RGB.
_GREY = {"L": np.uint8, "I": np.int32, "F": np.float32}

#: What stands in a PNG file that has an orientation: as EXIF, as ImageMagick's text, as XMP.
_PNG_ORIENTATION = (b"eXIf", b"Raw profile type", b"adobe.xmp")


@contextlib.contextmanager
def opened(path: File, reading: Reading) -> Iterator[Image]:
    """Open a picture, upright as its EXIF orientation says; opacity is dropped."""
    with _file(path) as picture:
        mode = picture.mode
        dtype = np.dtype(np.uint16 if mode.startswith("I;16") else _GREY.get(mode, np.uint8))
        channels = 1 if mode in _GREY or mode.startswith("I;16") else 3
        decoded = cache(lambda: _decoded(picture))
        yield Image(path, (*_size(picture, path), channels), dtype, lambda index, window: decoded()[window.place])


@contextlib.contextmanager
def _file(path: File) -> Iterator[Pillow.Image]:
    try:
        with contextlib.ExitStack() as stack:
            file = path if isinstance(path, Path) else stack.enter_context(path.open())
            yield stack.enter_context(Pillow.open(file))
    except Pillow.DecompressionBombError:
        raise TooLargeError from None


def _size(picture: Pillow.Image, path: File) -> tuple[int, int]:
    """Return (height, width) once upright."""
    upright = _surely_upright(picture, path)
    turned = not upright and int(picture.getexif().get(ExifTags.Base.Orientation, 1)) in (5, 6, 7, 8)
    return (picture.width, picture.height) if turned else (picture.height, picture.width)


def _surely_upright(picture: Pillow.Image, path: File) -> bool:
    """Say whether a PNG holds nothing that could tell of an orientation. Pillow decodes to look: it may stand last."""
    if picture.format != "PNG":
        return False
    stored = path.read_bytes()
    return not any(chunk in stored for chunk in _PNG_ORIENTATION)


def _decoded(picture: Pillow.Image) -> np.ndarray:
    turned = ImageOps.exif_transpose(picture)
    if turned.mode in ("P", "PA", "LA"):
        turned = turned.convert("RGBA")
    if turned.mode not in ("L", "RGB", "I", "F") and not turned.mode.startswith("I;16"):
        turned = turned.convert("RGB")
    array = np.asarray(turned)
    return array if array.ndim == 3 else array[..., None]


def indices(path: File) -> np.ndarray:
    """Return class ids as stored, (H, W): the indices of a palette, not its colours.

    Raises:
        DataError: the file holds colours.
    """
    with _file(path) as picture:
        if picture.mode not in ("L", "P", "I;16", "I", "1"):
            ids = "one channel of class ids (grey or palette PNG)"
            raise DataError(path, ids, f"a picture of mode {picture.mode}", "export label ids, not colours")
        return np.asarray(picture)
