"""The labels of a training split, looked at before the first step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from scribbleseg.data.folder import Dataset
from scribbleseg.errors import DataError


class TrainingLabels(NamedTuple):
    """What a split's labels are.

    Attributes:
        pixels: labelled pixels by class.
        one_class: images that have labels of one class alone.
    """

    pixels: Int[np.ndarray, " C"]
    one_class: int


def check_training_labels(dataset: Dataset, stems: Sequence[str], kind: str) -> TrainingLabels:
    """Read every label file of a split once and count.

    A single image without strokes, or with one class only, is fine; a whole split like that is not.

    Raises:
        DataError: any label file is wrong, or the split holds fewer than two classes.
    """
    counts, alone = np.zeros(256, dtype=np.int64), 0
    for stem in stems:
        labels = dataset.labels(stem, kind, dataset.size(stem))
        here = np.bincount(labels.ravel(), minlength=256)
        counts += here
        alone += np.count_nonzero(here[: len(dataset.names)]) == 1
    per_class = counts[: len(dataset.names)]
    present = [dataset.names[c] for c in np.flatnonzero(per_class)]
    if len(present) < 2:
        raise DataError(
            dataset.folder(kind),
            "labelled pixels of at least two classes in the training split",
            f"only '{present[0]}' in {len(stems)} files" if present else f"nothing labelled in {len(stems)} files",
            "draw strokes of every class, background too; check that "
            f"{dataset.spec.unlabelled} is what your tool writes where nobody drew"
            + ("; or lower data.strokes.drop" if dataset.redraw is not None else ""),
        )
    return TrainingLabels(per_class, alone)
