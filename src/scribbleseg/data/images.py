"""Reading and writing pictures and label maps: the only file that knows image formats."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import ExifTags, Image, ImageOps

from scribbleseg.atomic import atomic_path
from scribbleseg.errors import DataError

#: Suffixes that are looked for, in this order, when only a stem is known.
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")

#: Larger pictures than this are refused: a small file can claim an enormous size. (Pillow's own limit.)
MAX_PIXELS = 178_956_970

#: What stands in a PNG file that has an orientation: as EXIF, as ImageMagick's text, as XMP.
_PNG_ORIENTATION = (b"eXIf", b"Raw profile type", b"adobe.xmp")


def find_image(folder: Path, stem: str) -> Path:
    """Return the file in ``folder`` with this stem.

    Raises:
        DataError: none, or more than one.
    """
    found: list[Path] = []
    for suffix in IMAGE_SUFFIXES:
        for written in (suffix, suffix.upper(), suffix.capitalize()):
            place = os.path.join(folder, stem + written)  # noqa: PTH118  (fifteen are looked for an image)
            if os.path.isfile(place) and not any(os.path.samefile(place, other) for other in found):  # noqa: PTH113, PTH121
                found.append(Path(place))
    if len(found) == 1:
        return found[0]
    got = "no such file" if not found else ", ".join(p.name for p in found)
    if Path(stem).suffix.lower() in IMAGE_SUFFIXES:
        got += "; split lists hold names without suffix"
    raise DataError(folder / stem, f"one file ending in {', '.join(IMAGE_SUFFIXES)}", got, "add it, or mend the split list")


@contextlib.contextmanager
def _reading(path: Path, what: str, missing: str) -> Iterator[None]:
    """Turn whatever a decoder raises into our message; they raise a dozen unrelated types for a damaged file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our limit is MAX_PIXELS
            yield
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(path, what, "no such file", missing) from None
    except Image.DecompressionBombError:
        raise DataError(path, f"at most {MAX_PIXELS} pixels", "more", "cut the picture into pieces") from None
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise DataError(path, f"{what} that decodes", reason, "re-export the file; it may be cut short") from None


def _decode(path: Path) -> np.ndarray:
    """Return the pixels as stored: (H, W) or (H, W, channels), any integer or float type."""
    if path.suffix.lower() in (".tif", ".tiff"):
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages[0]
            if page.imagewidth * page.imagelength > MAX_PIXELS:
                raise Image.DecompressionBombError
            if len(tiff.pages) > 1 and tiff.pages[1].shape == page.shape:
                raise DataError(
                    path, "one picture a file", f"a stack of {len(tiff.pages)}", "save its pages as files of their own"
                )
            kind = page.photometric.name
            if kind not in ("MINISBLACK", "MINISWHITE", "RGB", "YCBCR"):
                raise DataError(path, "a grey or RGB TIFF", kind, "save the picture as RGB")
            array = np.asarray(page.asarray())
            orientation = _orientation(page)
        if kind == "MINISWHITE":
            array = (np.iinfo(array.dtype).max - array) if array.dtype.kind == "u" else 1 - array
        planar = array.ndim == 3 and array.shape[0] in (3, 4) and array.shape[-1] not in (3, 4)
        return upright(np.moveaxis(array, 0, -1) if planar else array, orientation)
    with Image.open(path) as picture:
        turned = ImageOps.exif_transpose(picture)
        if turned.mode in ("P", "PA", "LA"):
            turned = turned.convert("RGBA")
        if turned.mode not in ("L", "RGB", "I", "F") and not turned.mode.startswith("I;16"):
            turned = turned.convert("RGB")
        return np.asarray(turned)


def _orientation(page: Any) -> int:
    """Return the orientation a TIFF page is tagged with; 1, upright, if none."""
    return int(page.tags["Orientation"].value) if "Orientation" in page.tags else 1


def upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Undo a TIFF or EXIF orientation (1 to 8), which counts from the stored picture's top left."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return array


