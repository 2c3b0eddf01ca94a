"""A checkpoint's file, read without running code and without the training engine: a page that watches a run reads it too."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch

from scribbleseg.errors import TrainingError
from scribbleseg.training.parts import read_parts, whole


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
        if path.is_dir():
            return _checked(read_parts(path))
        with zipfile.ZipFile(path) as file:  # torch writes every part's checksum, and reads without looking at them
            if (damaged := file.testzip()) is not None:
                raise ValueError(f"the checksum of its part {damaged} is wrong")
        state = torch.load(path, map_location="cpu", weights_only=True)
        return _checked(state)
    except Exception as error:  # damage is of any kind, and so is what reading it raises
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise TrainingError(
            path, "a whole checkpoint", reason, "restore it from a copy, or start again in a new folder"
        ) from None


def _checked(state: Any) -> dict[str, Any]:
    if not isinstance(state, dict) or "state_dict" not in state or "global_step" not in state:
        raise ValueError("not a checkpoint of a run")
    return state
