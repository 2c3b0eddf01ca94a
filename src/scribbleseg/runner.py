"""Predict with an exported model: NumPy, ONNX Runtime and Pillow, no PyTorch.

`scribbleseg export` puts a copy of this file beside `model.onnx`, and it needs nothing else of scribbleseg:

    pip install numpy onnxruntime pillow
    python runner.py model.onnx photo.jpg mask.png
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

#: Share of a window that overlaps the next.
OVERLAP = 0.5


class Runner:
    """An exported model.

    Args:
        path: of ``model.onnx``.
        threads: of the CPU; 0 leaves the runtime's choice.

    Attributes:
        names: class names by id.
        window_px: larger pictures are covered by overlapping windows of this side, unless the model resizes them by itself.
        resizes: the model brings every picture to one length by itself.
    """

    def __init__(self, path: Path | str, threads: int = 0) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        available = onnxruntime.get_available_providers()
        wanted = [p for p in ("CUDAExecutionProvider", "CPUExecutionProvider") if p in available]
        self._session = onnxruntime.InferenceSession(str(path), options, providers=wanted)
        about: dict[str, Any] = self._session.get_modelmeta().custom_metadata_map
        self.names: tuple[str, ...] = tuple(json.loads(about["names"]))
        self.window_px, self.resizes = int(about["window_px"]), int(about["longest_px"]) > 0
        self._type = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32}[self._session.get_inputs()[0].type]

    def probabilities(self, rgb: np.ndarray) -> np.ndarray:
        """Return class probabilities (C, H, W) of a picture (H, W, 3), 8-bit or floats in [0, 1].

        Raises:
            ValueError: another shape, or floats for a model of 8-bit pictures.
        """
        if rgb.ndim != 3 or rgb.shape[2] != 3:
            raise ValueError(f"a picture of shape (H, W, 3) is needed, not {rgb.shape}")
        if self._type == np.float32 and rgb.dtype == np.uint8:
            rgb = rgb.astype(np.float32) / np.float32(255)
        if rgb.dtype != self._type:
            raise ValueError(f"this model takes {self._type.__name__}, not {rgb.dtype}")
        tops, lefts = ([0] if self.resizes else _starts(n, self.window_px) for n in rgb.shape[:2])
        if len(tops) == len(lefts) == 1:
            return self._run(rgb)
        high, wide = (min(n, self.window_px) for n in rgb.shape[:2])
        weight = np.outer(_hill(high), _hill(wide))
        total = np.zeros((len(self.names), *rgb.shape[:2]), np.float32)
        mass = np.zeros(rgb.shape[:2], np.float32)
        for top in tops:
            for left in lefts:
                place = (slice(top, top + high), slice(left, left + wide))
                total[:, place[0], place[1]] += self._run(np.ascontiguousarray(rgb[place])) * weight
                mass[place] += weight
        return total / mass

    def mask(self, rgb: np.ndarray) -> np.ndarray:
        """Return the most probable class of every pixel, uint8 (H, W)."""
        return self.probabilities(rgb).argmax(0).astype(np.uint8)

    def _run(self, rgb: np.ndarray) -> np.ndarray:
        (probs,) = self._session.run(None, {"image": rgb[None]})
        return np.asarray(probs[0])


def _starts(length: int, window: int) -> list[int]:
    if length <= window:
        return [0]
    number = -(-(length - window) // int(window * (1 - OVERLAP))) + 1
    return [round(k * (length - window) / (number - 1)) for k in range(number)]


def _hill(length: int) -> np.ndarray:
    return (np.hanning(length + 2)[1:-1] + 1e-3).astype(np.float32)


def main() -> None:
    """Predict one picture from the command line."""
    if len(sys.argv) != 4:
        raise SystemExit("usage: python runner.py model.onnx picture mask.png")
    with Image.open(sys.argv[2]) as picture:
        rgb = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    runner = Runner(sys.argv[1])
    mask = runner.mask(rgb)
    Image.fromarray(mask).save(sys.argv[3])
    shares = np.bincount(mask.ravel(), minlength=len(runner.names)) / mask.size
    print(", ".join(f"{name} {share:.1%}" for name, share in zip(runner.names, shares, strict=True)))


if __name__ == "__main__":
    main()
