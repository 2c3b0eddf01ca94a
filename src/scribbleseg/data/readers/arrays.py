"""HDF5 through h5py and zarr (OME-Zarr too): an array in a file, read by the chunks that a window touches."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scribbleseg.data.readers.axes import layout
from scribbleseg.data.readers.image import Image, Window, require_numbers
from scribbleseg.errors import DataError, nearest
from scribbleseg.extras import library
from scribbleseg.reading import Reading

#: A chunk is unpacked whole, so one of more bytes is refused.
_CHUNK_BYTES = 2**30

#: Letters of axes that files spell out.
_NAMES = {"channel": "c", "channels": "c", "time": "t", "band": "c", "height": "y", "width": "x"}

#: Length in mm of units as OME-Zarr spells them.
_MM = {"millimeter": 1.0, "micrometer": 1e-3, "nanometer": 1e-6, "centimeter": 10.0, "meter": 1e3}


@contextlib.contextmanager
def opened_hdf5(path: Path, reading: Reading) -> Iterator[Image]:
    """Open the array of an HDF5 file; its axes stand in ilastik's ``axistags`` or in dimension labels, if anywhere."""
    h5py: Any = library("h5py", path, "which reads HDF5 files", "arrays", error=DataError)
    with h5py.File(path, "r") as file:
        found: dict[str, Any] = {}

        def collect(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset) and item.ndim >= 2 and item.dtype.kind in "buif":
                found[name] = item

        file.visititems(collect)  # links are not followed, so every array is inside this file
        array = _chosen(path, found, reading.array)
        if array.external:
            raise DataError(path, "values inside the file", "values in another file", "write the array into one file")
        axes = _axistags(array.attrs.get("axistags")) or _letters([d.label for d in array.dims])
        element = array.attrs.get("element_size_um")  # z, y, x: as ImageJ's HDF5 plugin writes it
        known = np.asarray(element, dtype=float) / 1000 if element is not None and np.size(element) == 3 else None
        spacing = dict(zip("zyx", known.tolist(), strict=True)) if known is not None else {}
        yield _image(path, array, array.chunks, reading.axes or axes, spacing)


@contextlib.contextmanager
def opened_zarr(path: Path, reading: Reading) -> Iterator[Image]:
    """Open a zarr array, or the array of a group: the finest level of OME-Zarr, the named one or the only one."""
    zarr: Any = library("zarr", path, "which reads zarr arrays", "arrays", error=DataError)
    if not path.exists():
        raise FileNotFoundError
    try:
        node = zarr.open(store=str(path), mode="r")
    except FileNotFoundError:
        raise DataError(path, "a zarr array or group", "a folder without zarr's metadata", "copy the whole folder") from None
    axes: str | None = None
    spacing: dict[str, float] = {}
    if isinstance(node, zarr.Array):
        array = node
    else:
        attributes = dict(node.attrs)
        scales = attributes.get("ome", attributes).get("multiscales")
        if scales and reading.array is None:
            level = scales[0]["datasets"][0]
            array = node[level["path"]]
            axes, spacing = _ome_axes(scales[0], level)
        else:
            array = _chosen(path, {n: a for n, a in node.arrays() if a.ndim >= 2 and a.dtype.kind in "buif"}, reading.array)
    if axes is None:
        named = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
        axes = _letters(named) if named else None
    yield _image(path, array, array.chunks, reading.axes or axes, spacing)


def _image(path: Path, array: Any, chunks: Sequence[int] | None, axes: str | None, spacing: Mapping[str, float]) -> Image:
    """Return the record of an array that can be sliced."""
    dtype = np.dtype(array.dtype)
    require_numbers(path, dtype)
    found = layout(path, array.shape, axes)
    if chunks is not None and math.prod(int(n) for n in chunks) * dtype.itemsize > _CHUNK_BYTES:
        got = " × ".join(map(str, chunks))
        raise DataError(path, f"chunks of at most {_CHUNK_BYTES >> 20} MB", got, "write the array with smaller chunks")

    def stored(number: int, window: Window) -> np.ndarray:
        return found.upright(array[found.index(number, window)])

    y, x, z = (n if (n := spacing.get(a, 0.0)) > 0 and math.isfinite(n) else None for a in "yxz")
    return Image(path, found.picture, dtype, stored, found.slices, (y, x) if y and x else None, z)


def _chosen(path: Path, found: Mapping[str, Any], name: str | None) -> Any:
    """Return the array of this name, or the only one."""
    if name is not None and name.strip("/") in found:
        return found[name.strip("/")]
    if name is None and len(found) == 1:
        return next(iter(found.values()))
    some = ", ".join(sorted(found)[:8]) or "none"
    if name is not None:
        do = nearest(name, found) if found else "check the file"
        raise DataError(path, f"an array '{name}' of two or more axes", some, do)
    do = "name it in dataset.yaml, as `arrays: {images: NAME, scribbles: NAME}`"
    raise DataError(path, "one array of two or more axes", some, do if found else "check the file")


def _axistags(text: Any) -> str | None:
    """Return the axes that ilastik writes as JSON."""
    with contextlib.suppress(Exception):
        return "".join(str(axis["key"]) for axis in json.loads(text)["axes"])
    return None


def _letters(names: Iterable[Any]) -> str | None:
    """Return a letter a name, or None where a name says nothing."""
    letters = [_NAMES.get(str(name).lower(), str(name).lower()) for name in names]
    return "".join(letters) if letters and all(len(letter) == 1 for letter in letters) else None


def _ome_axes(scale: Mapping[str, Any], level: Mapping[str, Any]) -> tuple[str | None, dict[str, float]]:
    """Return the axes of an OME-Zarr level, and the distances in mm along those that have one."""
    axes = [axis if isinstance(axis, Mapping) else {"name": axis} for axis in scale.get("axes", ())]
    spacing: dict[str, float] = {}
    with contextlib.suppress(Exception):  # spacing is optional
        steps = next(t["scale"] for t in level["coordinateTransformations"] if t["type"] == "scale")
        spacing = {a["name"]: float(s) * _MM[a["unit"]] for a, s in zip(axes, steps, strict=True) if a.get("unit") in _MM}
    return _letters(a["name"] for a in axes), spacing
