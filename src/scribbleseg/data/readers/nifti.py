"""NIfTI through nibabel. A slice is the third axis, its rows the second and its columns the first, as ITK has them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from scribbleseg.data.readers.axes import layout
from scribbleseg.data.readers.image import Image, Window, require_numbers
from scribbleseg.errors import DataError
from scribbleseg.extras import library
from scribbleseg.reading import Reading

_AXES = {2: "xy", 3: "xyz", 4: "xyzc", 5: "xyztc"}

#: Length in mm of a header's unit. ``unknown`` is what most programs leave there, and mean millimetres by.
MM = {"mm": 1.0, "micron": 1e-3, "meter": 1e3, "unknown": 1.0}

#: Deflate packs at most so many bytes into one: a smaller file cannot hold what its header says.
_DEFLATE_RATIO = 1032

#: A packed file is unpacked into memory at the second read, if it is no larger.
_UNPACKED_BYTES = 2**30


@contextlib.contextmanager
def opened(path: Path, reading: Reading) -> Iterator[Image]:
    """Open a scan; the header's slope and intercept are applied.

    Cost: an unpacked file is read where the window is. A packed one (``.nii.gz``) has no places: each first read of a
    slice unpacks all before it.
    """
    nibabel: Any = library("nibabel", path, "which reads NIfTI files", "medical", error=DataError)
    scan = nibabel.load(path)
    if not isinstance(scan, nibabel.Nifti1Pair):
        raise DataError(path, "a NIfTI file", type(scan).__name__, "export it as .nii or .nii.gz")
    data = scan.dataobj
    require_numbers(path, np.dtype(data.dtype))
    found = layout(path, data.shape, _AXES.get(len(data.shape), "?"))
    packed = path.suffix.lower() == ".gz"
    claimed, size = data.offset + math.prod(data.shape) * data.dtype.itemsize, path.stat().st_size
    if claimed > (size * _DEFLATE_RATIO if packed else size):
        got = f"{size} bytes for {' × '.join(map(str, data.shape))} values of type {data.dtype}"
        raise DataError(path, "as many values as its header says", got, "re-export the file; it may be cut short")
    scaled = (data.slope, data.inter) != (1, 0)
    unpacked = cache(data.get_unscaled)
    reads: list[int] = []

    def stored(number: int, window: Window) -> np.ndarray:
        reads.append(number)
        if packed and len(reads) > 1 and claimed <= _UNPACKED_BYTES:
            part = unpacked()[found.index(number, window)]
            return found.upright(part * float(data.slope) + float(data.inter) if scaled else part)
        return found.upright(data[found.index(number, window)])

    dtype = np.dtype(np.float64 if scaled else data.dtype)
    yield Image(path, found.picture, dtype, stored, found.slices, *_spacing_mm(scan.header))


def _spacing_mm(header: Any) -> tuple[tuple[float, float] | None, float | None]:
    with contextlib.suppress(Exception):  # a header may hold any number here: what makes no sense is not known
        unit = MM[header.get_xyzt_units()[0]]
        x, y, *more = (float(zoom) * unit for zoom in header.get_zooms())
        known = [n if math.isfinite(n) and n > 0 else None for n in (y, x, *more[:1])]
        return ((known[0], known[1]) if known[0] and known[1] else None), known[2] if len(known) > 2 else None
    return None, None
