"""Checkpoints that appear whole or not at all, and networks kept on the way."""

from __future__ import annotations

from collections.abc import Callable
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


class Snapshots(pl.Callback):
    """Calls ``keep(step)`` before the first step and evenly spaced after it, ``number`` times in all.

    A resumed run keeps those that come after its checkpoint once more: they are the same.
    """

    def __init__(self, keep: Callable[[int], None], number: int, max_steps: int) -> None:
        self.keep = keep
        self.steps = {round(k * max_steps / number) for k in range(number)}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the network that nothing has taught yet."""
        if trainer.global_step == 0 and 0 in self.steps:
            self.keep(0)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the network after a step that is one of them."""
        if trainer.global_step in self.steps:
            self.keep(trainer.global_step)
