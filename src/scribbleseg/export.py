"""Export: a model as ONNX, with its preprocessing inside, checked against the original before it is handed on."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
import shutil
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scribbleseg.atomic import atomic_folder, write_text
from scribbleseg.data.images import read_rgb
from scribbleseg.errors import ConfigError, ModelError
from scribbleseg.models.folder import TrainedModel, load_model
from scribbleseg.predict import list_images, probabilities

#: What an exported model may differ from the original: probabilities, and the share of pixels of another class.
MAX_DIFFERENCE, MAX_OTHER = 1e-3, 1e-4

#: Sizes of the pictures of noise that are compared where no images are given: odd ones, a tall one, one of several windows.
SIZES = ((97, 131), (160, 64), (33, 40))

Input = Literal["uint8", "float32"]


@dataclass(frozen=True)
class Parity:
    """How an exported model differs from the original.

    Attributes:
        pictures: that were compared.
        difference: largest one of a probability.
        other: share of pixels that got another class.
    """

    pictures: int
    difference: float
    other: float


class _Whole(nn.Module):
    """From pictures (B, H, W, 3) to probabilities (B, C, H, W): what prediction does with one window."""

    def __init__(self, model: TrainedModel) -> None:
        super().__init__()
        self.network, self.longest_px = model.segmenter, model.longest_px

    def forward(self, image: Tensor) -> Tensor:
        x = image.permute(0, 3, 1, 2)
        x = x.float() / 255 if image.dtype == torch.uint8 else x
        height, width = x.shape[-2:]
        rows, columns = height, width
        if self.longest_px:
            longest = _largest(height, width)
            rows, columns = (_largest(_rounded(n * self.longest_px, longest), 1) for n in (height, width))
            x = F.interpolate(x, (rows, columns), mode="bilinear", align_corners=False, antialias=True)
        multiple = self.network.multiple
        padded = F.pad(x, (0, -columns % multiple, 0, -rows % multiple), mode="replicate")
        logits = F.interpolate(self.network.scores(padded), padded.shape[-2:], mode="bilinear", align_corners=False)
        probs = logits[..., :rows, :columns].softmax(1)
        if self.longest_px:
            probs = F.interpolate(probs, (height, width), mode="bilinear", align_corners=False)
        return probs


def _largest(a: int, b: int) -> int:
    """Return the larger number, also where the exporter has yet to know which."""
    return torch.sym_max(a, b)  # type: ignore[no-untyped-call]


def _rounded(above: int, below: int) -> int:
    """Return ``round(above / below)``, a half to the even side, without a branch: the exporter has to follow."""
    nearest, left = (2 * above + below) // (2 * below), (2 * above + below) % (2 * below)
    is_half = 1 - (left + 2 * below - 1) // (2 * below)
    return nearest - is_half * (nearest % 2)


def export_onnx(
    model_folder: Path | str,
    out: Path | str,
    *,
    images: Path | str | None = None,
    num_images: int = 8,
    input: Input = "uint8",
) -> Parity:
    """Write a folder with ``model.onnx`` and ``runner.py``, which predicts with it and without PyTorch.

    The model takes ``image``, (B, H, W, 3) of any size, and returns ``probabilities``, (B, C, H, W) of the same. Scaling,
    resizing, padding and normalisation are inside; class names, the window and what the values mean are in its metadata.

    Args:
        model_folder: a model or run folder.
        out: new folder.
        images: folder of pictures to compare on; pictures of noise if None.
        num_images: at most so many of them.
        input: ``uint8`` for 8-bit pictures; ``float32`` for values in [0, 1], as files of other kinds are read
            (16 bits, Hounsfield units: key ``reading`` of the metadata).

    Raises:
        ConfigError: ONNX is not installed, or the model resizes pictures to more than its window.
        ModelError: the model folder is not whole, or the exported model answers otherwise than the original.
        StorageError: the folder exists, or cannot be written.

    Cost: one to three minutes, since sizes are left open.
    """
    _require_onnx()
    model, out = load_model(model_folder), Path(out)
    if model.longest_px > model.window_px:
        got = f"images of {model.longest_px} px through windows of {model.window_px} px"
        raise ConfigError(
            model_folder, "a model whose images fit its window", got, "train with data.window_px >= data.longest_px"
        )
    pictures = _pictures(model, images, num_images, input)
    with atomic_folder(out) as folder:
        program = _exported(model, input)
        _describe(program, model)
        program.save(str(folder / "model.onnx"))
        shutil.copyfile(Path(__file__).with_name("runner.py"), folder / "runner.py")
        found = parity(model, folder / "model.onnx", pictures)
        if not (found.difference <= MAX_DIFFERENCE and found.other <= MAX_OTHER):
            got = f"probabilities {found.difference:.2g} off, {found.other:.2%} of the pixels of another class"
            do = "this backbone cannot be exported with open sizes; use another, or report it"
            raise ModelError(out, "an ONNX model that answers as the original does", got, do)
        write_text(folder / "parity.json", json.dumps(vars(found), indent=1) + "\n")
    return found


def parity(model: TrainedModel, path: Path, pictures: Sequence[np.ndarray]) -> Parity:
    """Compare an exported model, run by ``runner.py``, with the original on pictures."""
    from scribbleseg.runner import Runner

    runner = Runner(path, torch.get_num_threads())
    difference, other, pixels = 0.0, 0, 0
    for rgb in pictures:
        ours, theirs = probabilities(model, rgb).numpy(), runner.probabilities(rgb)
        difference = max(difference, float(np.abs(ours - theirs).max()))
        other += int((ours.argmax(0) != theirs.argmax(0)).sum())
        pixels += ours[0].size
    return Parity(len(pictures), difference, other / max(pixels, 1))


def _pictures(model: TrainedModel, images: Path | str | None, number: int, input: Input) -> list[np.ndarray]:
    if images is None:
        sizes = [*SIZES, (model.window_px + 57, model.window_px // 2 + 3)]
        generator = np.random.default_rng(0)
        found = [generator.random((*size, 3), dtype=np.float32) for size in sizes]
    else:
        found = [read_rgb(path, model.reading) for path in list_images(Path(images))[:number]]
    return found if input == "float32" else [(255 * rgb).round().astype(np.uint8) for rgb in found]


def _exported(model: TrainedModel, input: Input) -> Any:
    example = torch.zeros(2, 96, 160, 3, dtype=getattr(torch, input))
    free = torch.export.Dim.DYNAMIC
    with _quiet():
        return torch.onnx.export(
            _Whole(model).eval(),
            (example,),
            dynamo=True,
            dynamic_shapes=({0: free, 1: free, 2: free},),
            input_names=["image"],
            output_names=["probabilities"],
            verbose=False,
        )


def _describe(program: Any, model: TrainedModel) -> None:
    about = {
        "names": json.dumps(model.names),
        "window_px": str(model.window_px),
        "longest_px": str(model.longest_px),
        "reading": model.reading.model_dump_json(),
        "made_by": "scribbleseg",
    }
    program.model.metadata_props.update(about)


def _require_onnx() -> None:
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError("export", "the ONNX packages", f"no {', '.join(missing)}", 'pip install "scribbleseg[onnx]"')


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter: it tells of its own inner workings, tracebacks included."""
    loggers = [logging.getLogger(name) for name in ("torch", "torch.onnx", "torch.fx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
