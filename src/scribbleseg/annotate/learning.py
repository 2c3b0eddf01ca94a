"""What the server asks of whoever learns from the strokes; it works without one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np


class Predicted(Protocol):
    """An overlay: see ``annotate/learner.py``."""

    labels: np.ndarray
    doubt: np.ndarray
    kind: str
    number: int
    version: int
    trained_on: int
    seen: bool
    title: str
    scores: dict[str, Any]


class Frame(Protocol):
    """A place in which a stroke would help."""

    image: int
    x0: int
    y0: int
    x1: int
    y1: int
    doubt: float


class Learning(Protocol):
    """Learns in threads of its own; every method returns at once."""

    def strokes_changed(self, image: int) -> None:
        """An image has other strokes."""

    def classes_changed(self) -> None:
        """The classes are others."""

    def look_at(self, image: int) -> None:
        """The page shows this image."""

    def prediction(self, image: int, kind: str | None = None) -> Any:
        """Return a :class:`Predicted`, or None."""

    def doubts(self) -> dict[int, float]:
        """Return the doubt of each image that has one."""
        ...

    def status(self) -> dict[str, Any]:
        """Return ``instant``, ``training`` and ``shown``."""
        ...

    def train(self, action: str, max_steps: int | None = None) -> None:
        """Start, stop or resume the background training."""

    def places(self, limit: int) -> Sequence[Any]:
        """Return :class:`Frame` records."""
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
    "training": {"state": "none", "step": 0, "max_steps": 0, "seconds_left": None, "losses": {}, "message": ""},
    "shown": {"kind": None, "number": None, "why": "nothing learns from the strokes here"},
}
