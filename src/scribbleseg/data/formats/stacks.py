"""Label arrays in TIFF, zarr and HDF5 in which 0 means "not annotated", read slice by slice."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from scribbleseg.atomic import storage_error
from scribbleseg.data.formats.contents import Item, Options, Source, become
from scribbleseg.data.formats.index_png import listed_names
from scribbleseg.data.formats.labels import check_ids, from_zero, to_ours
from scribbleseg.data.formats.pictures import find_picture, near
from scribbleseg.data.formats.safety import head, library, reading, safe_name
from scribbleseg.data.formats.volumes import PATTERN, check_volume, cut, failing, stack_picture, tiff_page, tiff_pages
from scribbleseg.data.images import read_index
from scribbleseg.errors import DataError

#: How a slice is read: number of slices, and a function of the slice's number.
Stack = tuple[int, Callable[[int], np.ndarray]]


def zero_source(path: Path, folder: Path, files: list[Path], options: Options, tool: str, endings: tuple[str, ...]) -> Source:
    """Return a source of label arrays in which 0 means "not annotated" because a tool's rule says so.

    Args:
        path: the user's.
        folder: of the label files.
        files: TIFF, PNG, zarr or HDF5; each one image or one stack.
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
            stem = safe_name(_stem(file, folder), file)
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
    """Open a TIFF, a PNG, a zarr array or an HDF5 file of exported labels as a stack of slices.

    Raises:
        DataError: undecodable, absurdly large, or colours.
    """
    if path.suffix.lower() in (".tif", ".tiff"):
        return tiff_pages(path), lambda k: tiff_page(path, k)
    if path.suffix.lower() in (".png", ".bmp"):
        return 1, lambda k: read_index(path)
    if path.is_dir():
        array = _zarr_array(path)
        read = array.__getitem__
    else:
        array, read = _exported_labels(path)
    shape = tuple(int(n) for n in array.shape)
    leading = shape[:-2]
    number = int(np.prod(leading, dtype=np.int64)) if leading else 1

    def slice_of(k: int) -> np.ndarray:
        with reading(path, "an array of labels"):
            return np.asarray(read((*map(int, np.unravel_index(k, leading)), ...) if leading else ...))

    return number, slice_of


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


def _exported_labels(path: Path) -> tuple[Any, Callable[[Any], np.ndarray]]:
    """Return something with a ``shape`` (…, y, x) and a function that reads a part of an exported HDF5 file.

    Raises:
        DataError: not HDF5, several arrays, or absurdly large.
    """
    h5py = library("h5py", "HDF5")
    with reading(path, "an HDF5 file"), h5py.File(path, "r") as file:
        own = [k for k in file if isinstance(file.get(k, getlink=True), h5py.HardLink) and isinstance(file[k], h5py.Dataset)]
        key = "exported_data" if "exported_data" in own else own[0] if len(own) == 1 else None
        if key is None:
            raise DataError(path, "an array `exported_data`", ", ".join(own)[:100] or "none", "export it from ilastik again")
        data = file[key]
        check_data(path, data)
        axes = axes_of(data.attrs.get("axistags"), len(data.shape))
        extra = [k for k, a in enumerate(axes) if a == "c"]
        shape = tuple(n for k, n in enumerate(data.shape) if k not in extra)
        if any(data.shape[k] != 1 for k in extra) or axes.replace("c", "")[-2:] not in ("yx", "xy") or len(shape) < 2:
            raise DataError(
                path, "labels with y and x last, one channel", f"{axes} {data.shape}", "export with axes zyxc or yxc"
            )
    turned = axes.replace("c", "").endswith("xy")

    def read(index: Any) -> np.ndarray:
        with h5py.File(path, "r") as file:
            leading = list(index[:-1]) if isinstance(index, tuple) else []
            full: list[Any] = []
            for axis in axes:
                full.append(0 if axis == "c" else leading.pop(0) if leading else slice(None))
            plane = np.asarray(file[key][tuple(full)])
            return plane.T if turned else plane

    return _Shape(shape, turned), read


class _Shape:
    """The shape of something that is read elsewhere."""

    def __init__(self, shape: tuple[int, ...], turned: bool) -> None:
        self.shape = (*shape[:-2], shape[-1], shape[-2]) if turned else shape


def check_data(where: object, data: Any) -> None:
    """Refuse an HDF5 array, or chunks of one, that would not fit.

    Raises:
        DataError: it would not, or it holds no whole numbers.
    """
    if data.dtype.kind not in "bui":
        raise DataError(where, "labels, whole numbers", str(data.dtype), "export labels, not probabilities")
    count = max(int(np.prod(s, dtype=np.float64)) for s in (data.shape, data.chunks or (1,)))
    if not data.shape or len(data.shape) > 5 or min(data.shape) < 1 or count > 4 << 30:
        got = " × ".join(map(str, data.shape)) or "a single number"
        raise DataError(where, "an array of at most 4 GiB", got, "cut the volume into pieces")


def axes_of(tags: Any, number: int) -> str:
    """Return one letter an axis, from ilastik's axistags or, without them, the usual order."""
    with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError, RecursionError):
        text = tags.decode() if isinstance(tags, bytes) else str(tags)
        keys = "".join(axis["key"] for axis in json.loads(text)["axes"]) if text.startswith("{") else text
        if len(keys) == number == len(set(keys)) and set(keys) <= set("tzyxc"):
            return keys
    return {2: "yx", 3: "yxc", 4: "zyxc", 5: "tzyxc"}.get(number, "")


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


def _stem(file: Path, folder: Path) -> str:
    """Return the name of an image: of the file, or of the OME-Zarr around an array that is called ``0``."""
    group = next((p for p in (file, *file.parents) if p.name.lower().endswith(".zarr")), file)
    name = group.relative_to(folder).as_posix() if group.is_relative_to(folder) and group != folder else group.name
    suffix = next((s for s in (".ome.zarr", ".ome.tif", ".ome.tiff") if name.lower().endswith(s)), group.suffix)
    return name[: len(name) - len(suffix)]


def _highest(path: Path, unlabelled: int) -> int:
    """Return the number of classes that a file needs; 0 if it cannot be read, which is told when it is converted."""
    highest = 0
    with contextlib.suppress(DataError):
        number, slice_of = open_stack(path)
        for k in range(number):
            labels = slice_of(k)
            top = int(labels.max(initial=0, where=labels != unlabelled))
            highest = max(highest, top + 1 - (top > unlabelled)) if (labels != unlabelled).any() else highest
    return highest
