"""One image with its labels, looked at in a worker process: files in, a small record out, never an image."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import struct
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from scipy import ndimage

from scribbleseg.data.folder import Dataset
from scribbleseg.data.images import IMAGE_SUFFIXES, MAX_PIXELS, image_size, read_index
from scribbleseg.data.listing import Source, split_slice
from scribbleseg.data.shards.files import File, Member
from scribbleseg.data.vector import rasterise, read_strokes
from scribbleseg.errors import DataError
from scribbleseg.reading import PLAIN, Reading
from scribbleseg.records import UNLABELLED

#: Side of the grid on which the looks of two images are compared; a look has this number squared of bits.
LOOK_SIDE = 16

#: Pictures flatter than this (standard deviation of the grid, of 1) have no look: all of them would be alike.
FLAT = 2 / 255


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a file cannot be used, as :class:`DataError` says it. ``kind`` is missing, double, broken, size or crash."""

    kind: str
    where: str
    expected: str
    got: str
    do: str


#: A pair of numbers in a label file's record: an id or value, and how many there are.
_PAIR = struct.Struct("<BQ")

Pairs = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Labels:
    """What a label file holds, packed: as tuples a hundred thousand of them would be most of a check's memory."""

    packed_pixels: bytes
    packed_strokes: bytes = b""

    @classmethod
    def of(cls, pixels: Pairs, strokes: Pairs = ()) -> Labels:
        """Pack the numbers."""
        return cls(*(b"".join(_PAIR.pack(*pair) for pair in pairs) for pairs in (pixels, strokes)))

    @property
    def pixels(self) -> Pairs:
        """Number of pixels by value as stored, ascending."""
        return tuple(_PAIR.iter_unpack(self.packed_pixels))

    @property
    def strokes(self) -> Pairs:
        """Number of strokes by class id, ascending; empty for masks."""
        return tuple(_PAIR.iter_unpack(self.packed_strokes))


@dataclass(frozen=True, slots=True)
class Record:
    """All that is kept of an image.

    Attributes:
        stem: its name.
        size: (height, width), None where the header cannot be read.
        digest: hash of its pixels, or of its file's bytes if pixels are not decoded.
        look: bits that hardly change when a picture is scaled or compressed; None if not decoded, or without contrast.
        fault: why the image cannot be used.
        scribbles, masks: their contents, why they cannot be used, or None where no folder of them is named.
        known, wrong: number of stroke pixels whose class the mask knows, and of those with another class.
        postponed: not looked at yet; to be looked at alone, in a process of its own.
    """

    stem: str
    size: tuple[int, int] | None = None
    digest: bytes | None = None
    look: bytes | None = None
    fault: Fault | None = None
    scribbles: Labels | Fault | None = None
    masks: Labels | Fault | None = None
    known: int = 0
    wrong: int = 0
    postponed: bool = False


def scan_many(dataset: Dataset, stems: Iterable[str], *, quick: bool, most_pixels: int) -> list[Record]:
    """Return the records of some stems, in their order."""
    return [scan_one(dataset, stem, quick=quick, most_pixels=most_pixels) for stem in stems]


