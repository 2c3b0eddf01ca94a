"""The progress bar of a run: one line that moves, with the losses and the last validation."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

#: Names in the bar; the CSV has the long ones.
_SHORT = {
    "train/total": "loss",
    "train/partial_cross_entropy": "pce",
    "train/dynamic_feature": "dfr",
    "train/feature_consistency": "head",
    "train/teacher_consistency": "teacher",
    "train/pseudo_label": "pseudo",
    "train/branch_cross_entropy": "branch pce",
    "train/dynamic_mixing": "mix",
    "val/miou": "val mIoU",
}


class ProgressBar(TQDMProgressBar):
    """Lightning's bar without the bars of each validation and without talk of epochs: a run is counted in steps."""

    def init_validation_tqdm(self) -> Tqdm:
        """Return a bar that is not shown."""
        return Tqdm(disable=True)

    def on_train_epoch_start(self, trainer: pl.Trainer, *words: Any) -> None:
        """Name the bar."""
        super().on_train_epoch_start(trainer, *words)
        self.train_progress_bar.set_description("training")

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Return what is shown beside the bar."""
        shown = super().get_metrics(trainer, pl_module)
        return {_SHORT.get(name, name): value for name, value in shown.items() if name != "v_num"}
