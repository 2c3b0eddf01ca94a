"""A run's checkpoints, read without running code and without the training engine: a page that watches a run reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scribbleseg.errors import TrainingError
from scribbleseg.training.parts import read_file, read_parts, whole

#: Names in ``checkpoints/`` of what a run goes on from, and of what was that before.
LAST, PREVIOUS = "last.ckpt", "previous.ckpt"


def has_checkpoint(run: Path) -> bool:
    """Say whether a run can go on. One that was killed may have but the previous one of its checkpoints."""
    return any((run / "checkpoints" / name).exists() for name in (LAST, PREVIOUS))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint, a file or a folder with a part a process; nothing in it is executed.

    Raises:
        TrainingError: it is damaged.
    """
    state: dict[str, Any] = whole(read_lazily(path))
    return state


def read_lazily(path: Path) -> dict[str, Any]:
    """Read a checkpoint; of a folder tensors are :class:`~scribbleseg.training.parts.Parts`, read when they are asked for.

    Raises:
        TrainingError: it is damaged.
    """
    try:
        state = read_parts(path) if path.is_dir() else read_file(path)
        if not isinstance(state, dict) or "state_dict" not in state or "global_step" not in state:
            raise ValueError("not a checkpoint of a run")
        return state
    except Exception as error:  # damage is of any kind, and so is what reading it raises
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise TrainingError(
            path, "a whole checkpoint", reason, "restore it from a copy, or start again in a new folder"
        ) from None
