"""What a model says of an image, as the page shows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

#: What is said of a training where there is none.
NO_TRAINING = {"state": "none", "step": 0, "max_steps": 0, "seconds_left": None, "losses": {}, "message": ""}


@dataclass(frozen=True, eq=False)
class Prediction:
    """An overlay.

    Attributes:
        labels, doubt: uint8 (h, w), class ids and doubt from 0 to 255, on a grid that may be coarser than the image.
        sure: uint8 (h, w), 255 times the probability of the class; None where that was not kept.
        kind: ``instant`` or ``network``.
        number: of the model; a later one has a higher number.
        version: of the image's strokes that the instant classifier knew; of a network, that it was predicted at.
        trained_on: number of images that the model learnt from.
        seen: whether this image was among them.
        title: of the model, for the page.
        scores: of both models on held-out strokes, see :class:`~scribbleseg.annotate.holdout.Score`.
    """

    labels: np.ndarray
    doubt: np.ndarray
    kind: str
    number: int
    version: int
    trained_on: int
    seen: bool
    title: str
    sure: np.ndarray | None = None
    scores: dict[str, Any] = field(default_factory=dict)
