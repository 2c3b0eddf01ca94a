"""Outputs that are pictures of the input's size: index mask, overlay, uncertainty, probabilities as TIFF."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from scribbleseg.data.images import MAX_PIXELS, write_png
from scribbleseg.palette import blend
from scribbleseg.predict.bands import LARGE_PIXELS, Band
from scribbleseg.predict.outputs.output import Job, Output, Rows, Sink, slice_files, whole_slices
from scribbleseg.predict.outputs.tiles import tiled_tiff


def _labels(band: Band) -> np.ndarray:
    return band.labels


def _eight_bit(job: Job, files: list[Path], of: Any) -> AbstractContextManager[Sink]:
    """Return a sink for PNGs, or tiled TIFFs of pictures so large that programs refuse to open them as PNG."""
    if files[0].suffix == ".png":
        return whole_slices(job, lambda number, picture: write_png(files[number], picture), of)
    return slice_files(job, files, lambda path: tiled_tiff(path, job.shape, "uint8", "YX"), of)


class Mask(Output):
    """The class ids, one byte a pixel."""

    title = "class ids: STEM.png, a tiled TIFF above 179 million pixels"
    folder = ""

    def files(self, job: Job) -> list[Path]:
        """See the base class."""
        return job.for_slices(self.folder, ".png" if job.pixels <= MAX_PIXELS else ".tif")

    def open(self, job: Job) -> AbstractContextManager[Sink]:
        """See the base class."""
        return _eight_bit(job, self.files(job), _labels)


class Overlay(Output):
    """The picture with the classes in colour; of a large picture a smaller one."""

    title = "the picture with the classes in colour; a small one of large pictures"
    folder = "overlays"

    def files(self, job: Job) -> list[Path]:
        """See the base class."""
        return job.for_slices(self.folder, ".png")

    def open(self, job: Job) -> AbstractContextManager[Sink]:
        """See the base class."""
        step, files = math.ceil(math.sqrt(job.pixels / LARGE_PIXELS)), self.files(job)

        def shown(band: Band) -> np.ndarray:
            first = -band.top % step
            return blend(band.rgb[first::step, ::step], band.labels[first::step, ::step])

        return whole_slices(job, lambda number, picture: write_png(files[number], picture), shown)


def entropy(probs: np.ndarray) -> np.ndarray:
    """Return the entropy of probabilities (C, h, W) over its highest value, float32 (h, W).

        u = −Σ_c p_c ln p_c / ln C

    0 where the network is sure of one class, 1 where all are alike to it.
    """
    total = np.zeros(probs.shape[1:], np.float32)
    for p in probs:
        total -= p * np.log(np.maximum(p, np.float32(1e-12)))
    return np.clip(total / np.float32(math.log(max(2, len(probs)))), 0, 1)


def _entropy(band: Band) -> np.ndarray:
    assert band.probs is not None
    return entropy(band.probs)


def _entropy_8_bit(band: Band) -> np.ndarray:
    return (255 * _entropy(band)).round().astype(np.uint8)


class Uncertainty(Output):
    """The entropy of the probabilities as grey."""

    title = "entropy / ln C, 0 sure to 255 any class: 8-bit PNG, a tiled TIFF above 179 million pixels"
    folder = "uncertainty"
    probabilities = True

    def files(self, job: Job) -> list[Path]:
        """See the base class."""
        return job.for_slices(self.folder, ".png" if job.pixels <= MAX_PIXELS else ".tif")

    def open(self, job: Job) -> AbstractContextManager[Sink]:
        """See the base class."""
        return _eight_bit(job, self.files(job), _entropy_8_bit)


class UncertaintyTiff(Output):
    """The same as a number."""

    title = "entropy / ln C from 0 to 1: float32 TIFF, tiled"
    folder = "uncertainty_tiff"
    probabilities = True

    def files(self, job: Job) -> list[Path]:
        """See the base class."""
        return job.for_slices(self.folder, ".tif")

    def open(self, job: Job) -> AbstractContextManager[Sink]:
        """See the base class."""

        def opened(path: Path) -> AbstractContextManager[Rows]:
            return tiled_tiff(path, job.shape, "float32", "YX", {"uncertainty": "entropy / ln(number of classes)"})

        return slice_files(job, self.files(job), opened, _entropy)


class Probabilities(Output):
    """Every class's probability: a sample a class, half precision, which is off by at most 0.00025."""

    title = "float16 TIFF, tiled, a sample a class; `names` in its description"
    folder = "probabilities"
    probabilities = True

    def files(self, job: Job) -> list[Path]:
        """See the base class."""
        return job.for_slices(self.folder, ".tif")

    def open(self, job: Job) -> AbstractContextManager[Sink]:
        """See the base class."""
        shape = (*job.shape, len(job.names))

        def opened(path: Path) -> AbstractContextManager[Rows]:
            return tiled_tiff(path, shape, "float16", "YXS", {"names": list(job.names)})

        def samples(band: Band) -> np.ndarray:
            assert band.probs is not None
            return band.probs.transpose(1, 2, 0).astype(np.float16)

        return slice_files(job, self.files(job), opened, samples)
