"""Label layers as napari saves them: TIFF or zarr, 0 is nothing, the first class is 1."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from scribbleseg.atomic import storage_error
from scribbleseg.data.formats.contents import About, Add, Annotated, Format, Item, Options, Source, become
from scribbleseg.data.formats.index_png import label_folder, listed_names
from scribbleseg.data.formats.labels import check_ids, from_zero, to_ours
from scribbleseg.data.formats.pictures import find_picture, near, write_picture
from scribbleseg.data.formats.safety import files_in, head, library, reading, safe_name
from scribbleseg.data.formats.volumes import PATTERN, check_volume, cut, failing, stack_picture, tiff_page, tiff_pages
from scribbleseg.errors import DataError

#: What label files have behind the name of their image.
ENDINGS = ("_labels", "-labels", " labels", "_Labels", "-Labels", " Labels")

#: How a slice is read: number of slices, and a function of the slice's number.
Stack = tuple[int, Callable[[int], np.ndarray]]


class Napari(Format):
    """Read and write label layers whose 0 means "not annotated"."""

    title = "napari labels"
    unlabelled = "0 (`background`); class 1 is the first"
    holds = "TIFF, pages as slices; zarr and OME-Zarr label arrays, y and x last"
    writes = "labels/STEM.tif with 0, images/, names.txt"
    extra = "formats"
    source = "https://napari.org/stable/howtos/layers/labels.html"

    def recognise(self, path: Path) -> str | None:
        """See the base class. A TIFF alone does not say that it is napari's: name it with ``--from napari``."""
        found = zarr_arrays(path)
        return f"a zarr array of labels, {found[0].name}" if found else None

    def read(self, path: Path, options: Options) -> Source:
        """See the base class. Without names every file is read once before, to count the classes."""
        files = zarr_arrays(path)
        folder = label_folder(path)
        if not files:
            files = [path] if path.is_file() else files_in(folder, ".tif", ".tiff", deep=True)
        return zero_source(path, folder, files, options, "napari", ENDINGS)

    @contextlib.contextmanager
    def writer(self, out: Path, about: About) -> Iterator[Add]:
        """See the base class."""

        def add(image: Annotated) -> None:
            if image.image is not None:
                write_picture(image, out / "images")
            write_zero_tiff(out / "labels" / f"{image.stem}.tif", image.labels)

        yield add
        (out / "names.txt").write_text("\n".join(about.names) + "\n", encoding="utf-8")


def zero_source(path: Path, folder: Path, files: list[Path], options: Options, tool: str, endings: tuple[str, ...]) -> Source:
    """Return a source of label arrays in which 0 means "not annotated" because a tool's rule says so.

    Args:
        path: the user's.
        folder: of the label files.
        files: TIFF, zarr or HDF5; each one image or one stack.
        options: the user's; another ``unlabelled`` than 0 wins.
        tool: whose rule it is.
        endings: what label files have behind the name of their image.

    Raises:
        DataError: no file, or no class.
    """
    if not files:
        raise DataError(path, f"label images of {tool}", "none", "name the file, or the folder that holds them")
    value = 0 if options.value is None else options.value
    names = options.names or listed_names(path, folder, folder.parent)
    if names is None:
        highest = max((_highest(file, value) for file in files), default=0)
        names = tuple(f"class{k}" for k in range(highest))
        if not 1 <= highest <= 254:
            got = f"a highest class of {highest}"
            raise DataError(path, "classes from 1 to 254", got, "check that these are labels, or name the classes: --names")
    named = names
    folders = near(folder, options.images)

    def items() -> Iterator[Item]:
        for file in files:
            name = file.relative_to(folder).as_posix() if file.is_relative_to(folder) else file.name
            stem = safe_name(name[: -len(file.suffix)], file)
            stem = next((stem.removesuffix(e) for e in endings if stem.endswith(e)), stem)
            try:
                number, slice_of = open_stack(file)
                picture = find_picture(stem, folders, but=file)
            except DataError as error:
                yield failing(stem, error)
                continue

            def labels_of(k: int, file: Path = file, slice_of: Callable[[int], np.ndarray] = slice_of) -> np.ndarray:
                labels = to_ours(file, slice_of(k), value)
                check_ids(file, labels, named)
                return labels

            def picture_of(k: int, picture: Path | None = picture, number: int = number) -> Path | np.ndarray | None:
                return stack_picture(picture, k, number)

            yield from cut(file, stem, number, labels_of, picture_of)

    why = tool if options.value is None else "you said so"
    decided = f"{value} means not annotated ({why}); its classes {', '.join(str(k + 1) for k in range(min(3, len(named))))}"
    decided += "…" if len(named) > 3 else ""
    return Source(named, f"{decided} are {become(named).replace(' become', ', and become')}", items(), PATTERN)


