"""DICOM through pydicom: a picture, a file of several frames, or a folder that holds the files of one series."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from scribbleseg.data.readers.axes import layout
from scribbleseg.data.readers.image import MAX_PIXELS, MAX_SLICES, Image, TooLargeError, Window
from scribbleseg.errors import DataError
from scribbleseg.extras import library
from scribbleseg.reading import Reading

_PLACE = ("SeriesInstanceUID", "InstanceNumber", "ImagePositionPatient", "ImageOrientationPatient", "Rows", "Columns")
_COLOURS = ("MONOCHROME1", "MONOCHROME2", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")


@contextlib.contextmanager
def opened(path: Path, reading: Reading) -> Iterator[Image]:
    """Open DICOM; more than 8 bits become floats in the file's unit (CT: Hounsfield), by its slope and intercept.

    Cost: a frame is always decoded whole; of a series the header of every file is read to bring them in order.
    """
    pydicom: Any = library("pydicom", path, "which reads DICOM files", "medical", error=DataError)
    files, apart = _series(path, pydicom) if path.is_dir() else ([path], None)
    head = pydicom.dcmread(files[0], stop_before_pixels=True)
    kind = str(head.get("PhotometricInterpretation", ""))
    if kind not in _COLOURS or "ModalityLUTSequence" in head:
        got = kind if kind not in _COLOURS else "a table of values (Modality LUT)"
        raise DataError(files[0], "a grey or RGB DICOM image", got or "no image", "export it as grey or RGB")
    rows, columns, frames = int(head.Rows), int(head.Columns), int(head.get("NumberOfFrames") or 1)
    if len(files) > 1 and frames > 1:
        raise DataError(path, "one frame a file in a series", f"{frames}", "name the multi-frame file itself")
    colours = 1 if kind.startswith("MONO") else 3
    found = layout(path, (len(files) * frames, rows, columns, colours), "zyxc")
    if rows * columns > MAX_PIXELS:
        raise TooLargeError
    bits = int(head.get("BitsStored", 32))
    plain = bits <= 8 and _slope(head, 0) == (1, 0)
    signed = int(head.get("PixelRepresentation", 0)) == 1

    @lru_cache(maxsize=1)
    def frame(number: int) -> np.ndarray:
        file, inner = (files[number], 0) if len(files) > 1 else (files[0], number)
        own = pydicom.dcmread(file, stop_before_pixels=True) if len(files) > 1 else head
        array = _pixels(pydicom, file, inner)
        if kind == "MONOCHROME1":  # white is lowest
            array = (-1 if signed else 2**bits - 1) - array.astype(np.int64)
        if not plain:
            slope, intercept = _slope(own, inner)
            array = array.astype(np.float32) * np.float32(slope) + np.float32(intercept)
        return array.reshape(rows, columns, colours).astype(dtype, copy=False)

    dtype = np.dtype((np.int8 if signed else np.uint8) if plain else np.float32)
    spacing = _numbers(head, "PixelSpacing", 2) or _numbers(head, "ImagerPixelSpacing", 2)
    thickness = [_numbers(head, key, 1) for key in ("SpacingBetweenSlices", "SliceThickness")]
    slice_mm = apart or next((t[0] for t in thickness if t), None)

    def stored(number: int, window: Window) -> np.ndarray:
        return frame(number)[window.place]

    yield Image(path, found.picture, dtype, stored, found.slices, (spacing[0], spacing[1]) if spacing else None, slice_mm)


def _pixels(pydicom: Any, file: Path, number: int) -> np.ndarray:
    try:
        return np.asarray(pydicom.pixels.pixel_array(file, index=number))
    except RuntimeError as error:  # pydicom's way to say that no plugin for this compression is installed
        if "missing dependencies" not in str(error) and "plugins" not in str(error):
            raise
        name = str(error).split("'")[1] if str(error).count("'") > 1 else "an unknown compression"
        do = "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg, or export it uncompressed"
        raise DataError(file, "uncompressed DICOM, or a compression that is installed", name, do) from None


def _groups(head: Any, number: int) -> Iterator[Any]:
    """Yield where a value of a frame may stand: the file's top, what all frames share, the frame's own."""
    yield head
    for key, item in (("SharedFunctionalGroupsSequence", 0), ("PerFrameFunctionalGroupsSequence", number)):
        groups = head.get(key)
        if groups and item < len(groups):
            for name in ("PixelMeasuresSequence", "PixelValueTransformationSequence"):
                if groups[item].get(name):
                    yield groups[item][name][0]


def _slope(head: Any, number: int) -> tuple[float, float]:
    """Return slope and intercept of a frame."""
    for group in _groups(head, number):
        if "RescaleSlope" in group:
            slope, intercept = float(group.RescaleSlope), float(group.get("RescaleIntercept", 0))
            if not (math.isfinite(slope) and math.isfinite(intercept)):
                raise ValueError("slope or intercept is no number")
            return slope, intercept
    return 1.0, 0.0


def _numbers(head: Any, key: str, length: int) -> list[float] | None:
    """Return positive numbers of the header, or None where they are missing or make no sense."""
    with contextlib.suppress(Exception):
        for group in _groups(head, 0):
            value = group.get(key)
            if value is not None:
                numbers = [float(n) for n in ([value] if length == 1 else value)]
                if len(numbers) == length and all(math.isfinite(n) and n > 0 for n in numbers):
                    return numbers
    return None


def _series(folder: Path, pydicom: Any) -> tuple[list[Path], float | None]:
    """Return the files of a series in the order of their places, and the distance between them in mm."""
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".dcm", "") and p.name[0] != "." and p.is_file())
    files = [p for p in files if p.name.upper() != "DICOMDIR"]
    if not files or len(files) > MAX_SLICES:
        got = f"{len(files)} files"
        raise DataError(folder, f"the .dcm files of one series, at most {MAX_SLICES}", got, "check the folder")
    heads = [pydicom.dcmread(p, stop_before_pixels=True, specific_tags=list(_PLACE)) for p in files]
    for key in ("SeriesInstanceUID", "Rows", "Columns"):
        different = sorted({str(h.get(key)) for h in heads})
        if len(different) > 1:
            got = f"{len(different)} values of {key}"
            raise DataError(folder, "the files of one series of equal slices", got, "put every series into a folder of its own")
    places = _places(heads)
    if places is None:
        numbers = [h.get("InstanceNumber") for h in heads]
        order = [0.0 if n is None else float(n) for n in numbers]
        if len(set(order)) < len(files):
            do = "add ImagePositionPatient or InstanceNumber, or save the volume as one file"
            raise DataError(folder, "files that say their order", "neither place nor number", do)
        return [files[k] for k in np.argsort(order)], None
    steps = np.diff(np.sort(places))
    if len(steps) and steps.min() <= 0:
        raise DataError(folder, "slices at different places", "two at the same", "put every series into a folder of its own")
    return [files[k] for k in np.argsort(places)], float(np.median(steps)) if len(steps) else None


def _places(heads: Sequence[Any]) -> np.ndarray | None:
    """Return the slices' places along their common normal, or None where a file does not say its own."""
    if not all(h.get("ImagePositionPatient") and h.get("ImageOrientationPatient") for h in heads):
        return None
    directions = np.array([float(n) for n in heads[0].ImageOrientationPatient])
    normal = np.cross(directions[:3], directions[3:])
    return np.array([[float(n) for n in h.ImagePositionPatient] for h in heads]) @ normal


