"""The network with its preprocessing inside, as one graph whose sizes are left open."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scribbleseg.errors import ConfigError
from scribbleseg.models.folder import TrainedModel

Input = Literal["uint8", "float32"]


class Whole(nn.Module):
    """From pictures (B, H, W, 3) to probabilities (B, C, H, W): what prediction does with one window.

    Args:
        model: the network.
        opaque: the sizes inside are new numbers to the exporter, not expressions of the picture's own size. Such
            expressions, carried through a hundred layers, took minutes to export and again to load, and PyTorch settles
            that none of them is 1; but a network that asks whether a size has a remainder, as Swin does, needs them.
    """

    def __init__(self, model: TrainedModel, opaque: bool = True) -> None:
        super().__init__()
        self.network, self.longest_px, self.opaque = model.segmenter, model.longest_px, opaque

    def forward(self, image: Tensor) -> Tensor:
        """Return probabilities of 8-bit pictures, or of floats in [0, 1]."""
        x = image.permute(0, 3, 1, 2)
        x = x.float() / 255 if image.dtype == torch.uint8 else x
        height, width = x.shape[-2:]
        multiple = self.network.multiple
        rows, columns = height, width
        if self.longest_px:
            rows, columns = self._opaque_size(height, width) if self.opaque else self._size(height, width)
            x = F.interpolate(x, (rows, columns), mode="bilinear", align_corners=False, antialias=True)
        high, wide = (multiple * ((n + multiple - 1) // multiple) for n in (rows, columns))
        if self.opaque:
            high, wide = (multiple * self._opaque(torch.scalar_tensor(n).div(multiple).ceil()) for n in (rows, columns))
        padded = F.pad(x, (0, wide - columns, 0, high - rows), mode="replicate")
        logits = F.interpolate(self.network.scores(padded), (high, wide), mode="bilinear", align_corners=False)
        probs = _cut(logits.softmax(1), rows, columns)
        if self.longest_px:
            probs = F.interpolate(probs, (height, width), mode="bilinear", align_corners=False)
        return probs

    def _size(self, height: int, width: int) -> tuple[int, int]:
        """Return the size a picture is brought to, as prediction rounds it."""
        longest = torch.sym_max(height, width)  # type: ignore[no-untyped-call]
        return tuple(torch.sym_max(_rounded(n * self.longest_px, longest), 1) for n in (height, width))  # type: ignore[no-untyped-call]

    def _opaque_size(self, height: int, width: int) -> tuple[int, int]:
        sides = torch.stack([torch.scalar_tensor(n, dtype=torch.float64) for n in (height, width)])
        rows, columns = (sides * (self.longest_px / sides.max())).round().clamp(min=1).unbind()
        return self._opaque(rows), self._opaque(columns)

    def _opaque(self, value: Tensor) -> int:
        """Return a positive number that the exporter takes as it comes."""
        number: Any = value.long().item()
        torch._check(number >= 1)  # type: ignore[no-untyped-call]
        # True of every number, which the exporter does not see where half of the cells are asked for.
        torch._check(2 * ((number - 1) // 2) < number)  # type: ignore[no-untyped-call]
        return number


def _rounded(above: int, below: int) -> int:
    """Return ``round(above / below)``, a half to the even side, without a branch: the exporter has to follow."""
    nearest, left = (2 * above + below) // (2 * below), (2 * above + below) % (2 * below)
    is_half = 1 - (left + 2 * below - 1) // (2 * below)
    return nearest - is_half * (nearest % 2)


def _cut(x: Tensor, rows: int, columns: int) -> Tensor:
    """Return the upper left corner, as a copy: of a view the exporter settles once for all whether anything was cut off."""
    return x.index_select(-2, torch.arange(rows, device=x.device)).index_select(-1, torch.arange(columns, device=x.device))


def example(input: Input) -> Tensor:
    """Return pictures for the exporter to follow: two, of sizes that no window and no patch has."""
    return torch.zeros(2, 96, 160, 3, dtype=getattr(torch, input))


def about(model: TrainedModel) -> dict[str, str]:
    """Return what an exported file says of itself: class names, window, length, and how its pictures are read."""
    return {
        "names": json.dumps(model.names),
        "window_px": str(model.window_px),
        "longest_px": str(model.longest_px),
        "reading": model.reading.model_dump_json(),
        "made_by": "scribbleseg",
    }


def require_one_window(model: TrainedModel, where: Path | str) -> None:
    """Check that a picture which the model resizes fits its window.

    Raises:
        ConfigError: it does not; the graph would have to cut it up.
    """
    if model.longest_px > model.window_px:
        got = f"images of {model.longest_px} px through windows of {model.window_px} px"
        do = "train with data.window_px >= data.longest_px"
        raise ConfigError(where, "a model whose images fit its window", got, do)


@contextlib.contextmanager
def exporting() -> Iterator[None]:
    """Tell the networks that they are being followed, and silence the exporter.

    Ours and those of ``transformers`` ask ``torch.jit.is_tracing``: they then leave out shortcuts for pictures of one size.
    """
    with quiet(), mock.patch.object(torch.jit, "is_tracing", return_value=True), torch.inference_mode(False), torch.no_grad():
        yield


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the exporters: they tell of their own inner workings, tracebacks included."""
    names = ("", "torch", "torch.onnx", "torch.fx", "torch.export", "onnxscript", "onnx_ir")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
