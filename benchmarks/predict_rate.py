"""Images a second of ``scribbleseg predict``, beside the plain loop that reads, predicts and writes one after the other.

    python -m benchmarks.predict_rate [--images 60] [--size 256] [--window 256] [--rounds 3] [--out FILE]

Both sides have the same small network, the same JPEGs, made on the spot, and write the same files: an index PNG and an overlay.
They take turns; the ratio is taken within a round, so that a machine that is busy with other work says little of the times and
still something of the ratio. The command fails if the files differ.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.ops import page, record
from benchmarks.ops.measure import RESULTS, quartiles
from benchmarks.ops.record import Target
from scribbleseg.config import ModelConfig
from scribbleseg.data.images import read_index, read_rgb, write_png
from scribbleseg.models.folder import TrainedModel, load_model, save_model
from scribbleseg.models.segmenter import Segmenter
from scribbleseg.palette import blend
from scribbleseg.predict import list_images, predict_inputs, predict_mask

NAMES = ("background", "leaf", "stone")

#: A pixel whose classes are as likely as one another may fall to either: rounding depends on the batch.
DIFFERENT = 1e-4


def make(root: Path, images: int, size: int, window: int) -> None:
    """Write an untrained U-Net and pictures whose light changes from place to place."""
    torch.manual_seed(0)
    settings = ModelConfig.model_validate({"backbone": {"model_type": "unet"}, "decoder": "unet", "channels": 16})
    save_model(root / "model", TrainedModel(Segmenter(settings, len(NAMES)).eval(), NAMES, window))
    (root / "images").mkdir()
    for n in range(images):
        coarse = Image.fromarray(np.random.default_rng(n).integers(0, 255, (12, 12, 3), np.uint8))
        coarse.resize((size, size), Image.Resampling.BICUBIC).save(root / "images" / f"{n:05d}.jpg", quality=90)


def plain_loop(root: Path, out: Path) -> None:
    """Do one thing after the other."""
    model = load_model(root / "model")
    for path in list_images(root / "images"):
        rgb = read_rgb(path)
        mask = predict_mask(model, rgb)
        write_png(out / f"{path.stem}.png", mask)
        write_png(out / "overlays" / f"{path.stem}.png", blend(rgb, mask))


def ours(root: Path, out: Path) -> None:
    """Do it as the command does."""
    assert all(outcome.error is None for outcome in predict_inputs(root / "model", root / "images", out, device="cpu"))


SIDES: dict[str, Callable[[Path, Path], None]] = {"plain loop": plain_loop, "predict": ours}


def compare(one: Path, other: Path) -> float:
    """Return the share of pixels that differ."""
    pairs = [(read_index(path), read_index(other / path.name)) for path in sorted(one.glob("*.png"))]
    different = sum(int((a != b).sum()) for a, b in pairs) / sum(a.size for a, _ in pairs)
    if different > DIFFERENT:
        raise ArithmeticError(f"{different:.2%} of the pixels have another class")
    return different


def run(*, images: int = 60, size: int = 256, window: int = 256, rounds: int = 3) -> dict[str, Any]:
    """Return the rate of both sides, and their ratio round by round."""
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make(root, images, size, window)
        different = 0.0
        for turn in range(rounds):
            for side in list(SIDES) if turn % 2 == 0 else list(SIDES)[::-1]:
                began = time.perf_counter()
                SIDES[side](root, root / f"{side}-{turn}")
                seconds[side].append(time.perf_counter() - began)
            different = max(different, compare(*(root / f"{side}-{turn}" for side in SIDES)))
    rates = {side: [images / s for s in times] for side, times in seconds.items()}
    ratios = [a / b for a, b in zip(rates["predict"], rates["plain loop"], strict=True)]
    return {
        "peers": {},
        "images": images,
        "size": size,
        "window": window,
        "rates": {side: quartiles(found) if len(found) > 1 else found * 3 for side, found in rates.items()},
        "ratios": ratios,
        "different": different,
        "load_before": load,
        "load_after": os.getloadavg()[0],
    }


def targets(result: dict[str, Any]) -> list[Target]:
    """Return what was hoped for beside what a result says."""
    return [Target("predict against the plain loop", statistics.median(result["ratios"]), 1.0)]


def tables(result: dict[str, Any]) -> list[str]:
    """Return the page's lines."""
    cores = result["provenance"]["machine"]["cores"]
    words = (
        f"{result['images']} JPEGs of {result['size']}², windows of {result['window']}; load "
        f"{page.number(result['load_before'])} before, {page.number(result['load_after'])} after (of {cores} cores)."
    )
    rows = [[side, page.spread(rate)] for side, rate in result["rates"].items()]
    ratio = f"predict ÷ plain loop, in each round: {', '.join(page.number(r) for r in result['ratios'])}."
    return [words, "", *page.table(["", "images/s"], rows), "", ratio]


if __name__ == "__main__":
    record.main("predict_rate", run, {"images": 60, "size": 256, "window": 256, "rounds": 3}, RESULTS.parent)
