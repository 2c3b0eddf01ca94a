"""A small table of small trainings."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

TREE: dict[str, Any] = {
    "title": "A small table",
    "about": "Nothing can be seen in it.",
    "low": "low",
    "high": "high",
    "ours": "high",
    "seeds": [0, 1],
    "settings": {
        "data": {"crop_px": 32, "scale": [0.9, 1.1]},
        "model": {"decoder": "unet", "channels": 8, "feature_dim": 4},
        "training": {"max_steps": 3, "batch_size": 2, "val_every": 10, "precision": "32"},
    },
    "data": {
        "a": {"settings": {"data": {"root": "$data/a"}}},
        "b": {"settings": {"data": {"root": "$data/b"}, "training": {"max_steps": 4}}},
    },
    "networks": {
        "narrow": {"settings": {"model": {"backbone": {"model_type": "unet", "hidden_sizes": [8, 8]}}}},
        "wide": {
            "only": ["a"],
            "settings": {"model": {"channels": 16, "backbone": {"model_type": "unet", "hidden_sizes": [16, 16]}}},
        },
    },
    "methods": {
        "low": {"settings": {"method": "partial_ce"}},
        "high": {"settings": {"method": "partial_ce", "data": {"labels": "masks"}}},
        "variant": {
            "only": ["a"],
            "splits": ["val"],
            "settings": {"method": "partial_ce", "losses": {"entropy": {"weight": 0.1}}},
        },
    },
    "protocols": {"short": {"settings": {"training": {"max_steps": 2}}}},
}


def write_table(folder: Path, tuned: bool = False) -> Path:
    """Write the table, with two methods that are tuned if wanted, and return its path."""
    tree = copy.deepcopy(TREE)
    if tuned:
        for name in ("entropy", "total_variation"):
            tree["methods"][name.replace("_", " ")] = {
                "settings": {"method": "partial_ce", "losses": {name: {}}},
                "tune": {f"losses.{name}.weight": [0.1, 1.0]},
            }
        tree["tuning"] = {"settings": {"training": {"max_steps": 1}}}
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return path