def scan_one(dataset: Dataset, stem: str, *, quick: bool = False, most_pixels: int = MAX_PIXELS) -> Record:
    """Look at an image, its scribbles and its mask.

    Args:
        dataset: where they are.
        stem: of the image.
        quick: read the image's header and bytes, but do not decode its pixels.
        most_pixels: an image with more is not looked at (``postponed``), unless it has more than can ever be read.

    Cost: dominated by decoding the image, 10 ms for a JPEG of 500 × 375 pixels on one core.
    """
    size, fault, digest, look = None, None, None, None
    with _quiet():
        try:
            source = dataset.image_source(stem)
            size = _size_of(source.path, dataset.spec.reading)
            if size[0] * size[1] > most_pixels:
                return Record(stem, postponed=True)
            digest, look = (_bytes_digest(source), None) if quick else _seen(dataset.rgb(stem))
        except (DataError, OSError) as error:
            fault = _fault(dataset.root, dataset.folder("images") / stem, error)
        scribbles = _read(dataset, "scribbles", stem, size)
        masks = _read(dataset, "masks", stem, size) if dataset.has_masks() else None
        unlabelled = dataset.spec.unlabelled
        drawn, truth = _contents(scribbles, unlabelled, strokes=True), _contents(masks, unlabelled, strokes=False)
        known, wrong = _compare(scribbles, masks, dataset)
    return Record(stem, size, digest, look, fault, drawn, truth, known, wrong)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence decoders that tell of damage they live with, and of damage that becomes a fault of ours."""
    logger = logging.getLogger("tifffile")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.addFilter(_never)
        try:
            yield
        finally:
            logger.removeFilter(_never)


def _never(_: logging.LogRecord) -> bool:
    return False


def _size_of(path: File, reading: Reading = PLAIN) -> tuple[int, int]:
    """Return (height, width) from the header; more pixels than may be decoded are refused before any is."""
    size = image_size(path, reading)
    if size[0] * size[1] > MAX_PIXELS:
        got = f"{size[1]} × {size[0]}"
        raise DataError(path, f"at most {MAX_PIXELS} pixels", got, "cut the picture into pieces")
    return size


def _bytes_digest(source: Source) -> bytes | None:
    """Return the hash of a file's bytes; of slices and folders, which share them, there is none."""
    if source.number is not None or source.path.is_dir():
        return None
    with source.path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()[:16]


