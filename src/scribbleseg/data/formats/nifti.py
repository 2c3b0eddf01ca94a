"""Label volumes in NIfTI, cut into slices; written as a volume a slice."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from scribbleseg.atomic import storage_error, write_text
from scribbleseg.data.formats.contents import About, Add, Annotated, Format, Item, Options, Source, become
from scribbleseg.data.formats.index_png import decide, listed_names
from scribbleseg.data.formats.labels import check_ids, to_ours
from scribbleseg.data.formats.pictures import FOLDERS, pixels_of
from scribbleseg.data.formats.safety import files_in, library, reading, safe_stem
from scribbleseg.data.formats.volumes import PATTERN, as_picture, check_volume, cut, failing, limits
from scribbleseg.data.readers.nifti import MM
from scribbleseg.errors import DataError

SUFFIXES = (".nii", ".nii.gz")

#: What label files have behind the name of their image.
ENDINGS = ("_scribbles", "_scribble", "_labels", "_label", "_seg", "_gt")


class Nifti(Format):
    """Read NIfTI label volumes slice by slice; slices without strokes are left out. Write a volume an image."""

    title = "NIfTI label volumes"
    unlabelled = "255 where it occurs beside two other values; else you must say: `--unlabelled 0`, `4`, …"
    holds = (
        "slices along the last axis, names from names.txt; pictures from a volume of the same name, "
        "0.5th to 99.5th percentile as 16 bit"
    )
    writes = "a slice a file, where it lies in the patient: STEM_scribble.nii.gz with 255, STEM.nii.gz; names.txt"
    extra = "formats"
    source = "https://nifti.nimh.nih.gov/nifti-1"

    def recognise(self, path: Path) -> str | None:
        """See the base class."""
        if path.is_file():
            return "a NIfTI file" if path.name.lower().endswith(SUFFIXES) else None
        if (path / "dataset.json").is_file():
            return None
        files = label_volumes(path) if path.is_dir() else []
        return f"a folder of NIfTI files, as {files[0].name}" if files else None

    def read(self, path: Path, options: Options) -> Source:
        """See the base class. All volumes are read once before, to count the values, if names or the value are missing."""
        library("nibabel", "NIfTI")
        files = label_volumes(path)
        if not files:
            raise DataError(path, "NIfTI label volumes", "none", "name the file, or the folder that holds them")
        unlabelled, why = options.value, "you said so"
        names = options.names or listed_names(path if path.is_dir() else path.parent)
        if unlabelled is None or names is None:
            counts = _count(files)
            if unlabelled is None:
                unlabelled, why = decide(path, counts)
            highest = max((v - (v > unlabelled) for v in np.flatnonzero(counts).tolist() if v != unlabelled), default=0)
            names = names or tuple(f"class{k}" for k in range(highest + 1))
        images = options.images
        found, value = names, unlabelled

        def items() -> Iterator[Item]:
            for file in files:
                try:
                    stem = safe_stem(file.name, file)
                    picture = _picture_beside(file, stem, images)
                except DataError as error:
                    yield failing(file.name, error)
                    continue
                yield from volume_items(file, _plain(stem), picture, value, found)

        decided = f"{value} means not annotated ({why})"
        decided += f"; ids above it move down by one, {become(found)}" if value < len(found) else ""
        return Source(found, f"{decided}; slices without strokes are left out", items(), PATTERN)

    @contextlib.contextmanager
    def writer(self, out: Path, about: About) -> Iterator[Add]:
        """See the base class. RGB pictures have the colours as fifth axis, as NIfTI has it for vectors."""
        library("nibabel", "NIfTI")

        def add(image: Annotated) -> None:
            name = image.stem.replace("/", "__")
            if (out / f"{name}_scribble.nii.gz").exists():
                raise DataError(image.stem, "a name of its own without folders", name, "rename the image")
            pixels = pixels_of(image)
            _write(out / f"{name}.nii.gz", pixels, image.affine)
            _write(out / f"{name}_scribble.nii.gz", image.labels, image.affine)

        yield add
        write_text(out / "names.txt", "\n".join(about.names) + "\n")


def label_volumes(path: Path) -> list[Path]:
    """Return the label files: the one given, or those of a folder; of a name with and without ``_scribble``, the former."""
    if path.is_file():
        return [path]
    files = files_in(path, *SUFFIXES)
    marked = [file for file in files if file.name.lower().removesuffix(".gz").removesuffix(".nii").endswith(ENDINGS)]
    return marked or files


def volume_items(
    file: Path, stem: str, picture: Path | None, unlabelled: int, names: tuple[str, ...], split: str = "train"
) -> Iterator[Item]:
    """Yield the slices of one label volume; one item that fails if it cannot be opened."""
    try:
        volume = read_volume(file)
    except DataError as error:
        yield failing(stem, error)
        return

    def labels_of(k: int) -> np.ndarray:
        labels = to_ours(file, whole(file, volume[..., k]), unlabelled).T
        check_ids(file, labels, names)
        return labels

    @functools.cache
    def shown() -> tuple[np.ndarray, float, float] | None:
        if picture is None:
            return None
        pixels = read_volume(picture, colours=True)
        return pixels, *limits(pixels)

    def picture_of(k: int) -> np.ndarray | None:
        opened = shown()
        if opened is None:
            return None
        pixels, low, high = opened
        if pixels.shape[:3] != volume.shape:
            got = " × ".join(map(str, pixels.shape))
            raise DataError(picture, f"the shape of its labels, {' × '.join(map(str, volume.shape))}", got, "use the same grid")
        return as_picture(np.ascontiguousarray(pixels[:, :, k].swapaxes(0, 1)), low, high)

    yield from cut(file, stem, volume.shape[2], labels_of, picture_of, split, affine_of(file))


def affine_of(path: Path) -> np.ndarray | None:
    """Return the affine of a volume in mm, float64 (4, 4), or None where its axes are not x, y and z."""
    nibabel: Any = library("nibabel", "NIfTI")
    with reading(path, "a NIfTI file"):
        image = nibabel.load(path)
        if image.affine is None or any(n != 1 for n in image.shape[3:]):
            return None
        scale = np.array([*[MM.get(image.header.get_xyzt_units()[0], 1.0)] * 3, 1.0])
        affine = scale[:, None] * np.asarray(image.affine, dtype=np.float64)
        return affine if np.isfinite(affine).all() else None


def _write(path: Path, pixels: np.ndarray, affine: np.ndarray | None) -> None:
    """Write one slice, (H, W) or (H, W, 3); without an affine the header says that its place is not known.

    Raises:
        StorageError: it cannot be written.
    """
    nibabel: Any = library("nibabel", "NIfTI")
    flat = pixels.swapaxes(0, 1)
    image = nibabel.Nifti1Image(flat[:, :, None] if pixels.ndim == 2 else flat[:, :, None, None], affine)
    if pixels.ndim == 3:
        image.header.set_intent("vector")
    if affine is not None:
        image.header.set_xyzt_units("mm")
    try:
        nibabel.save(image, path)
    except OSError as error:
        raise storage_error(error, path) from None


def read_volume(path: Path, *, colours: bool = False) -> np.ndarray:
    """Read a volume whole, (X, Y, Z), in the type that its scaling gives.

    Args:
        path: of the file.
        colours: whether it may be (X, Y, Z, 3): RGB along the fifth axis.

    Raises:
        DataError: undecodable, absurdly large, or with more axes than three.
    """
    nibabel: Any = library("nibabel", "NIfTI")
    with reading(path, "a NIfTI file"):
        image = nibabel.load(path)
        shape = tuple(int(n) for n in image.shape)
        check_volume(path, shape, int(image.get_data_dtype().itemsize))
        if colours and len(shape) == 5 and shape[3:] == (1, 3):
            return np.asanyarray(image.dataobj)[:, :, :, 0]
        kept = shape[:2] + tuple(n for n in shape[2:] if n != 1)
        if len(kept) > 3:
            raise DataError(path, "a volume of three axes", " × ".join(map(str, shape)), "save one file for each time point")
        return np.asanyarray(image.dataobj).reshape(*kept[:2], kept[2] if len(kept) == 3 else 1)


def whole(where: object, labels: np.ndarray) -> np.ndarray:
    """Return whole numbers of labels that were stored as floats.

    Raises:
        DataError: they are none.
    """
    if labels.dtype.kind in "bui":
        return labels
    if labels.dtype.kind != "f" or not (np.abs(labels) < 1e6).all() or not (labels == np.floor(labels)).all():
        got = f"{labels.dtype} that are no whole numbers"
        raise DataError(where, "class ids, whole numbers", got, "export labels, not probabilities or pictures")
    return labels.astype(np.int64)


def _count(files: list[Path]) -> np.ndarray:
    counts = np.zeros(256, dtype=np.int64)
    for file in files:
        try:
            labels = whole(file, read_volume(file))
            if labels.min(initial=0) < 0 or labels.max(initial=0) > 255:
                got = f"{labels.min()} to {labels.max()}"
                raise DataError(file, "class ids from 0 to 255", got, "name the label volumes, not the pictures")
        except DataError:
            if file == files[0]:
                raise
            continue  # told when it is converted
        counts += np.bincount(labels.ravel(), minlength=256)
    return counts


def _plain(stem: str) -> str:
    return next((stem.removesuffix(e) for e in ENDINGS if stem.endswith(e) and stem != e), stem)


def _picture_beside(file: Path, stem: str, images: Path | None) -> Path | None:
    plain = _plain(stem)
    folders = (images,) if images is not None else (*(file.parent.parent / name for name in FOLDERS), file.parent)
    for folder in folders:
        for name in (plain, f"{plain}_0000", stem):
            for suffix in SUFFIXES:
                path = folder / f"{name}{suffix}"
                if path != file and path.is_file():
                    return path
    return None
