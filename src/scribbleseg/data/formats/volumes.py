"""Slices of something larger: label volumes cut into images, and pictures of slices that a screen can show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tifffile

from scribbleseg.data.formats.contents import Annotated, Item
from scribbleseg.data.formats.safety import check_shape, reading
from scribbleseg.data.images import MAX_PIXELS
from scribbleseg.errors import DataError
from scribbleseg.records import UNLABELLED

#: What the stem of a slice looks like; the group is the volume.
PATTERN = r"^(.+)_slice_\d+$"

#: Larger volumes than this many bytes are refused.
MAX_VOLUME = 4 << 30


def slice_stem(stem: str, k: int) -> str:
    """Return the stem of slice ``k``."""
    return f"{stem}_slice_{k:04d}"


def check_volume(where: object, shape: tuple[int, ...], itemsize: int = 1) -> None:
    """Refuse absurd shapes before anything is allocated.

    Raises:
        DataError: no extent, too many axes, or too many bytes.
    """
    count = 1
    for extent in shape:
        count *= int(extent)
    if not 2 <= len(shape) <= 5 or min(shape) < 1 or count * itemsize > MAX_VOLUME:
        got = f"{' × '.join(map(str, shape[:6]))} of {itemsize} bytes"
        raise DataError(where, f"two to five axes and at most {MAX_VOLUME >> 30} GiB", got, "cut the volume into pieces")


def cut(
    where: object,
    stem: str,
    number: int,
    labels_of: Callable[[int], np.ndarray],
    picture_of: Callable[[int], Path | np.ndarray | None],
    split: str = "train",
    affine: np.ndarray | None = None,
) -> Iterator[Item]:
    """Yield the slices of a volume that anything is drawn in. Its only slice, if there is but one, always.

    Args:
        where: the file, for messages.
        stem: of the volume.
        number: of slices.
        labels_of: returns the labels of a slice, 255 where nobody drew.
        picture_of: returns the picture of a slice.
        split: list that the slices belong to.
        affine: of the volume, see :class:`Annotated`.
    """

    def annotated(name: str, k: int) -> Annotated:
        return Annotated(name, labels_of(k), picture_of(k), splits=(split,), affine=moved(affine, k))

    if number == 1:
        yield Item(stem, lambda: annotated(stem, 0))
        return
    for k in range(number):
        try:
            blank = bool((labels_of(k) == UNLABELLED).all())
        except DataError as error:
            yield failing(slice_stem(stem, k), error)
            continue
        if not blank:
            name = slice_stem(stem, k)
            yield Item(name, lambda k=k, name=name: annotated(name, k))


def moved(affine: np.ndarray | None, k: int) -> np.ndarray | None:
    """Return the affine of slice ``k`` as a volume of its own."""
    if affine is None:
        return None
    step = np.eye(4)
    step[2, 3] = k
    return affine @ step


def failing(stem: str, error: DataError) -> Item:
    """Return an item that cannot be loaded."""

    def load() -> Annotated:
        raise error

    return Item(stem, load)


def window(pixels: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return uint16 pixels: ``low`` becomes 0 and ``high`` 65535; what lies outside is clipped."""
    scaled = (pixels.astype(np.float64) - low) / max(high - low, 1e-12)
    return np.nan_to_num(65535 * scaled.clip(0, 1)).round().astype(np.uint16)


def limits(volume: np.ndarray) -> tuple[float, float]:
    """Return the 0.5th and 99.5th percentile of a volume, from at most a million of its values."""
    values = volume.ravel()[:: max(1, volume.size // 1_000_000)].astype(np.float64)
    values = values[np.isfinite(values)]
    low, high = np.percentile(values, (0.5, 99.5)) if len(values) else (0.0, 1.0)
    return float(low), float(high)


def as_picture(pixels: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return a slice as PNG can hold it: 8 bit as it is, everything else windowed to 16 bit."""
    return pixels if pixels.dtype == np.uint8 else window(pixels, low, high)


def tiff_pages(path: Path) -> int:
    """Return the number of pages of equal size in a TIFF.

    Raises:
        DataError: not a TIFF, or absurdly large.
    """
    with reading(path, "a TIFF"), tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        check_shape(path, page.imagelength, page.imagewidth)
        if page.samplesperpixel > 1:
            raise DataError(
                path, "one channel of class ids", f"{page.samplesperpixel} channels", "export label ids, not colours"
            )
        number = len(tiff.pages)
        if number * page.imagelength * page.imagewidth > MAX_VOLUME:
            raise DataError(path, f"at most {MAX_VOLUME} pixels in all", f"{number} pages", "cut the stack into pieces")
        return number


def tiff_page(path: Path, k: int) -> np.ndarray:
    """Return one page of a TIFF as it is stored.

    Raises:
        DataError: it does not decode.
    """
    with reading(path, f"page {k} of a TIFF"), tifffile.TiffFile(path) as tiff:
        page = tiff.pages[k]
        if page.imagelength * page.imagewidth > MAX_PIXELS:
            check_shape(path, page.imagelength, page.imagewidth)
        return np.asarray(page.asarray())


def stack_picture(path: Path | None, k: int, number: int) -> Path | np.ndarray | None:
    """Return the picture of slice ``k``: the file itself if there is one slice, else the page of a TIFF stack."""
    if path is None or number == 1:
        return path
    if path.suffix.lower() not in (".tif", ".tiff") or tiff_pages(path) != number:
        raise DataError(path, f"a TIFF of {number} pages, as its labels", "another kind of picture", "save the stack as TIFF")
    page = tiff_page(path, k)
    return as_picture(page, *limits(page))
