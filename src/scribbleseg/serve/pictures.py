"""The picture in a request: what it is by its first bytes, how large by its header, and then its colours."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image as Pillow, UnidentifiedImageError

from scribbleseg.data.images import open_image
from scribbleseg.data.intensity import rgb_of
from scribbleseg.data.shards.files import Member, Place, Shards
from scribbleseg.errors import DataError
from scribbleseg.reading import Reading

#: First bytes to (suffix, media type).
_KINDS: tuple[tuple[Callable[[bytes], bool], str, str], ...] = (
    (lambda b: b.startswith(b"\x89PNG\r\n\x1a\n"), ".png", "image/png"),
    (lambda b: b.startswith(b"\xff\xd8\xff"), ".jpg", "image/jpeg"),
    (lambda b: b.startswith(b"RIFF") and b[8:12] == b"WEBP", ".webp", "image/webp"),
    (lambda b: b[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), ".tif", "image/tiff"),
)

#: Media types that are read.
MEDIA_TYPES = tuple(media for _, _, media in _KINDS)

_CALLED = {".png": "PNG", ".jpg": "JPEG", ".webp": "WEBP"}


class UnknownFormatError(DataError):
    """Bytes that are no picture of a kind that is read."""


class TooManyPixelsError(DataError):
    """A picture of more pixels than the server takes."""


@dataclass(frozen=True)
class Upload:
    """A picture that has been looked at, but not decoded.

    Attributes:
        data: the file's bytes.
        suffix: that its kind has.
        size: (height, width).
    """

    data: bytes
    suffix: str
    size: tuple[int, int]

    @property
    def num_pixels(self) -> int:
        """Height times width."""
        return self.size[0] * self.size[1]


def look(data: bytes, max_pixels: int, reading: Reading) -> Upload:
    """Return what a picture's header says. Nothing is decoded.

    Raises:
        UnknownFormatError: not PNG, JPEG, WebP or TIFF.
        TooManyPixelsError: more than ``max_pixels``, four channels counted as one pixel.
        DataError: a header that cannot be read.
    """
    suffix = next((suffix for fits, suffix, _ in _KINDS if fits(data[:12])), None)
    if suffix is None:
        got = f"{len(data)} bytes that begin with {ascii(data[:8])[2:-1]}" if data else "an empty body"
        raise UnknownFormatError(
            "image", "PNG, JPEG, WebP or TIFF", got, "send the file's bytes, or a form with a file `image`"
        )
    if suffix in _CALLED:  # its own reader decodes a PNG before it tells the size, as it may stand on its side
        with _ours(), Pillow.open(io.BytesIO(data), formats=(_CALLED[suffix],)) as picture:
            width, height = picture.size
        _check_pixels(height, width, 1, max_pixels)
        if suffix == ".png" and b"eXIf" not in data and b"Raw profile type" not in data and b"adobe.xmp" not in data:
            return Upload(data, suffix, (height, width))
    with _ours(), open_image(_held(data, suffix), reading, "a picture") as image:
        height, width, channels = image.shape
        if image.num_slices > 1:
            raise DataError("image", "one picture", f"a stack of {image.num_slices}", "send its slices one at a time")
        _check_pixels(height, width, channels, max_pixels)
    return Upload(data, suffix, (height, width))


def decode(upload: Upload, reading: Reading) -> np.ndarray:
    """Return a picture's colours as the model's files are read, float32 (H, W, 3) in [0, 1].

    Raises:
        DataError: undecodable, or values or channels that the model's ``reading`` does not fit.
    """
    with _ours(), open_image(_held(upload.data, upload.suffix), reading, "a picture") as image:
        return rgb_of(image, reading)


def _check_pixels(height: int, width: int, channels: int, max_pixels: int) -> None:
    if min(height, width) < 1:
        raise DataError("image", "at least one pixel", f"{width} × {height}", "export the picture again")
    if height * width * max(1, channels / 4) > max_pixels:
        got = f"{width} × {height}" + (f" of {channels} channels" if channels > 4 else "")
        do = "cut or shrink the picture, or start the server with a higher --max-pixels"
        raise TooManyPixelsError("image", f"at most {max_pixels} pixels", got, do)


@contextlib.contextmanager
def _ours() -> Iterator[None]:
    """Say of every fault that it is the request's picture: there is no file whose name would mean anything."""
    try:
        yield
    except (UnknownFormatError, TooManyPixelsError):
        raise
    except DataError as error:
        raise DataError("image", error.expected, error.got, error.do) from None
    except Exception as error:  # Pillow raises a dozen unrelated types for a damaged header
        told = "a damaged header" if isinstance(error, UnidentifiedImageError) else " ".join(str(error).split())[:300]
        do = "export the picture again; it may be cut short"
        raise DataError("image", "a picture that decodes", told or type(error).__name__, do) from None


class _Held(Shards):
    """One file in memory."""

    def __init__(self, data: bytes) -> None:
        super().__init__(Path("request"), (Path("request"),), (_Held, (data,)))
        self._data = data

    def place(self, path: PurePosixPath) -> Place | None:
        return Place(0, 0, len(self._data))

    def opened(self, path: PurePosixPath, place: Place) -> Any:
        return io.BytesIO(self._data)


def _held(data: bytes, suffix: str) -> Member:
    return Member(_Held(data), PurePosixPath(f"picture{suffix}"))
