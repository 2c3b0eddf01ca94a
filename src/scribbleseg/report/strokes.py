"""What the strokes of a training split hold."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scribbleseg.data.folder import Dataset
from scribbleseg.data.loader import evenly
from scribbleseg.errors import DataError

#: At most so many images are looked at.
MAX_IMAGES = 500


class StrokeTable(NamedTuple):
    """Attributes:
    split: whose strokes they are.
    num_images: looked at, of ``of_images``.
    share: of their pixels that somebody labelled.
    rows: of each class its name, labelled pixels, share of all labelled pixels, and number of images with it.
    """

    split: str
    num_images: int
    of_images: int
    share: float
    rows: list[tuple[str, int, float, int]]


def stroke_table(dataset: Dataset, split: str) -> StrokeTable | None:
    """Count the strokes of a split; None where they cannot be read: the runs may have been trained elsewhere."""
    try:
        stems = dataset.stems(split)
        looked_at = evenly(stems, MAX_IMAGES)
        counts = np.array([np.bincount(dataset.labels(s, "scribbles").ravel(), minlength=256) for s in looked_at])
    except DataError:
        return None
    of_class = counts[:, : len(dataset.names)]
    labelled = of_class.sum()
    if not labelled:
        return None
    rows = [
        (name, int(of_class[:, k].sum()), float(of_class[:, k].sum() / labelled), int((of_class[:, k] > 0).sum()))
        for k, name in enumerate(dataset.names)
    ]
    return StrokeTable(split, len(looked_at), len(stems), float(labelled / counts.sum()), rows)
