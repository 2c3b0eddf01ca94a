"""The history of a run: ``metrics.csv``, kept over a resume."""

from __future__ import annotations

import csv
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger

from scribbleseg.training.checkpoint_file import read_lazily
from scribbleseg.training.ranks import is_first


def history_logger(out: Path, checkpoint: Path | None) -> CSVLogger:
    """Return the logger that writes ``metrics.csv``.

    Lightning's own deletes the file when a run is resumed. Here the rows up to the checkpoint are put back, so that the
    history of a resumed run is that of an undisturbed one.

    Args:
        out: run folder.
        checkpoint: the one the run goes on from, or None for a new run.
    """
    path = out / "metrics.csv"
    rows: list[dict[str, str]] = []
    if checkpoint is not None and path.is_file():
        done = int(read_lazily(checkpoint)["global_step"])
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if (row.get("step") or "").isdigit() and int(row["step"]) < done]
    logger = CSVLogger(out, name="", version="", flush_logs_every_n_steps=1)  # each row as it comes: a page watches the file
    writer = logger.experiment  # this is what deletes the file
    if rows and is_first():
        writer.metrics_keys = list(rows[0])
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, fieldnames=writer.metrics_keys)
            table.writeheader()
            table.writerows(rows)
    return logger
