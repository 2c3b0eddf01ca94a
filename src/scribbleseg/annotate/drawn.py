"""What the learner needs of a project: no more than this, so that it can be tested and measured without a server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from scribbleseg.data.folder import Dataset
from scribbleseg.records import Stroke


class DrawnImage(Protocol):
    """A row of the list of images."""

    @property
    def id(self) -> int:
        """Number of the image."""

    @property
    def stem(self) -> str:
        """File name without folder and suffix."""

    @property
    def num_strokes(self) -> int:
        """Strokes drawn on it."""

    @property
    def has_base(self) -> bool:
        """Whether it came with a mask of strokes."""

    @property
    def version(self) -> int:
        """Grows with each change of its strokes."""


class Drawn(Protocol):
    """A folder of images that is drawn on."""

    @property
    def state(self) -> Path:
        """Folder for what is kept beside the data set."""

    @property
    def names(self) -> tuple[str, ...]:
        """Class names by id."""

    def images(self) -> Sequence[DrawnImage]:
        """Return the list of images."""

    def size(self, image: int) -> tuple[int, int]:
        """Return (height, width) of an image."""

    def resized(self, image: int) -> bool:
        """Say whether the picture has another size now than when it was drawn on, so that its strokes teach nothing."""

    def rgb(self, image: int) -> np.ndarray:
        """Return an image's colours, float32 (H, W, 3)."""

    def strokes(self, image: int) -> tuple[Stroke, ...]:
        """Return an image's strokes in the order drawn."""

    def labels(self, image: int) -> np.ndarray:
        """Return what they draw, uint8 (H, W), and what came with the image."""

    def version(self, image: int) -> int:
        """Return what grows with each change of an image's strokes."""

    def dataset(self) -> Dataset:
        """Return the data set as a training opens it."""
