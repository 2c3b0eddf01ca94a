"""TIFF through tifffile: grey, RGB and multi-channel, pages as slices; a window reads only its tiles or strips."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from scribbleseg.data.readers.axes import Layout, layout
from scribbleseg.data.readers.image import MAX_PIXELS, Image, TooLargeError, Window, require_numbers
from scribbleseg.data.shards.files import File
from scribbleseg.errors import DataError
from scribbleseg.reading import Reading

#: Length in mm of the units that TIFF, ImageJ and OME files name.
_MM = {
    "inch": 25.4,
    "cm": 10.0,
    "mm": 1.0,
    "µm": 1e-3,
    "\\u00b5m": 1e-3,
    "um": 1e-3,
    "micron": 1e-3,
    "microns": 1e-3,
    "nm": 1e-6,
}

#: Dots per inch that programs write where they know nothing.
_SCREEN_DPI = (72.0, 96.0)


@contextlib.contextmanager
def opened(path: File, reading: Reading) -> Iterator[Image]:
    """Open a TIFF: its first page, or all pages of the first page's size as slices or channels, as its metadata say."""
    with _file(path) as tiff:
        page = tiff.pages[0]
        kind = page.photometric.name
        if kind not in ("MINISBLACK", "MINISWHITE", "RGB", "YCBCR"):
            raise DataError(path, "a grey or RGB TIFF", kind, "save the picture as RGB")
        if page.dtype is None:
            raise DataError(path, "8, 16 or 32 bits a value", f"{page.bitspersample}", "export the picture again")
        require_numbers(path, page.dtype)
        series = tiff.series[0] if _has_more_pages(tiff, page) else None
        shape, axes = (page.shape, page.axes) if series is None else (series.shape, series.axes)
        own = axes.lower().replace("s", "c")
        found = layout(path, shape, reading.axes or own)
        if [found.axes.index(a) for a in "yx"] != [own.index(a) for a in "yx"]:
            raise DataError(path, f"the file's own order, {own}", f"axes {found.axes}", "mend `axes` in dataset.yaml")
        read = _page_reader(page) if series is None else _series_reader(path, series, found)
        white_is_zero = kind == "MINISWHITE"

        def stored(number: int, window: Window) -> np.ndarray:
            part = found.upright(read(number, window))
            return _inverted(part) if white_is_zero else part

        turn = int(page.tags["Orientation"].value) if "Orientation" in page.tags else 1
        height, width, channels = found.picture
        whole = cache(lambda number: upright(stored(number, Window(0, 0, height, width)), turn))

        def turned(number: int, window: Window) -> np.ndarray:  # of photographs: windows do not pay
            return whole(number)[window.place]

        spacing, slice_mm = _spacing_mm(tiff, page)
        size = (height, width)
        if turn in (5, 6, 7, 8):
            size, spacing = (width, height), spacing[::-1] if spacing else None
        fetch = stored if turn == 1 else turned
        yield Image(path, (*size, channels), page.dtype, fetch, found.slices, spacing, slice_mm)


@contextlib.contextmanager
def _file(path: File) -> Iterator[tifffile.TiffFile]:
    if isinstance(path, Path):
        with tifffile.TiffFile(path) as tiff:
            yield tiff
    else:  # which has no neighbours that its metadata could name
        with path.open() as file, tifffile.TiffFile(file, name=path.name, _multifile=False) as tiff:
            yield tiff


def _has_more_pages(tiff: tifffile.TiffFile, page: Any) -> bool:
    """Say whether the picture goes on after the first page; smaller pages are previews and levels of a pyramid."""
    if tiff.is_imagej or '"truncated": true' in (page.description or ""):  # may hold all slices in one page
        return True
    return len(tiff.pages) > 1 and tiff.pages[1].shape == page.shape


def _page_reader(page: Any) -> Callable[[int, Window], np.ndarray]:
    def read(number: int, window: Window) -> np.ndarray:
        rows, columns = window.place
        return page_window(page, rows, columns)

    return read


def _series_reader(path: File, series: Any, found: Layout) -> Callable[[int, Window], np.ndarray]:
    """Return the reader of a stack whose slices are pages, or lie in one block."""
    inner = len(series.keyframe.shape)
    outer = found.shape[:-inner]
    numbers = np.arange(len(series)).reshape(outer) if np.prod(outer, dtype=np.int64) == len(series) else None
    if numbers is None and series.dataoffset is None:
        got = f"{len(series)} pages for a shape of {found.shape}"
        raise DataError(path, "a page for every slice and channel", got, "re-export the stack; it may be cut short")

    def read(number: int, window: Window) -> np.ndarray:
        index = found.index(number, window)
        if numbers is None:
            return series.asarray(out="memmap")[index]
        wanted = numbers[index[: len(outer)]]
        rows, columns = window.place
        parts = [_part(path, series[int(n)], rows, columns) for n in wanted.ravel()]
        return np.stack(parts).reshape(*wanted.shape, *parts[0].shape)

    return read


