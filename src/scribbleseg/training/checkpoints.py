"""Checkpoints that appear whole or not at all, and are read without running code."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from scribbleseg.atomic import atomic_path
from scribbleseg.errors import TrainingError


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's own writes to the system's temporary folder and then copies: a full disk leaves a stump."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write beside the final place and rename."""
        with atomic_path(Path(path)) as temporary:
            torch.save(checkpoint, temporary)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint; nothing in it is executed.

    Raises:
        TrainingError: it is damaged.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or "state_dict" not in state or "global_step" not in state:
            raise ValueError("not a checkpoint of a run")
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise TrainingError(
            path, "a whole checkpoint", reason, "restore it from a copy, or start again in a new folder"
        ) from None
    return state


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
