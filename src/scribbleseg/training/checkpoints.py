"""Checkpoints that appear whole or not at all, and networks kept on the way."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from scribbleseg.atomic import atomic_path
from scribbleseg.errors import TrainingError
from scribbleseg.training.checkpoint_file import LAST, PREVIOUS, read_checkpoint, read_lazily
from scribbleseg.training.parts import write_file


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's own writes to the system's temporary folder and then copies: a full disk leaves a stump."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write beside the final place, see it on the disk, and rename. What was the last one is then the previous one."""
        path = Path(path)
        with atomic_path(path) as temporary:
            write_file(checkpoint, temporary, path)
            if path.is_dir():
                _make_way(path)
            elif path.name == LAST and path.is_file():
                _take_name(path, path.with_name(PREVIOUS))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint, also one in parts."""
        return read_checkpoint(Path(path))


def _take_name(path: Path, name: Path) -> None:
    """Let a file be found under another name too, whatever had it: at every moment there is a whole file of that name."""
    if name.is_dir():
        shutil.rmtree(name)
    with atomic_path(name) as temporary:
        temporary.unlink()
        try:
            os.link(path, temporary)
        except OSError:  # a file system without links
            shutil.copyfile(path, temporary)


def take_folder(made: Path, path: Path) -> None:
    """Give a checkpoint in parts its name. What was the last one is then the previous one: one of them is always whole."""
    if path.exists():
        _make_way(path)
    made.rename(path)


def _make_way(path: Path) -> None:
    if path.name == LAST:
        _remove(path.with_name(PREVIOUS))
        path.rename(path.with_name(PREVIOUS))
    else:
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def mend(run: Path) -> None:
    """Put the previous checkpoint in the place of a last one that is damaged or missing, and say so.

    Raises:
        TrainingError: both are damaged.
    """
    last, previous = (run / "checkpoints" / name for name in (LAST, PREVIOUS))
    try:
        read_lazily(last)
    except TrainingError as error:
        if not previous.exists():
            raise
        step = read_lazily(previous)["global_step"]
        if previous.is_dir():
            _remove(last)
            previous.rename(last)
        else:
            _take_name(previous, last)
        told = f"{last.name} is damaged ({error.got}): going on from the one before, of step {step}"
        print(f"scribbleseg: {run}: {told}", file=sys.stderr, flush=True)


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
