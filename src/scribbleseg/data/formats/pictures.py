"""The pictures beside the strokes: where they lie, and how they get into a new data set."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from scribbleseg.atomic import storage_error, write_text
from scribbleseg.data.formats.contents import About, Add, Annotated
from scribbleseg.data.formats.safety import PICTURE_SUFFIXES
from scribbleseg.data.images import IMAGE_SUFFIXES, image_size, open_image, read_rgb
from scribbleseg.data.readers.image import decoding
from scribbleseg.errors import DataError

#: Where pictures usually lie, seen from the labels' folder or the one above.
FOLDERS = ("images", "JPEGImages", "image", "imgs", "img")


def near(path: Path, images: Path | None) -> tuple[Path, ...]:
    """Return the folders in which the pictures of labels at ``path`` are looked for.

    Args:
        path: file or folder of the labels.
        images: the folder that the user named, if any; then no other.
    """
    if images is not None:
        return (images,)
    folder = path if path.is_dir() else path.parent
    return (*(folder / name for name in FOLDERS), *(folder.parent / name for name in FOLDERS), folder)


def find_picture(stem: str, folders: Iterable[Path], *, but: Path | None = None) -> Path | None:
    """Return the picture of a stem in the first folder that has one, or None.

    Args:
        stem: name without suffix, perhaps with folders; without them it is looked for too.
        folders: see :func:`near`.
        but: the label file itself, which is no picture.

    Raises:
        DataError: a folder has several.
    """
    for folder in folders:
        for name in dict.fromkeys((stem, stem.rpartition("/")[2])):
            found: list[Path] = []
            for suffix in PICTURE_SUFFIXES:
                for written in (suffix, suffix.upper()):
                    path = folder / f"{name}{written}"
                    with contextlib.suppress(OSError):  # a name too long for the disk is no file
                        if path != but and path.is_file() and not any(path.samefile(p) for p in found):
                            found.append(path)
            if len(found) > 1:
                names = ", ".join(p.name for p in found)
                raise DataError(folder / name, "one picture of this name", names, "take all but one away")
            if found:
                return found[0]
    return None


def needed(stem: str, folders: Iterable[Path]) -> Path:
    """Return the picture of a stem where the labels alone do not say its size.

    Raises:
        DataError: there is none.
    """
    folders = tuple(folders)
    path = find_picture(stem, folders)
    if path is None:
        raise DataError(
            stem, "its picture, for the size", f"none in {folders[0]}", "say where the pictures are: --images FOLDER"
        )
    return path


def write_picture(image: Annotated, folder: Path) -> str:
    """Write the picture of an annotated image into a folder, and return its file name below it.

    A file is copied as it is; one of a kind that is not trained from becomes PNG. Nothing is linked: a data set that was
    converted does not change when its source does.

    Raises:
        DataError: there is no picture, or it has another size than its labels.
        StorageError: it cannot be written.
    """
    if image.image is None:
        do = "say where the pictures are: --images FOLDER"
        raise DataError(image.stem, "a picture of this name", "none found", do)
    source, suffix = image.image, ".png"
    if isinstance(source, Path) and not source.name.lower().endswith(IMAGE_SUFFIXES):
        source = _decoded(source)
    if isinstance(source, Path):
        size, suffix = image_size(source), next(s for s in IMAGE_SUFFIXES if source.name.lower().endswith(s))
    else:
        size = source.shape[:2]
    _check_size(image, size)
    target = folder / f"{image.stem}{suffix}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(source, Path):
            shutil.copyfile(source, target)
        else:
            Image.fromarray(source).save(target)
    except OSError as error:
        raise storage_error(error, target) from None
    return target.relative_to(folder).as_posix()


def write_png(image: Annotated, target: Path, channels: int | None = None) -> int:
    """Write the picture of an annotated image as grey or RGB PNG, and return its number of channels.

    Args:
        image: whose picture; a grey or RGB PNG is copied as it is.
        target: file to write.
        channels: 1 or 3, of the pictures written before, for programs that want all alike: grey becomes RGB.

    Raises:
        DataError: no picture, another size than its labels, or colours after grey pictures.
        StorageError: it cannot be written.
    """
    source = image.image
    copied = _png_channels(source) if isinstance(source, Path) else None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if copied is not None and channels in (None, copied):
            assert isinstance(source, Path)
            _check_size(image, image_size(source))
            shutil.copyfile(source, target)
            return copied
        pixels = pixels_of(image)
        own = 3 if pixels.ndim == 3 else 1
        if channels == 3 and own == 1:
            pixels = np.repeat((pixels if pixels.dtype == np.uint8 else pixels >> 8).astype(np.uint8)[..., None], 3, -1)
        elif channels == 1 and own == 3:
            raise DataError(
                image.stem, "a grey picture, as those before it", "colours", "convert all pictures to RGB, or to grey"
            )
        Image.fromarray(pixels).save(target)
    except OSError as error:
        raise storage_error(error, target) from None
    return channels or own


def pixels_of(image: Annotated) -> np.ndarray:
    """Return the picture of an annotated image, uint8 (H, W, 3), or if it is grey uint8 or uint16 (H, W).

    Raises:
        DataError: no picture, undecodable, or of another size than its labels.
    """
    source = image.image
    if source is None:
        raise DataError(image.stem, "a picture of this name", "none found", "say where the pictures are: --images FOLDER")
    if isinstance(source, np.ndarray):
        pixels = source
    elif not source.name.lower().endswith(IMAGE_SUFFIXES):
        pixels = _decoded(source)
    else:
        with open_image(source) as opened:
            grey, deep = opened.shape[-1] == 1, opened.dtype == np.uint16
            if grey and deep:
                pixels = opened.pixels()[..., 0]
        if not (grey and deep):
            pixels = (255 * read_rgb(source)).round().astype(np.uint8)
            pixels = pixels[..., 0] if grey else pixels
    _check_size(image, pixels.shape[:2])
    return pixels


def _check_size(image: Annotated, size: tuple[int, ...]) -> None:
    if size != image.labels.shape:
        got = f"{image.labels.shape[1]} × {image.labels.shape[0]}"
        do = "export the labels at the image's size"
        raise DataError(image.stem, f"labels of the picture's size, {size[1]} × {size[0]} pixels", got, do)


def _png_channels(path: Path) -> int | None:
    """Return the number of channels of a PNG that every program reads alike, else None."""
    if path.suffix.lower() != ".png":
        return None
    with decoding(path, "a picture"), Image.open(path) as picture:
        return {"L": 1, "RGB": 3}.get(picture.mode)


def _decoded(path: Path) -> np.ndarray:
    """Return a picture of a kind that is not trained from, as uint8 (H, W, 3)."""
    with decoding(path, "a picture"), Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


@contextlib.contextmanager
def beside_pictures(out: Path, about: About, write: Callable[[Annotated], None]) -> Iterator[Add]:
    """Yield what writes an image's labels and, in ``images``, its picture; the class names are listed at the end.

    Args:
        out: folder.
        about: the set.
        write: writes the labels of one image.
    """

    def add(image: Annotated) -> None:
        if image.image is not None:
            write_picture(image, out / "images")
        write(image)

    yield add
    write_text(out / "names.txt", "\n".join(about.names) + "\n")


def write_labels(path: Path, labels: np.ndarray) -> None:
    """Write uint8 (H, W) or (H, W, 3 or 4) as PNG into a folder that is not yet the user's.

    Raises:
        StorageError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(labels).save(path, format="PNG")
    except OSError as error:
        raise storage_error(error, path) from None
