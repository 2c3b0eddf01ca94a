"""Loading a model, of whichever kind its folder holds."""

from __future__ import annotations

from pathlib import Path

from scribbleseg.errors import ModelError
from scribbleseg.serve.engine import Engine


def open_engine(path: Path, device: str = "auto", threads: int = 0) -> Engine:
    """Load a model.

    Args:
        path: of a model or run folder, of a folder that ``export`` wrote, or of its ``model.onnx``.
        device: see :func:`~scribbleseg.predict.pick_device`; ``auto`` or ``cpu`` for ONNX.
        threads: of the CPU; 0 leaves the choice to the library.

    Raises:
        ModelError: no model there, or not a whole one.
        ConfigError: the library that runs it is not installed, or there is no such device.
    """
    if not path.exists():
        raise ModelError(path, "a model folder, a run folder or an exported model", "nothing", "check the path")
    onnx = path if path.suffix == ".onnx" else path / "model.onnx"
    if onnx.is_file():
        from scribbleseg.serve.onnx_engine import OnnxEngine

        return OnnxEngine(onnx, device, threads)
    from scribbleseg.serve.torch_engine import TorchEngine

    return TorchEngine(path, device, threads)
