"""Memory and time of predicting one picture of 20,000 × 20,000 pixels under 4 GiB.

    python -m benchmarks.large_picture [--side 20000] [--small 4000] [--limit_gib 4] [--outputs mask,overlay] [--out FILE]

The tiled TIFF is made on the spot and removed. A process of its own, whose data segment the system limits (RLIMIT_DATA: any
further allocation fails), predicts it with a small untrained U-Net; its highest resident memory is read at the end. A picture
of ``--small`` pixels a side is measured beside it, to see what grows. The masks are compared, at a few places, with windows
that are averaged by hand.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch

from benchmarks.check_rate import _peak_mib
from benchmarks.ops import page, record
from benchmarks.ops.measure import RESULTS, ROOT
from benchmarks.ops.record import Target
from scribbleseg.config import ModelConfig
from scribbleseg.data.images import Window, open_image
from scribbleseg.models.folder import TrainedModel, load_model, save_model
from scribbleseg.models.segmenter import Segmenter
from scribbleseg.predict import predict_inputs, window_starts

NAMES = ("background", "leaf", "stone", "water", "sky")

TILE_PX = 512


def make_model(folder: Path, window: int) -> None:
    """Write a small untrained U-Net."""
    torch.manual_seed(0)
    backbone = {"model_type": "unet", "hidden_sizes": [8, 16], "depths": [1, 1], "stride": 2}
    settings = ModelConfig.model_validate({"backbone": backbone, "decoder": "unet", "channels": 8})
    save_model(folder, TrainedModel(Segmenter(settings, len(NAMES)).eval(), NAMES, window))


def make_picture(path: Path, side: int) -> None:
    """Write a tiled RGB TIFF whose colours change slowly; a tile at a time is held."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (TILE_PX // 16, TILE_PX // 16, 3), np.uint8)
    base = coarse.repeat(16, 0).repeat(16, 1)

    def tiles() -> Iterator[np.ndarray]:
        for n in range((-(-side // TILE_PX)) ** 2):
            yield np.roll(base, 37 * n, axis=(0, 1))[..., np.random.default_rng(n).permutation(3)]

    shape = (side, side, 3)
    how = {"tile": (TILE_PX, TILE_PX), "photometric": "rgb", "compression": "zlib", "bigtiff": True}
    tifffile.imwrite(path, tiles(), shape=shape, dtype="uint8", maxworkers=1, buffersize=2**24, **how)


def measure(root: Path, name: str, outputs: str, limit_gib: float) -> dict[str, Any]:
    """Predict in this process, whose memory the system limits from here on."""
    if limit_gib:
        limit = int(limit_gib * 2**30)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    began, busy = time.perf_counter(), time.process_time()
    (done,) = predict_inputs(root / "model", root / name, root / f"out-{name}", outputs=outputs.split(","), device="cpu")
    if done.error is not None:
        raise done.error
    seconds, busy = time.perf_counter() - began, time.process_time() - busy
    return {
        "seconds": seconds,
        "busy_s": busy,
        "peak_mib": _peak_mib(),
        "mib_out": [f.stat().st_size / 2**20 for f in done.files],
    }


@torch.inference_mode()
def check(root: Path, name: str, mask: Path, places: int = 4) -> float:
    """Return the share of pixels, at a few places, whose class is that of the windows over them, averaged here by hand."""
    model, rng, same = load_model(root / "model"), np.random.default_rng(0), []
    window = model.window_px
    slope, size = np.hanning(window + 2)[1:-1] + 1e-3, window // 8
    with open_image(root / name) as image, open_image(mask) as found:
        starts = window_starts(image.shape[0], window)
        for _ in range(places):
            k, m = (int(rng.integers(2, len(starts) - 2)) for _ in range(2))
            total = np.zeros((len(NAMES), size, size))
            for top in starts[k - 2 : k + 1]:
                for left in starts[m - 2 : m + 1]:
                    rgb = image.pixels(Window(top, left, window, window)) / np.float32(255)
                    probs = model.segmenter.probabilities(torch.from_numpy(rgb.transpose(2, 0, 1))[None])[0].numpy()
                    weighted = probs * np.outer(slope, slope)
                    y, x = starts[k] - top, starts[m] - left  # of the place in this window
                    part = weighted[:, y : y + size, x : x + size]
                    total[:, : part.shape[1], : part.shape[2]] += part
            stored = found.pixels(Window(starts[k], starts[m], size, size))[..., 0]
            same.append((total.argmax(0) == stored).mean())
    return float(np.mean(same))


def run(
    *, side: int = 20000, small: int = 4000, window: int = 512, limit_gib: float = 4.0, outputs: str = "mask,overlay"
) -> dict[str, Any]:
    """Return time and memory for both sizes."""
    load, rows = os.getloadavg()[0], []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_model(root / "model", window)
        for pixels in (small, side):
            name = f"picture{pixels}.tif"
            make_picture(root / name, pixels)
            words = [sys.executable, "-m", "benchmarks.large_picture", "--measure", str(root), name, outputs, str(limit_gib)]
            told = subprocess.run(words, capture_output=True, check=False, text=True, cwd=ROOT)
            if told.returncode:
                raise RuntimeError(told.stderr[-2000:])
            mask = next(p for p in (root / f"out-{name}").glob("picture*") if p.suffix in (".png", ".tif"))
            row = {"side": pixels, "agrees": check(root, name, mask), "mib_in": (root / name).stat().st_size / 2**20}
            rows.append(row | json.loads(told.stdout.splitlines()[-1]))
    how = {"outputs": outputs, "limit_gib": limit_gib, "window": window, "classes": len(NAMES)}
    return {"peers": {}, **how, "load_before": load, "load_after": os.getloadavg()[0], "rows": rows}


def targets(result: dict[str, Any]) -> list[Target]:
    """Return what was promised beside what a result says."""
    large = result["rows"][-1]
    text = f"predict: memory for {large['side']:,} × {large['side']:,} pixels"
    return [Target(text, large["peak_mib"] / 1024, 4, False, "GiB")]


def tables(result: dict[str, Any]) -> list[str]:
    """Return the page's lines."""
    words = (
        f"Outputs {result['outputs']}; windows of {result['window']}, {result['classes']} classes; RLIMIT_DATA "
        f"{page.number(result['limit_gib'])} GiB; load {page.number(result['load_before'])} before, "
        f"{page.number(result['load_after'])} after (of {result['provenance']['machine']['cores']} cores)."
    )
    rows = [
        [
            f"{row['side']:,}²",
            page.number(row["peak_mib"]),
            page.number(row["seconds"]),
            page.number(row["busy_s"]),
            f"{row['agrees']:.4f}",
        ]
        for row in result["rows"]
    ]
    return [
        words,
        "",
        *page.table(["picture", "peak memory (MiB)", "s by the clock", "processor s", "as by hand"], rows),
    ]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(Path(sys.argv[2]), sys.argv[3], sys.argv[4], float(sys.argv[5]))))
    else:
        defaults = {"side": 20000, "small": 4000, "window": 512, "limit_gib": 4.0, "outputs": "mask,overlay"}
        record.main("large_picture", run, defaults, RESULTS.parent)
