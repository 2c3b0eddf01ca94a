"""Probabilities as zarr, and as the HDF5 file that ilastik reads: written chunk by chunk."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from scribbleseg.atomic import atomic_folder, atomic_path
from scribbleseg.extras import library
from scribbleseg.predict.bands import Band
from scribbleseg.predict.outputs.output import Job, Output, Rows, Sink, slice_files

#: Side of a chunk in pixels.
CHUNK_PX = 512


def _probs(band: Band) -> np.ndarray:
    assert band.probs is not None
    return band.probs


class Zarr(Output):
    """Every class's probability, half precision, (C, H, W)."""

    title = "float16 zarr, axes c, y, x; `names` in its attributes"
    folder = "zarr"
    probabilities = True
    extra = "arrays"

    def check(self) -> None:
        """See the base class."""
        _library("zarr")

    def files(self, job: Job) -> list[Path]:
        """See the base class."""
        return job.for_slices(self.folder, ".zarr")

    def open(self, job: Job) -> AbstractContextManager[Sink]:
        """See the base class."""
        return slice_files(job, self.files(job), lambda path: _zarr_rows(path, job), _probs)


@contextlib.contextmanager
def _zarr_rows(path: Path, job: Job) -> Iterator[Rows]:
    zarr = _library("zarr")
    shape = (len(job.names), *job.shape)
    # One may lie there of a run that was killed before it could note it down.
    with atomic_folder(path, replace=True) as temporary:
        array = zarr.create_array(
            store=str(temporary),
            shape=shape,
            chunks=(1, *(min(CHUNK_PX, side) for side in job.shape)),
            dtype="float16",
            dimension_names=("c", "y", "x"),
            attributes={"names": list(job.names)},
            overwrite=True,
        )
        with _in_blocks(array, axis=1) as take:
            yield take


class Ilastik(Output):
    """Every class's probability as ilastik exports it, for its object classification."""

    title = "ilastik's prediction maps: STEM_Probabilities.h5, /exported_data, float32, axes y, x, c"
    folder = "ilastik"
    probabilities = True
    extra = "arrays"

    def check(self) -> None:
        """See the base class."""
        _library("h5py")

    def files(self, job: Job) -> list[Path]:
        """See the base class."""
        return job.for_slices(self.folder, "_Probabilities.h5")

    def open(self, job: Job) -> AbstractContextManager[Sink]:
        """See the base class."""

        def channels_last(band: Band) -> np.ndarray:
            return _probs(band).transpose(1, 2, 0)

        return slice_files(job, self.files(job), lambda path: _hdf5_rows(path, job), channels_last)


@contextlib.contextmanager
def _hdf5_rows(path: Path, job: Job) -> Iterator[Rows]:
    h5py = _library("h5py")
    axes = [{"key": a, "typeFlags": 1 if a == "c" else 2, "resolution": 0, "description": ""} for a in "yxc"]
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        array = file.create_dataset(
            "exported_data",
            shape=(*job.shape, len(job.names)),
            dtype="float32",
            chunks=(*(min(CHUNK_PX // 4, side) for side in job.shape), len(job.names)),
            compression="gzip",
            compression_opts=1,
        )
        array.attrs["axistags"] = json.dumps({"axes": axes})
        array.attrs["names"] = list(job.names)
        with _in_blocks(array, axis=0) as take:
            yield take


@contextlib.contextmanager
def _in_blocks(array: Any, axis: int) -> Iterator[Rows]:
    """Yield what takes rows along an axis and writes them in blocks that touch each chunk once."""
    waiting: list[np.ndarray] = []
    height, chunk = array.shape[axis], array.chunks[axis]
    begun = 0

    def take(part: np.ndarray) -> None:
        nonlocal begun
        waiting.append(part)
        number = sum(p.shape[axis] for p in waiting)
        end = height if begun + number == height else (begun + number) // chunk * chunk
        if end > begun:
            rows = np.concatenate(waiting, axis) if len(waiting) > 1 else waiting[0]
            done, rest = np.split(rows, [end - begun], axis)
            array[(slice(None),) * axis + (slice(begun, end),)] = done.astype(array.dtype, copy=False)
            waiting[:] = [rest.copy()] if rest.shape[axis] else []
            begun = end

    yield take


def _library(module: str) -> Any:
    return library(module, "--outputs", "which writes these arrays", "arrays")
