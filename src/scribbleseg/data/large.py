"""Training views of pictures that are too large to be read whole at every step."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Generator

from scribbleseg.config import DataConfig
from scribbleseg.data.folder import Dataset
from scribbleseg.data.readers.image import Window
from scribbleseg.data.sample import drawn_classes, make_sample
from scribbleseg.data.transforms import crop, pad, place, random_flip, resize, uniform
from scribbleseg.records import UNLABELLED, Sample

#: A picture of more pixels is read by window, where a run keeps pictures at their own size.
LARGE_PIXELS = 2**24


def is_large(dataset: Dataset, stem: str, config: DataConfig) -> bool:
    """Say whether a training reads windows of this picture: asked of the file's header."""
    if config.longest_px:
        return False
    height, width = dataset.size(stem)
    return height * width > LARGE_PIXELS


def large_view(dataset: Dataset, stem: str, config: DataConfig, generator: Generator) -> Sample:
    """Return what zoom, mirror and crop make of a picture, reading only what the crop is cut from.

    The place is found among the labels before the zoom, not after it; else it is drawn as for other pictures. What is read
    reaches so far beyond the square that it is zoomed as the whole picture would be, but for a shift of less than a pixel.

    Cost: of TIFF, NIfTI, HDF5 and zarr the window alone is read, of other formats one byte a value in place of four. Labels
    are read whole, one byte a pixel.
    """
    size, (low, high) = config.crop_px, config.scale
    factor = low * (high / low) ** uniform(generator, 0.0, 1.0)
    height, width = dataset.size(stem)
    labels = dataset.labels(stem, config.labels, (height, width))
    side = math.ceil(size / factor)
    below, right = max(0, side - height), max(0, side - width)
    padded = np.pad(labels, ((0, below), (0, right)), constant_values=UNLABELLED) if below or right else labels
    top, left = place(torch.from_numpy(padded), side, 10, generator)
    margin = 2 * math.ceil(1 / factor)
    first, start = max(0, top - margin), max(0, left - margin)
    window = Window(first, start, min(height, top + side + margin) - first, min(width, left + side + margin) - start)
    part = make_sample(stem, dataset.rgb_window(stem, window), labels[window.place], drawn_classes(labels))
    zoomed = pad(resize(part, factor), round((top - first) * factor) + size, round((left - start) * factor) + size)
    square = crop(zoomed, round((top - first) * factor), round((left - start) * factor), size)
    return random_flip(config.flip)(square, generator)
