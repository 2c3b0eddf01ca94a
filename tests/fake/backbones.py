"""Settings of the smallest backbones of each kind."""

from __future__ import annotations

from typing import Any

STAGES: dict[str, Any] = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}
PLAIN: dict[str, Any] = {"model_type": "dinov2", "hidden_size": 32, "num_attention_heads": 2, "mlp_ratio": 2}

#: name: settings, channels and strides of the backbone's maps, stride of the segmenter's output
BACKBONES: dict[str, tuple[dict[str, Any], tuple[int, ...], tuple[int, ...], int]] = {
    "swin": (
        {
            "model_type": "swin",
            "embed_dim": 8,
            "depths": [1, 1, 1, 1],
            "num_heads": [1, 1, 2, 2],
            "window_size": 4,
            "image_size": 64,
        },
        (8, 16, 32, 64),
        (4, 8, 16, 32),
        4,
    ),
    "dinov2": (PLAIN | {"num_hidden_layers": 4, "patch_size": 16, "image_size": 64}, (32,) * 4, (16,) * 4, 4),
    "dinov2, small patches, more blocks": (
        PLAIN | {"num_hidden_layers": 6, "patch_size": 8, "image_size": 64},
        (32,) * 4,
        (8,) * 4,
        2,
    ),
    "convnext": ({"model_type": "convnext"} | STAGES, (8, 8, 16, 16), (4, 8, 16, 32), 4),
    "convnext, fine": ({"model_type": "convnext", "patch_size": 2} | STAGES, (8, 8, 16, 16), (2, 4, 8, 16), 2),
    "resnet": (
        {"model_type": "resnet", "embedding_size": 8, "layer_type": "basic"} | STAGES,
        (8, 8, 16, 16),
        (4, 8, 16, 32),
        4,
    ),
    "unet": ({"model_type": "unet", "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}, (8, 8, 16, 16), (1, 2, 4, 8), 1),
}

TINY = BACKBONES["convnext, fine"][0]
