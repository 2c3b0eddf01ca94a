"""Small networks with random weights as model folders, and pictures on which they answer this and that."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from scribbleseg.config import ModelConfig
from scribbleseg.models.folder import TrainedModel, save_model
from scribbleseg.models.segmenter import Segmenter
from scribbleseg.reading import PLAIN, Reading

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


def make_model(
    folder: Path,
    window_px: int = 64,
    longest_px: int = 0,
    reading: Reading = PLAIN,
    settings: dict | None = None,
    seed: int = 0,
) -> Path:
    """Write a model folder whose answers differ from place to place."""
    torch.manual_seed(seed)
    segmenter = Segmenter(ModelConfig.model_validate(settings or RESNET), len(NAMES)).eval()
    for parameter in segmenter.class_head.parameters():
        parameter.data *= 20
    with torch.no_grad():  # so that each class has its share of a picture
        last = [layer for layer in segmenter.class_head.modules() if isinstance(layer, torch.nn.Conv2d)][-1]
        probs = segmenter.probabilities(torch.from_numpy(picture(0, (64, 64)).transpose(2, 0, 1) / np.float32(255))[None])
        last.bias -= probs.clamp(min=1e-6).log().mean((0, 2, 3))
    save_model(folder, TrainedModel(segmenter, NAMES, window_px, longest_px, reading))
    return folder


def picture(seed: int, size: tuple[int, int]) -> np.ndarray:
    """Return a picture of coloured squares, 8 bit (H, W, 3)."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((size[0] // 8 + 1, size[1] // 8 + 1, 3))
    return (255 * np.kron(coarse, np.ones((8, 8, 1)))[: size[0], : size[1]]).astype(np.uint8)
