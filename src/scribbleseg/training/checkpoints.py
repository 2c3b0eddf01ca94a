"""Checkpoints that appear whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from scribbleseg.atomic import atomic_path


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's own writes to the system's temporary folder and then copies: a full disk leaves a stump."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write beside the final place and rename."""
        with atomic_path(Path(path)) as temporary:
            torch.save(checkpoint, temporary)


def checkpoint_callbacks(folder: Path, every: int, validates: bool) -> list[pl.Callback]:
    """Return what writes ``last`` and ``best``.

    ``last`` is written after the validation of its step: a run killed in between does that validation again.
    """
    keep: dict[str, Any] = {
        "dirpath": folder,
        "enable_version_counter": False,
        "save_top_k": 1,
        "auto_insert_metric_name": False,
    }
    if not validates:
        return [ModelCheckpoint(filename="last", every_n_train_steps=every, **keep)]
    best = ModelCheckpoint(filename="best", monitor="val/miou", mode="max", **keep)
    return [best, ModelCheckpoint(filename="last", every_n_epochs=1, save_on_train_epoch_end=False, **keep)]
