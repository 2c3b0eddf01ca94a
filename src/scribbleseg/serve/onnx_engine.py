"""An exported model through ONNX Runtime; PyTorch is not imported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from scribbleseg.errors import ConfigError, ModelError
from scribbleseg.extras import library
from scribbleseg.reading import Reading
from scribbleseg.serve.engine import sha256


class OnnxEngine:
    """See :class:`~scribbleseg.serve.engine.Engine`. Scaling and resizing are inside the model."""

    kind = "onnx"

    def __init__(self, path: Path, device: str, threads: int) -> None:
        runtime = library("onnxruntime", path, "which runs exported models", "serve")
        available = runtime.get_available_providers()
        wanted = [p for p in ("CUDAExecutionProvider", "CPUExecutionProvider") if p in available and device != "cpu"]
        if device not in ("auto", "cpu") and not (device.startswith("cuda") and "CUDAExecutionProvider" in available):
            raise ConfigError(
                "--device", "auto or cpu for this ONNX Runtime", device, "install onnxruntime-gpu, or leave it out"
            )
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        try:
            self._session = runtime.InferenceSession(str(path), options, providers=wanted or ["CPUExecutionProvider"])
            about: dict[str, Any] = self._session.get_modelmeta().custom_metadata_map
            (given,) = self._session.get_inputs()
            self._input, self._type = given.name, {"tensor(uint8)": np.uint8, "tensor(float)": np.float32}[given.type]
            self.names = tuple(str(name) for name in json.loads(about["names"]))
            self.longest_px = int(about["longest_px"])
            self.window_px = None if self.longest_px else int(about["window_px"])
            self.reading = Reading.model_validate_json(about["reading"])
        except (KeyError, ValueError, TypeError, ValidationError) as error:
            raise _not_ours(path, f"no {error}" if isinstance(error, KeyError) else str(error)) from None
        except Exception as error:  # the runtime's own kinds have no base of their own
            raise _not_ours(path, str(error)) from None
        self.device = "cuda" if "CUDAExecutionProvider" in self._session.get_providers() else "cpu"
        self.origin = {"made_by": about.get("made_by"), "sha256": sha256(path), "onnxruntime": runtime.__version__}

    def begin(self, rgb: np.ndarray) -> np.ndarray:
        """See :class:`~scribbleseg.serve.engine.Engine`."""
        return rgb if self._type == np.float32 else (255 * rgb).round().astype(np.uint8)

    def run(self, windows: np.ndarray) -> np.ndarray:
        """See :class:`~scribbleseg.serve.engine.Engine`."""
        (probs,) = self._session.run(None, {self._input: windows})
        return np.asarray(probs, np.float32)

    def end(self, probs: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """See :class:`~scribbleseg.serve.engine.Engine`."""
        return probs


def _not_ours(path: Path, got: str) -> ModelError:
    return ModelError(path, "a model that `scribbleseg export` wrote", " ".join(got.split())[:300], "export the model again")
