"""A checkpoint's file, read without running code and without the training engine: a page that watches a run reads it too."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch

from scribbleseg.errors import TrainingError


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint; nothing in it is executed.

    Raises:
        TrainingError: it is damaged.
    """
    try:
        with zipfile.ZipFile(path) as file:  # torch writes every part's checksum, and reads without looking at them
            if (damaged := file.testzip()) is not None:
                raise ValueError(f"the checksum of its part {damaged} is wrong")
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or "state_dict" not in state or "global_step" not in state:
            raise ValueError("not a checkpoint of a run")
    except Exception as error:  # damage is of any kind, and so is what reading it raises
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise TrainingError(
            path, "a whole checkpoint", reason, "restore it from a copy, or start again in a new folder"
        ) from None
    return state
