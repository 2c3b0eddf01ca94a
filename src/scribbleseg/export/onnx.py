"""ONNX: a model with its preprocessing inside, and a runner that needs no PyTorch."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch

from scribbleseg import runner
from scribbleseg.atomic import atomic_folder
from scribbleseg.errors import ConfigError, ModelError, nearest
from scribbleseg.export.parity import Parity, compare, demand, pictures, write_parity
from scribbleseg.export.precision import to_float16, to_int8, windows
from scribbleseg.export.whole import Input, Whole, about, example, exporting, require_one_window
from scribbleseg.models.folder import TrainedModel, load_model

#: Pictures, or windows of them, that the ranges of an int8 model are taken from.
NUM_TYPICAL = 32

Precision = Literal["float32", "float16", "int8"]

_DO = {
    "float32": "this backbone cannot be exported with open sizes; use another, or report it",
    "float16": "export it with --precision float32",
    "int8": "give more typical pictures with --calibration, or export it with --precision float16 or float32",
}


def export_onnx(
    model_folder: Path | str,
    out: Path | str,
    *,
    images: Path | str | None = None,
    num_images: int = 8,
    input: Input = "uint8",
    precision: Precision = "float32",
    calibration: Path | str | None = None,
) -> Parity:
    """Write a folder with ``model.onnx`` and ``runner.py``, which predicts with it and without PyTorch.

    The model takes ``image``, (B, H, W, 3) of any size, and returns ``probabilities``, (B, C, H, W) of the same, in every
    precision. Scaling, resizing, padding and normalisation are inside; class names, the window and what the values mean are
    in its metadata. ``parity.json`` says how it differs from the original.

    Args:
        model_folder: a model or run folder.
        out: new folder.
        images: folder of pictures to compare on; pictures of noise if None, for ``float32`` alone.
        num_images: at most so many of them, evenly from the folder.
        input: ``uint8`` for 8-bit pictures; ``float32`` for values in [0, 1], as files of other kinds are read
            (16 bits, Hounsfield units: key ``reading`` of the metadata).
        precision: of what is stored and computed inside.
        calibration: folder of typical pictures, others than those to compare on: with them the values between the layers
            of an ``int8`` model have 8 bits too, without them only the weights.

    Raises:
        ConfigError: ONNX is not installed, the model resizes pictures to more than its window, or an unknown precision.
        ModelError: the model folder is not whole, or the exported model answers otherwise than the original.
        StorageError: the folder exists, or cannot be written.

    Cost: one to three minutes, since sizes are left open.
    """
    _require_onnx()
    if precision not in get_args(Precision):
        raise ConfigError("--precision", "a known precision", f"'{precision}'", nearest(precision, get_args(Precision)))
    if precision != "float32" and images is None:
        got = f"--precision {precision} without --images"
        raise ConfigError("--images", "pictures to measure the loss on", got, "give a folder of typical pictures")
    if calibration is not None and precision != "int8":
        raise ConfigError("--calibration", "--precision int8", f"--precision {precision}", "leave one of them out")
    model, out = load_model(model_folder), Path(out)
    require_one_window(model, model_folder)
    compared = pictures(model, images, num_images, input)
    typical = None if calibration is None else _typical(model, calibration, input)
    with atomic_folder(out) as folder:
        path = folder / "model.onnx"
        program = _exported(model, input)
        program.model.metadata_props.update(about(model) | {"precision": precision})
        program.save(str(path))
        if precision == "float16":
            to_float16(path)
        elif precision == "int8":
            to_int8(path, typical)
        shutil.copyfile(str(runner.__file__), folder / "runner.py")
        found = compare(model, runner.Runner(path, torch.get_num_threads()).probabilities, compared, precision, path)
        demand(found, out, f"an ONNX model in {precision}", _DO[precision])
        write_parity(folder, found, input=input, compared="noise" if images is None else "images")
    return found


def _typical(model: TrainedModel, folder: Path | str, input: Input) -> list[np.ndarray]:
    """Return what the network sees of some pictures of a folder."""
    found = pictures(model, folder, NUM_TYPICAL, input)
    return found if model.longest_px else [part for rgb in found for part in windows(rgb, model.window_px)][:NUM_TYPICAL]


def _exported(model: TrainedModel, input: Input) -> Any:
    free, reason = torch.export.Dim.DYNAMIC, ""
    for opaque in (True, False):
        try:
            with exporting():
                return torch.onnx.export(
                    Whole(model, opaque).eval(),
                    (example(input),),
                    dynamo=True,
                    dynamic_shapes=({0: free, 1: free, 2: free},),
                    input_names=["image"],
                    output_names=["probabilities"],
                    verbose=False,
                )
        except Exception as error:  # the exporter raises what it likes
            reason = " ".join(str(error.__cause__ or error).split())[:300]
    kind = model.segmenter.backbone.settings.get("model_type")
    raise ModelError(
        f"backbone {kind}", "a network that the ONNX exporter can follow", reason, "use another backbone, or report it"
    )


def _require_onnx() -> None:
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError("export", "the ONNX packages", f"no {', '.join(missing)}", 'pip install "scribbleseg[onnx]"')
