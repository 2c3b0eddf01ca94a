"""A model folder through PyTorch."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from scribbleseg.models.folder import WEIGHTS, find_model, load_model
from scribbleseg.predict import pick_device
from scribbleseg.serve.engine import sha256
from scribbleseg.trees import from_json


class TorchEngine:
    """See :class:`~scribbleseg.serve.engine.Engine`."""

    kind = "torch"

    def __init__(self, path: Path, device: str, threads: int) -> None:
        if threads:
            torch.set_num_threads(threads)
        model = load_model(path)
        where = pick_device(device)
        self._network = model.segmenter.to(where)
        self.device = str(where)
        self.names, self.reading = model.names, model.reading
        self.window_px: int | None = model.window_px
        self.longest_px = model.longest_px
        checksum = sha256(find_model(path) / WEIGHTS)
        self.origin: dict[str, Any] = {"made_by": "scribbleseg", "sha256": checksum, "torch": torch.__version__}
        run = find_model(path).parent / "run.json"
        if run.is_file():
            with contextlib.suppress(OSError, ValueError, AttributeError):  # it says where the model came from, no more
                trained = from_json(run.read_text(encoding="utf-8"))
                self.origin["trained"] = {key: trained.get(key) for key in ("date", "commit", "seed", "packages")}

    @torch.inference_mode()
    def begin(self, rgb: np.ndarray) -> np.ndarray:
        """See :class:`~scribbleseg.serve.engine.Engine`."""
        height, width = rgb.shape[:2]
        if not self.longest_px or self.longest_px == max(height, width):
            return rgb
        factor = self.longest_px / max(height, width)
        size = (max(1, round(height * factor)), max(1, round(width * factor)))
        image = F.interpolate(self._sent(rgb[None]), size, mode="bilinear", align_corners=False, antialias=factor < 1)
        return image[0].permute(1, 2, 0).cpu().numpy()

    @torch.inference_mode()
    def run(self, windows: np.ndarray) -> np.ndarray:
        """See :class:`~scribbleseg.serve.engine.Engine`."""
        return self._network.probabilities(self._sent(windows)).float().cpu().numpy()

    @torch.inference_mode()
    def end(self, probs: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """See :class:`~scribbleseg.serve.engine.Engine`."""
        if probs.shape[1:] == size:
            return probs
        given = torch.from_numpy(probs)[None].to(self.device)
        return F.interpolate(given, size, mode="bilinear", align_corners=False)[0].cpu().numpy()

    def _sent(self, pictures: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))).to(self.device)