def affine_of(path: Path) -> np.ndarray | None:
    """Return the affine of a scan, float64 (4, 4): (column, row, slice) to mm right, anterior, superior, as NIfTI has it.

    Slices are in the order in which they are read. None where the files do not say their place.

    Reference: DICOM PS3.3 C.7.6.2.1.1, whose axes point left and to the back where NIfTI's point right and to the front.
    """
    pydicom: Any = library("pydicom", path, "which reads DICOM files", "medical", error=DataError)
    files = _series(path, pydicom)[0] if path.is_dir() else [path]
    ends = [pydicom.dcmread(file, stop_before_pixels=True) for file in (files[0], files[-1])]
    number = len(files) if len(files) > 1 else int(ends[0].get("NumberOfFrames") or 1)
    first, last = _patient(ends[0], 0), _patient(ends[1], 0 if len(files) > 1 else number - 1)
    spacing = _numbers(ends[0], "PixelSpacing", 2)
    if first is None or last is None or spacing is None:
        return None
    (across, down), place = first
    thickness = [_numbers(ends[0], key, 1) for key in ("SpacingBetweenSlices", "SliceThickness")]
    alone = np.cross(across, down) * next((t[0] for t in thickness if t), 1.0)
    step = (last[1] - place) / (number - 1) if number > 1 and not np.array_equal(last[1], place) else alone
    affine = np.eye(4)
    affine[:3] = np.stack([across * spacing[1], down * spacing[0], step, place], axis=1)
    affine[:2] *= -1
    return affine if np.isfinite(affine).all() else None


def _patient(head: Any, number: int) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray] | None:
    """Return the directions of rows and columns, and the place of the first pixel, of a frame; None if not known."""
    found: dict[str, Any] = {}
    for key, item in (("SharedFunctionalGroupsSequence", 0), ("PerFrameFunctionalGroupsSequence", number)):
        groups = head.get(key)
        if groups and item < len(groups):
            for name in ("PlanePositionSequence", "PlaneOrientationSequence"):
                if groups[item].get(name):
                    found |= {str(element.keyword): element.value for element in groups[item][name][0]}
    with contextlib.suppress(KeyError, TypeError, ValueError):
        place = np.array([float(n) for n in head.get("ImagePositionPatient") or found["ImagePositionPatient"]])
        turn = np.array([float(n) for n in head.get("ImageOrientationPatient") or found["ImageOrientationPatient"]])
        if place.shape == (3,) and turn.shape == (6,):
            return (turn[:3], turn[3:]), place
    return None
