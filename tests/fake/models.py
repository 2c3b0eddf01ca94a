"""Makers of tiny untrained models, and of pictures that they see something in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from scribbleseg.config import ModelConfig
from scribbleseg.models.folder import TrainedModel, save_model
from scribbleseg.models.segmenter import Segmenter
from scribbleseg.reading import PLAIN, Reading

SETTINGS = {
    "backbone": {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8] * 4, "depths": [1] * 4},
    "channels": 8,
}

NAMES = ("background", "leaf", "stone")


def make_model(
    folder: Path,
    *,
    names: tuple[str, ...] = NAMES,
    window_px: int = 64,
    longest_px: int = 0,
    seed: int = 0,
    reading: Reading = PLAIN,
    settings: dict[str, Any] | None = None,
) -> Path:
    """Write a model whose classes all occur in the pictures below."""
    torch.manual_seed(seed)
    segmenter = Segmenter(ModelConfig.model_validate(settings or SETTINGS), len(names)).eval()
    with torch.no_grad():
        for layer in segmenter.class_head.modules():
            if isinstance(layer, torch.nn.Conv2d):  # so that the classes share the picture out
                layer.weight *= 20
        probs = segmenter.probabilities(torch.from_numpy(picture(0, (64, 64)).transpose(2, 0, 1) / np.float32(255))[None])
        last = [layer for layer in segmenter.class_head.modules() if isinstance(layer, torch.nn.Conv2d)][-1]
        assert last.bias is not None
        last.bias -= probs.clamp(min=1e-6).log().mean((0, 2, 3))
    save_model(folder, TrainedModel(segmenter, names, window_px, longest_px, reading))
    return folder


def picture(seed: int, size: tuple[int, int]) -> np.ndarray:
    """Soft coloured clouds, uint8 (H, W, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC))


def make_pictures(folder: Path, number: int = 5, size: tuple[int, int] = (40, 56)) -> Path:
    """Write pictures, every third of another size."""
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(number):
        Image.fromarray(picture(n, (size[0] + 7 * (n % 3 == 2), size[1]))).save(folder / f"picture_{n:02d}.png")
    return folder