def _exif_orientation(picture: Image.Image) -> int:
    return int(picture.getexif().get(ExifTags.Base.Orientation, 1))


def _surely_upright(picture: Image.Image, path: Path) -> bool:
    """Say whether a PNG holds nothing that could tell of an orientation. Pillow decodes to look: it may stand last."""
    if picture.format != "PNG":
        return False
    stored = path.read_bytes()
    return not any(chunk in stored for chunk in _PNG_ORIENTATION)


def image_size(path: Path) -> tuple[int, int]:
    """Return (height, width) as :func:`read_rgb` would give it, from the file's header alone.

    Raises:
        DataError: missing or not an image.
    """
    with _reading(path, "an image", "add the file, or mend the split list"):
        if path.suffix.lower() in (".tif", ".tiff"):
            with tifffile.TiffFile(path) as tiff:
                page = tiff.pages[0]
                size = (int(page.imagelength), int(page.imagewidth))
                orientation = _orientation(page)
        else:
            with Image.open(path) as picture:
                size = (picture.height, picture.width)
                orientation = 1 if _surely_upright(picture, path) else _exif_orientation(picture)
    return (size[1], size[0]) if orientation in (5, 6, 7, 8) else size


def read_rgb(path: Path) -> np.ndarray:
    """Read a picture as float32 (H, W, 3) in [0, 1]: grey becomes three equal channels, 16 bit keeps its depth.

    8-bit values are divided by 255, 16-bit by 65535, floats are taken as they are if already in [0, 1].

    Raises:
        DataError: missing, undecodable, or of a kind with no natural range.
    """
    with _reading(path, "an image", "add the file, or mend the split list"):
        array = _decode(path)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[-1] not in (1, 3, 4):
        raise DataError(path, "grey, RGB or RGBA", f"shape {array.shape}", "save the picture with 1 or 3 channels")
    array = np.repeat(array, 3, -1) if array.shape[-1] == 1 else array[..., :3]
    if array.dtype == np.uint8:
        return array.astype(np.float32) / 255
    if array.dtype in (np.uint16, np.int32, np.uint32) and int(array.max(initial=0)) <= 65535 and array.min(initial=0) >= 0:
        return array.astype(np.float32) / 65535
    if array.dtype.kind == "f" and np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1:
        return array.astype(np.float32)
    raise DataError(
        path,
        "8 or 16 bit, or floats in [0, 1]",
        f"{array.dtype} from {array.min()} to {array.max()}",
        "rescale the picture to 8 or 16 bit",
    )


def read_index(path: Path) -> np.ndarray:
    """Read a label map as uint8 (H, W) of class ids as stored. Palette files give their indices.

    Raises:
        DataError: missing, undecodable, or not one channel of small integers.
    """
    if path.suffix.lower() in (".jpg", ".jpeg"):
        raise DataError(path, "a format that keeps values, as PNG", "JPEG, which invents new ones", "export label ids as PNG")
    with _reading(path, "a label file", "draw it, or take the stem off the split list"):
        if path.suffix.lower() in (".tif", ".tiff"):
            array = _decode(path)
        else:
            with Image.open(path) as picture:
                if picture.mode not in ("L", "P", "I;16", "I", "1"):
                    ids = "one channel of class ids (grey or palette PNG)"
                    raise DataError(path, ids, f"a picture of mode {picture.mode}", "export label ids, not colours")
                array = np.asarray(picture)
    if array.ndim != 2 or array.dtype.kind not in "bui" or array.max(initial=0) > 255 or array.min(initial=0) < 0:
        got = f"{array.dtype} of shape {array.shape} up to {array.max(initial=0)}"
        raise DataError(path, "one channel of class ids from 0 to 255", got, "export label ids as 8-bit")
    return array.astype(np.uint8)


def write_png(path: Path, array: np.ndarray) -> None:
    """Write uint8 (H, W) or (H, W, 3) as PNG; the file appears whole or not at all."""
    with atomic_path(path) as temporary:
        Image.fromarray(array).save(temporary, format="PNG")
