"""What predicts: a model folder through PyTorch, or an exported one through ONNX Runtime; the server sees no difference."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from scribbleseg.reading import Reading


class Engine(Protocol):
    """A model in memory. All but one thread at a time keep away from it.

    Attributes:
        kind: ``torch`` or ``onnx``.
        names: class names by id.
        window_px: side of the sliding window, or None where every picture goes through the network whole.
        longest_px: length to which the model brings the longer side of a picture; 0 for its own.
        reading: how files are read for it.
        device: on which it runs.
        origin: where the model comes from, as far as its folder says; no paths.
    """

    kind: str
    names: tuple[str, ...]
    window_px: int | None
    longest_px: int
    reading: Reading
    device: str
    origin: dict[str, Any]

    def begin(self, rgb: np.ndarray) -> np.ndarray:
        """Return what windows are cut from, (h, w, 3), of a picture, float32 (H, W, 3) in [0, 1]."""

    def run(self, windows: np.ndarray) -> np.ndarray:
        """Return probabilities, float32 (B, C, h, w), of windows (B, h, w, 3)."""

    def end(self, probs: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Return probabilities, float32 (C, H, W), at the picture's (height, width)."""


def sha256(path: Path) -> str:
    """Return the checksum of a file, by which two servers can tell whether they have the same model."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