def open_stack(path: Path) -> Stack:
    """Open a TIFF, a zarr array or an HDF5 file of exported labels as a stack of slices.

    Raises:
        DataError: undecodable, absurdly large, or colours.
    """
    if path.suffix.lower() in (".tif", ".tiff"):
        return tiff_pages(path), lambda k: tiff_page(path, k)
    if path.is_dir():
        array = _zarr_array(path)
        read = array.__getitem__
    else:
        array, read = _hdf5_labels(path)
    shape = tuple(int(n) for n in array.shape)
    leading = shape[:-2]
    number = int(np.prod(leading, dtype=np.int64)) if leading else 1

    def slice_of(k: int) -> np.ndarray:
        with reading(path, "an array of labels"):
            return np.asarray(read((*map(int, np.unravel_index(k, leading)), ...) if leading else ...))

    return number, slice_of


def zarr_arrays(path: Path) -> list[Path]:
    """Return the zarr arrays at a path: itself, OME-Zarr's labels inside it, or the ones in a folder."""
    if not path.is_dir():
        return []
    if _is_array(path):
        return [path]
    own = [p / "0" if _is_array(p / "0") else p for p in sorted(path.glob("labels/*")) if _is_array(p) or _is_array(p / "0")]
    return own or [p for p in sorted(path.glob("*.zarr")) if _is_array(p)]


def write_zero_tiff(path: Path, labels: np.ndarray) -> None:
    """Write a TIFF in which 0 means "not annotated".

    Raises:
        StorageError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, from_zero(labels), photometric="minisblack", compression="zlib")
    except OSError as error:
        raise storage_error(error, path) from None


def _is_array(path: Path) -> bool:
    return (path / ".zarray").is_file() or '"array"' in head(path / "zarr.json", 1 << 16)


def _zarr_array(path: Path) -> Any:
    zarr = library("zarr", "zarr arrays")
    with reading(path, "a zarr array"):
        meta = json.loads(head(path / ".zarray", 1 << 16) or head(path / "zarr.json", 1 << 16))
        shape, chunks = meta["shape"], meta.get("chunks") or meta["chunk_grid"]["configuration"]["chunk_shape"]
        check_volume(path, tuple(shape), 1)
        check_volume(path, tuple(chunks), 8)
        array = zarr.open_array(path, mode="r")
    if array.dtype.kind not in "bui":
        raise DataError(path, "an array of labels, whole numbers", str(array.dtype), "name the label array, not the picture")
    return array


def _hdf5_labels(path: Path) -> Any:
    from scribbleseg.data.formats.ilastik import exported_labels

    return exported_labels(path)


def _highest(path: Path, unlabelled: int) -> int:
    """Return the number of classes that a file needs; 0 if it cannot be read, which is told when it is converted."""
    highest = 0
    with contextlib.suppress(DataError):
        number, slice_of = open_stack(path)
        for k in range(number):
            labels = slice_of(k)
            ids = labels[labels != unlabelled]
            highest = max(highest, int(ids.max(initial=0)) + (unlabelled > 0))
    return highest
