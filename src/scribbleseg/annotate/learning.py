"""What the server asks of whoever learns from the strokes; it works without one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Protocol

from scribbleseg.annotate.places import Place
from scribbleseg.annotate.prediction import NO_TRAINING, Prediction


class Learning(Protocol):
    """Learns in threads of its own; every method returns at once."""

    def strokes_changed(self, image: int) -> None:
        """An image has other strokes."""

    def classes_changed(self) -> None:
        """The classes are others."""

    def look_at(self, image: int) -> None:
        """The page shows this image."""

    def prediction(self, image: int, kind: str | None = None) -> Prediction | None:
        """Return the overlay of an image, if there is one yet."""

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


_told = logging.getLogger("scribbleseg.annotate")


def tell(learner: Learning | None, what: str, *values: Any) -> None:
    """Call a method of what learns, if anything does: strokes are saved and shown even where learning fails."""
    if learner is None:
        return
    try:
        getattr(learner, what)(*values)
    except Exception:
        _told.exception("learning failed; strokes are saved all the same")


#: The answer of /api/status where nobody learns.
NOTHING: dict[str, Any] = {
    "instant": {"state": "off", "seconds": None},
    "training": NO_TRAINING,
    "shown": {"kind": None, "number": None, "why": "nothing learns from the strokes here"},
}