def _part(path: File, page: Any, rows: slice, columns: slice) -> np.ndarray:
    if page is None:
        raise DataError(path, "every page of the stack", "a missing one", "re-export the stack")
    return page_window(page, rows, columns)


def page_window(page: Any, rows: slice, columns: slice) -> np.ndarray:
    """Return part of a page, its axes in the page's own order.

    Cost: the tiles or strips that the part touches are read and decoded, and nothing else.
    """
    frame = page.keyframe
    size = (frame.imagelength, frame.imagewidth)
    bands = [slice(None)] * len(frame.shape)
    bands[frame.axes.index("Y")], bands[frame.axes.index("X")] = rows, columns
    needed = math.prod(frame.chunked)
    if not frame.is_contiguous and frame.jpegheader is None and len(page.dataoffsets) < needed:
        raise ValueError(f"{len(page.dataoffsets)} tiles or strips, of {needed} for {size[1]} × {size[0]} pixels")
    if (rows.start, rows.stop, columns.start, columns.stop) == (0, size[0], 0, size[1]):
        return np.asarray(page.asarray())
    if page.is_memmappable:
        return np.array(page.asarray(out="memmap")[tuple(bands)])
    planes, depth, _, _, samples = frame.shaped
    high, wide = (frame.tilelength, frame.tilewidth) if frame.is_tiled else (frame.rowsperstrip, frame.imagewidth)
    if depth != 1 or not high or not wide:
        return np.asarray(page.asarray())[tuple(bands)]
    high = min(high, size[0]) if not frame.is_tiled else high
    if high * wide > MAX_PIXELS:
        raise TooLargeError
    across, down = -(-size[1] // wide), -(-size[0] // high)
    wanted = [
        (plane * down + y) * across + x
        for plane in range(planes)
        for y in range(rows.start // high, -(-rows.stop // high))
        for x in range(columns.start // wide, -(-columns.stop // wide))
    ]
    result = np.full((planes, rows.stop - rows.start, columns.stop - columns.start, samples), frame.nodata, frame.dtype)
    options: dict[str, Any] = {"_fullsize": False}
    if frame.compression in (6, 7, 34892, 33007):  # JPEG, whose tables stand apart
        options |= {"jpegtables": page.jpegtables, "jpegheader": frame.jpegheader}
    places = [page.dataoffsets[n] for n in wanted], [page.databytecounts[n] for n in wanted]
    for content, number in page.parent.filehandle.read_segments(*places, indices=wanted, sort=True):
        segment, (plane, _, top, left, _), _ = frame.decode(content, number, **options)
        if segment is not None:
            _paste(result[plane], segment[0], top - rows.start, left - columns.start)
    if frame.axes.startswith("S"):
        return result[..., 0]
    return result[0] if "S" in frame.axes else result[0, ..., 0]


def _paste(onto: np.ndarray, segment: np.ndarray, top: int, left: int) -> None:
    """Lay a segment over an array, cutting off what hangs over its edges."""
    segment = segment[max(0, -top) :, max(0, -left) :]
    top, left = max(0, top), max(0, left)
    segment = segment[: onto.shape[0] - top, : onto.shape[1] - left]
    onto[top : top + segment.shape[0], left : left + segment.shape[1]] = segment


def _inverted(array: np.ndarray) -> np.ndarray:
    """Make black 0 where white was."""
    if array.dtype.kind == "b":
        return ~array
    return np.iinfo(array.dtype).max - array if array.dtype.kind == "u" else 1 - array


def upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Undo a TIFF or EXIF orientation (1 to 8), which counts from the stored picture's top left."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return array


def _spacing_mm(tiff: tifffile.TiffFile, page: Any) -> tuple[tuple[float, float] | None, float | None]:
    """Return the distances of rows and columns, and of slices, from OME, ImageJ or TIFF's own tags."""
    with contextlib.suppress(Exception):  # metadata written by anybody: what cannot be read is not known
        if tiff.is_ome:
            pixels = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]
            pixels = (pixels[0] if isinstance(pixels, list) else pixels)["Pixels"]
            x, y, z = (_length(pixels.get(f"PhysicalSize{a}"), pixels.get(f"PhysicalSize{a}Unit", "µm")) for a in "XYZ")
            return ((y, x) if x and y else None), z
        imagej = tiff.imagej_metadata or {} if tiff.is_imagej else {}
        unit = str(imagej.get("unit", "")) or {2: "inch", 3: "cm"}.get(int(page.resolutionunit), "")
        x, y = (_length(1 / float(r), unit) if r else None for r in page.get_resolution())
        if not imagej and unit == "inch" and page.get_resolution()[0] in _SCREEN_DPI:
            return None, None
        return ((y, x) if x and y else None), _length(imagej.get("spacing"), unit)
    return None, None


def _length(number: Any, unit: str) -> float | None:
    """Return millimetres, or None where they cannot be told."""
    length = float(number) * _MM[unit] if number is not None and unit in _MM else 0.0
    return length if np.isfinite(length) and length > 0 else None
