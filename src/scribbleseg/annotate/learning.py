"""What the server asks of whoever learns from the strokes; and one that learns nothing, for a server without."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from scribbleseg.annotate.places import Place
from scribbleseg.annotate.prediction import NO_TRAINING, Prediction
from scribbleseg.errors import DataError, ScribblesegError


class Learning(Protocol):
    """Learns in threads of its own; every method but :meth:`predictions` returns at once."""

    def strokes_changed(self, image: int) -> None:
        """An image has other strokes."""

    def classes_changed(self) -> None:
        """The classes are others."""

    def look_at(self, image: int) -> None:
        """The page shows this image."""

    def prediction(self, image: int, kind: str | None = None) -> Prediction | None:
        """Return the overlay of an image, if there is one yet."""

    def predictions(self, images: Sequence[int]) -> Iterator[tuple[int, Prediction | ScribblesegError]]:
        """Predict images with the model that is shown now, one after the other as they are asked for; none is kept.

        The one method that waits: each image is predicted when nothing more urgent is to be done.

        Raises:
            DataError: there is no model yet.
        """
        ...

    def doubts(self) -> dict[int, float]:
        """Return the doubt of each image that has one."""
        ...

    def status(self) -> dict[str, Any]:
        """Return ``instant``, ``training`` and ``shown``."""
        ...

    def train(self, action: str, max_steps: int | None = None) -> None:
        """Start, stop or resume the background training."""

    def places(self, limit: int) -> Sequence[Place]:
        """Return frames in which a stroke would help, the best first."""
        ...

    def close(self) -> None:
        """Stop the threads."""


class NoLearning:
    """Stands in where nothing learns."""

    def strokes_changed(self, image: int) -> None:
        """Learn nothing."""

    def classes_changed(self) -> None:
        """Learn nothing."""

    def look_at(self, image: int) -> None:
        """Learn nothing."""

    def prediction(self, image: int, kind: str | None = None) -> Prediction | None:
        """Return None."""
        return None

    def predictions(self, images: Sequence[int]) -> Iterator[tuple[int, Prediction | ScribblesegError]]:
        """Refuse."""
        raise DataError("predictions", "something that learns", "none in this server", "see its first lines")

    def doubts(self) -> dict[int, float]:
        """Return none."""
        return {}

    def status(self) -> dict[str, Any]:
        """Say that nothing learns."""
        why = "nothing learns from the strokes here"
        return {
            "instant": {"state": "off", "seconds": None},
            "training": NO_TRAINING,
            "shown": {"kind": None, "number": None, "why": why},
        }

    def train(self, action: str, max_steps: int | None = None) -> None:
        """Refuse."""
        raise DataError("training", "something that learns", "none in this server", "see its first lines")

    def places(self, limit: int) -> Sequence[Place]:
        """Return none."""
        return []

    def close(self) -> None:
        """Do nothing."""


_told = logging.getLogger("scribbleseg.annotate")


def tell(learner: Learning, what: str, *values: Any) -> None:
    """Call a method of what learns: strokes are saved and shown even where learning fails."""
    try:
        getattr(learner, what)(*values)
    except Exception:
        _told.exception("learning failed; strokes are saved all the same")
