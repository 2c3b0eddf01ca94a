"""From arrays to a sample."""

from __future__ import annotations

import numpy as np
import torch

from scribbleseg.records import UNLABELLED, Sample


def drawn_classes(labels: np.ndarray) -> np.ndarray:
    """Say which class ids labels hold, bool (255,)."""
    return np.asarray(np.bincount(labels.ravel(), minlength=UNLABELLED + 1)[:UNLABELLED] > 0)


def make_sample(stem: str, picture: np.ndarray, labels: np.ndarray, drawn: np.ndarray) -> Sample:
    """Return a sample of a picture, or of a part of it.

    Args:
        stem: of the image.
        picture: float32 (H, W, 3) in [0, 1].
        labels: uint8 (H, W).
        drawn: which class ids the labels of the whole image hold.
    """
    image = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))
    return Sample(
        stem=stem,
        image=image,
        rgb=image,
        labels=torch.from_numpy(labels.astype(np.int64)),
        drawn=torch.from_numpy(drawn),
        valid=torch.ones(labels.shape, dtype=torch.bool),
    )
