"""A run that a scheduler (SIGTERM) or Ctrl-C ends stops at the end of a step, with a checkpoint of that step."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import torch.distributed as dist
from lightning.pytorch.utilities.exceptions import SIGTERMException

from scribbleseg.stopping import StopRequest

#: Seconds that a validation gets to end after the signal; schedulers give a program 10 to 30 before they kill it.
GRACE_S = 5.0


class StopAtStep(pl.Callback):
    """Ends the run after the step in which it was told to stop, on all ranks after the same one, and writes ``last``.

    A validation that is under way is finished, and the step's checkpoint written; one that takes longer than ``GRACE_S`` is
    given up, and the run goes on from the checkpoint before it. Several ranks always finish theirs, for they share it.

    Args:
        request: what notes the signal that says so.
        last: file of the checkpoint.

    Attributes:
        saved: the step of the checkpoint that was written because of the signal.
    """

    def __init__(self, request: StopRequest, last: Path) -> None:
        self.request, self.last = request, last
        self.saved: int | None = None
        self._since: float | None = None
        self._written = -1

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen: Lightning's own handler talks to the other ranks at a moment at which they expect something else."""
        self.request.listen()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Let Lightning stop once the step is over, with its validation and its line of the history."""
        if self._anywhere(trainer) and trainer.global_step < trainer.max_steps:
            trainer._signal_connector.received_sigterm = True

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Give a long validation up."""
        if self.request.came and trainer.world_size == 1:
            self._since = self._since or time.monotonic()
            if time.monotonic() - self._since > GRACE_S:
                raise SIGTERMException

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take a signal that came during the validation."""
        if not trainer.sanity_checking and self._anywhere(trainer) and trainer.global_step < trainer.max_steps:
            trainer._signal_connector.received_sigterm = True

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note of which step there is a checkpoint."""
        self._written = checkpoint["global_step"]

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Write the checkpoint. Within a validation there is none to write: the run could not go on with half of one."""
        if isinstance(exception, SIGTERMException) and not trainer.validating:
            self.saved = trainer.global_step
            if self._written != self.saved:
                trainer.save_checkpoint(self.last)

    def _anywhere(self, trainer: pl.Trainer) -> bool:
        """Say whether the signal has come to any rank."""
        if not dist.is_initialized():
            return self.request.came
        came = torch.tensor(int(self.request.came), device=trainer.strategy.root_device)
        dist.all_reduce(came, dist.ReduceOp.MAX)
        return bool(came)
