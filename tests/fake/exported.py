"""Small networks with random weights as model folders, and pictures on which they answer this and that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.fake import models

NAMES = ("background", "leaf", "rust on leaf")

RESNET = {
    "backbone": {
        "model_type": "resnet",
        "embedding_size": 8,
        "hidden_sizes": [8, 8, 8, 8],
        "depths": [1, 1, 1, 1],
        "layer_type": "basic",
    },
    "decoder": "fpn",
    "channels": 8,
    "feature_dim": 4,
}


def make_model(folder: Path, window_px: int = 64, longest_px: int = 0, **more: Any) -> Path:
    """Write a model folder whose answers differ from place to place; more as :func:`tests.fake.models.make_model`."""
    given = {"names": NAMES, "settings": RESNET, **more}
    return models.make_model(folder, window_px=window_px, longest_px=longest_px, **given)


def picture(seed: int, size: tuple[int, int]) -> np.ndarray:
    """Return a picture of coloured squares, 8 bit (H, W, 3)."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((size[0] // 8 + 1, size[1] // 8 + 1, 3))
    return (255 * np.kron(coarse, np.ones((8, 8, 1)))[: size[0], : size[1]]).astype(np.uint8)
