"""How an exported model differs from the original on pictures, and how much it may."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from scribbleseg.atomic import write_text
from scribbleseg.data.images import read_rgb
from scribbleseg.errors import DataError, ModelError
from scribbleseg.export.whole import Input
from scribbleseg.metrics import counts
from scribbleseg.models.folder import TrainedModel
from scribbleseg.predict import list_images, probabilities

#: Sizes of the pictures of noise that are compared where no images are given: odd, tall, small ones, one of several windows.
SIZES = ((97, 131), (160, 64), (33, 40), (20, 31))

#: From a picture (H, W, 3) to probabilities (C, H, W).
Run = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Limits:
    """What an exported model may differ from the original.

    Attributes:
        difference: of a probability at any pixel.
        other: share of pixels of another class.
        miou: that the masks of both have at least.
    """

    difference: float
    other: float
    miou: float


#: Rounding alone may move a float32 model. A half's ten bits move probabilities a little more, and eight bits move those near
#: a border a lot: there the masks count.
LIMITS: Mapping[str, Limits] = {
    "float32": Limits(difference=1e-3, other=1e-4, miou=0.99),
    "float16": Limits(difference=0.05, other=2e-3, miou=0.98),
    "int8": Limits(difference=1.0, other=0.02, miou=0.9),
}


@dataclass(frozen=True)
class Parity:
    """How an exported model differs from the original.

    Attributes:
        precision: a name of :data:`LIMITS`.
        pictures: that were compared.
        difference: largest one of a probability.
        other: share of pixels that got another class.
        miou: mean IoU of its masks with the original's, over the classes that either of them has; pixels are pooled.
        size_mb: of the file, in millions of bytes.
        ms: that it takes for a picture, median, on this machine.
        original_ms: that the original takes for it.
    """

    precision: str
    pictures: int
    difference: float
    other: float
    miou: float
    size_mb: float
    ms: float
    original_ms: float

    @property
    def limits(self) -> Limits:
        """What it may differ."""
        return LIMITS[self.precision]

    @property
    def kept(self) -> bool:
        """Whether it is within the limits; what is no number is not."""
        limits = self.limits
        return self.difference <= limits.difference and self.other <= limits.other and self.miou >= limits.miou

    def __str__(self) -> str:
        return (
            f"probabilities to {self.difference:.1e}; {self.other:.3%} of the pixels differ; mIoU of the masks {self.miou:.4f}"
        )


def compare(model: TrainedModel, run: Run, pictures: Sequence[np.ndarray], precision: str, path: Path) -> Parity:
    """Compare an exported model with the original on pictures, in turns.

    Args:
        model: the original.
        run: the exported one.
        pictures: (H, W, 3).
        precision: a name of :data:`LIMITS`.
        path: of the exported file.
    """
    difference, confusion = 0.0, np.zeros((len(model.names),) * 2, np.int64)
    times: list[tuple[float, float]] = []
    run(pictures[0])  # the first run of a session prepares its memory
    for rgb in pictures:
        began = time.perf_counter()
        ours = probabilities(model, rgb).cpu().numpy()
        between = time.perf_counter()
        theirs = run(rgb)
        times.append((time.perf_counter() - between, between - began))
        difference = max(difference, _difference(ours, theirs))
        np.add.at(confusion, (ours.argmax(0), theirs.argmax(0)), 1)
    ms, original_ms = 1e3 * np.median(times, 0)
    other, miou = 1 - counts.pixel_accuracy(confusion), counts.mean_present(counts.iou(confusion))
    size = round(path.stat().st_size / 1e6, 2)
    return Parity(precision, len(pictures), difference, other, miou, size, round(float(ms), 2), round(float(original_ms), 2))


def _difference(ours: Float[np.ndarray, "C H W"], theirs: Float[np.ndarray, "C H W"]) -> float:
    """Return the largest difference, infinite where one of them is no number."""
    found = float(np.abs(ours - theirs).max())
    return found if np.isfinite(found) else float("inf")


def demand(found: Parity, where: Path, what: str, do: str) -> None:
    """Check that a model is within its limits.

    Args:
        found: how it differs.
        where: it was to be written.
        what: it is, as ``an ONNX model``.
        do: what the user can do about it.

    Raises:
        ModelError: it is not.
    """
    if not found.kept:
        limits = found.limits
        allowed = f"within {limits.difference:g} of a probability, {limits.other:.2%} of the pixels, mIoU {limits.miou:g}"
        got = f"{found.difference:.2g} off, {found.other:.2%} of the pixels of another class, mIoU {found.miou:.3f}"
        raise ModelError(where, f"{what} that answers as the original does ({allowed})", got, do)


def write_parity(folder: Path, found: Parity, **more: Any) -> None:
    """Write ``parity.json``: what was found, and what was allowed."""
    tree = asdict(found) | {"limits": asdict(found.limits)} | more
    write_text(folder / "parity.json", json.dumps(tree, indent=1) + "\n")


def pictures(model: TrainedModel, images: Path | str | None, number: int, input: Input) -> list[np.ndarray]:
    """Return pictures to compare on: evenly from a folder, read as prediction reads them; of noise if None.

    Raises:
        DataError: no images there, or one that cannot be read.
    """
    if images is None:
        sizes = [*SIZES, (model.window_px + 57, model.window_px // 2 + 3)]
        generator = np.random.default_rng(0)
        found = [generator.random((*size, 3), dtype=np.float32) for size in sizes]
    else:
        paths = list_images(Path(images))
        step = max(1, len(paths) // number)
        found = [read_rgb(path, model.reading) for path in paths[::step][:number]]
    if not found:
        raise DataError(images, "at least one picture", "none", "compare on more of them")
    return found if input == "float32" else [as_8_bit(rgb) for rgb in found]


def as_8_bit(rgb: Float[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """Return a picture of floats in [0, 1] with 8 bits."""
    return (255 * rgb).round().astype(np.uint8)