def _seen(rgb: np.ndarray) -> tuple[bytes, bytes | None]:
    """Return the hash of the pixels, and the look: whether it gets brighter from each place of a grid to the next."""
    digest = hashlib.sha256(repr(rgb.shape).encode())
    digest.update(np.ascontiguousarray(rgb).data)
    green = Image.fromarray(np.ascontiguousarray(rgb[..., rgb.shape[-1] // 2], np.float32))
    grid = np.asarray(green.resize((LOOK_SIDE + 1, LOOK_SIDE), Image.Resampling.BOX))
    look = None if grid.std() < FLAT else np.packbits(grid[:, 1:] > grid[:, :-1]).tobytes()
    return digest.digest()[:16], look


def _fault(root: Path, place: File, error: DataError | OSError) -> Fault:
    """Return what became of a file."""
    if isinstance(error, OSError):
        got = error.strerror or type(error).__name__
        return Fault("broken", _below(root, place), "a readable file", got, "check the file and who may read it")
    kind = "broken"
    if error.got.startswith("no such file"):  # none was found, or the name of one leads nowhere
        kind = "missing"
    elif error.expected.startswith("one file ending in"):  # several were found
        kind = "double"
    got = (_instead(place) or error.got) if kind == "missing" else error.got
    where, stack = _below(root, Path(error.where)), split_slice(place.name)
    if stack is not None and Path(error.where).name.startswith(f"{stack[0]}."):
        where = f"{where}, slice {stack[1]}"
    return Fault(kind, where, error.expected, got, error.do)


def _instead(place: File) -> str | None:
    """Say what bears the name of a file that is missing."""
    if isinstance(place, Member):
        return None
    for suffix in ("", *IMAGE_SUFFIXES):
        path = place.parent / f"{place.name}{suffix}"
        try:
            if path.is_symlink() and not path.exists():
                return f"{path.name} is a link that leads nowhere"
            if path.is_dir() and suffix:
                return f"{path.name} is a folder"
        except OSError as error:
            return error.strerror or str(error)
    return None


def _below(root: Path, path: File) -> str:
    path = path if isinstance(path, Path) else Path(str(path))
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def stored_labels(
    dataset: Dataset, kind: Literal["scribbles", "masks"], stem: str, size: tuple[int, int] | None = None
) -> tuple[np.ndarray | None, tuple[int, int], File]:
    """Return labels as stored (None if their header has another size), their own size, and their file.

    Raises:
        DataError: they are missing, there twice, or not to be read.
    """
    spec, path = dataset.spec, dataset.strokes_path(stem) if kind == "scribbles" else None
    if path is not None:
        strokes, own = read_strokes(path)
        labels = rasterise(strokes, own) if size in (None, own) else None
        if labels is not None and spec.unlabelled != UNLABELLED:
            labels[labels == UNLABELLED] = spec.unlabelled
        return labels, own, path
    path, number = dataset.listing.find(dataset.folder(kind), stem)
    array = spec.arrays.get(kind)
    own = _size_of(path, Reading(array=array))
    if size not in (None, own):
        return None, own, path
    labels = read_index(path, number, array)
    return labels, (labels.shape[0], labels.shape[1]), path  # a TIFF's header may lie


def _read(
    dataset: Dataset, kind: Literal["scribbles", "masks"], stem: str, size: tuple[int, int] | None
) -> np.ndarray | Fault | None:
    """Return labels as stored, or why they cannot be used."""
    if getattr(dataset.spec, kind) is None:
        return None
    place = dataset.folder(kind) / stem
    try:
        labels, own, path = stored_labels(dataset, kind, stem, size)
        if size is not None and own != size:
            got = f"{own[1]} × {own[0]} pixels, its image {size[1]} × {size[0]}"
            do = "re-export the labels at the image's size"
            if own == size[::-1]:
                do = "turn them by 90°: the image, perhaps by its EXIF orientation, is shown turned"
            return Fault("size", _below(dataset.root, path), "labels of the size of their image", got, do)
        return labels
    except (DataError, OSError) as error:
        return _fault(dataset.root, place, error)


def _as_read(labels: np.ndarray, unlabelled: int) -> np.ndarray:
    """Return labels with 255 where nobody drew, as training reads them."""
    return labels if unlabelled == UNLABELLED else np.where(labels == unlabelled, np.uint8(UNLABELLED), labels)


def _compare(scribbles: np.ndarray | Fault | None, masks: np.ndarray | Fault | None, dataset: Dataset) -> tuple[int, int]:
    """Return the number of stroke pixels whose class the mask knows, and of those where it says another."""
    if not isinstance(scribbles, np.ndarray) or not isinstance(masks, np.ndarray) or scribbles.shape != masks.shape:
        return 0, 0
    drawn, truth = (_as_read(labels, dataset.spec.unlabelled) for labels in (scribbles, masks))
    known = (drawn < len(dataset.names)) & (truth < len(dataset.names))  # an id without a name is another fault
    return int(known.sum()), int((drawn != truth)[known].sum())


def _contents(labels: np.ndarray | Fault | None, unlabelled: int, *, strokes: bool) -> Labels | Fault | None:
    if not isinstance(labels, np.ndarray):
        return labels
    flat, counts = labels.ravel(), np.zeros(256, np.int64)
    for first in range(0, flat.size, 1 << 22):  # counting widens what it counts to eight bytes a pixel
        counts += np.bincount(flat[first : first + (1 << 22)], minlength=256)
    pixels = tuple((int(value), int(counts[value])) for value in np.flatnonzero(counts))
    return Labels.of(pixels, num_strokes(_as_read(labels, unlabelled)) if strokes else ())


def num_strokes(labels: np.ndarray) -> Pairs:
    """Return (class id, number of 8-connected pieces), as :func:`scribbleseg.data.strokes.strokes_of` finds them.

    Args:
        labels: uint8 (H, W), class ids and 255.

    Cost: some passes over the box around each class; five bytes a pixel at most, also for dense labels.
    """
    boxes = ndimage.find_objects(labels + np.uint8(1))  # 255 becomes 0, which has no box
    around = np.ones((3, 3), bool)
    found = ((k, ndimage.label(labels[box] == k, around)[1]) for k, box in enumerate(boxes) if box is not None)
    return tuple((k, int(number)) for k, number in found)
