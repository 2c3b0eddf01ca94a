"""How long a network waits for its data: crops of 512² from JPEGs of 720 × 960, loaded by two processes.

    python -m benchmarks.loading [--workers 2] [--size 512] [--batch 8] [--batches 30] [--rounds 3] [--out FILE]

The data set is made on the spot, in a folder that is removed. A network that takes ``RATE`` images a second for each worker is
played by a sleep, so that nothing but the loading uses the processor; the waiting is the time spent asking for a batch. Images
are read each time, as where they do not fit into memory. Of photographs, that do, one process loads a first and a second epoch.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from benchmarks.ops import page, record
from benchmarks.ops.measure import RESULTS, quartiles
from benchmarks.ops.record import Target
from benchmarks.ops.scene import scene
from scribbleseg.config import parse_config
from scribbleseg.data.folder import Dataset, open_dataset
from scribbleseg.data.loader import TrainingSamples, training_loader

#: Images a second for each core that a network takes.
RATE = 20.0

CLASSES = 21

#: Makes files of about two bits a pixel, as photographs have them.
QUALITY = 90


def make_dataset(root: Path, number: int, height: int, width: int) -> Path:
    """Write JPEGs of shaded patches with noise, and a stroke of every class on each."""
    for folder in ("images", "scribbles"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for n in range(number):
        rgb = scene(1, 2, max(height, width), seed=n)[1][0, :, :height, :width]
        pixels = (255 * rgb).round().to(torch.uint8).permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(root / "images" / f"{n:03d}.jpg", quality=QUALITY)
        strokes = Image.new("L", (width, height), 255)
        for class_id in range(CLASSES):
            points = rng.uniform(0, 1, (3, 2)) * (width, height)
            ImageDraw.Draw(strokes).line([(float(x), float(y)) for x, y in points], fill=class_id, width=3)
        strokes.save(root / "scribbles" / f"{n:03d}.png")
    names = {k: f"class {k}" for k in range(CLASSES)}
    spec = {"name": "patches", "names": names, "splits": {"train": "train.txt"}}
    (root / "train.txt").write_text("".join(f"{n:03d}\n" for n in range(number)), encoding="utf-8")
    (root / "dataset.yaml").write_text(json.dumps(spec), encoding="utf-8")  # which YAML can read, numbers as words
    return root


def consume(dataset: Dataset, *, size: int, workers: int, batch: int, batches: int, busy_s: float) -> dict[str, float]:
    """Take all batches of a run and be busy with each for some time.

    The clock starts when each worker has given its first batch; ``first_s`` is the time to the very first.
    """
    tree = {
        "data": {"root": dataset.root, "crop_px": size, "num_workers": workers, "cache_mib": 0},
        "training": {"max_steps": batches, "batch_size": batch},
    }
    began = time.perf_counter()
    loader = iter(training_loader(dataset, parse_config(tree), lambda: 0))
    next(loader)
    first_s = time.perf_counter() - began
    for _ in range(workers - 1):
        next(loader)
    waited, began = 0.0, time.perf_counter()
    for _ in range(batches - workers):
        asked = time.perf_counter()
        next(loader)
        waited += time.perf_counter() - asked
        time.sleep(busy_s)
    spent = time.perf_counter() - began
    return {"first_s": first_s, "waited": waited / spent, "per_core": batch * (batches - workers) / spent / workers}


def epochs(dataset: Dataset, longest_px: int) -> list[list[float]]:
    """Return the seconds that each image takes in the first epoch, and in the second, when it is kept."""
    items = TrainingSamples(dataset, parse_config({"data": {"root": dataset.root, "longest_px": longest_px}}))
    spent = []
    for n in range(2 * len(items.stems)):
        began = time.perf_counter()
        items[n]
        spent.append(time.perf_counter() - began)
    return [spent[: len(items.stems)], spent[len(items.stems) :]]


def run(
    *, rounds: int = 3, workers: int = 2, size: int = 512, batch: int = 8, batches: int = 30, quick: bool = False
) -> dict[str, Any]:
    """Return the loader's speed when nobody holds it up, and the share of the time that the network waits."""
    number, height, width = (3, 48, 64) if quick else (24, 720, 960)
    photographs = {"number": 2, "height": 60, "width": 80} if quick else {"number": 6, "height": 3000, "width": 4000}
    longest_px = 64 if quick else 1024
    with tempfile.TemporaryDirectory() as folder:
        dataset = open_dataset(make_dataset(Path(folder) / "data", number, height, width))
        files = [path.stat().st_size for path in (dataset.root / "images").iterdir()]
        sizes = {"size": size, "workers": workers, "batch": batch, "batches": batches}
        busy_s = batch / (RATE * workers)
        free, paced = [], []
        for _ in range(rounds):
            free.append(consume(dataset, **sizes, busy_s=0.0))
            paced.append(consume(dataset, **sizes, busy_s=busy_s))
        first, again = epochs(open_dataset(make_dataset(Path(folder) / "photographs", **photographs)), longest_px)
    return {
        "peers": {},
        "sizes": sizes | {"images": number, "height": height, "width": width},
        "bits_per_pixel": 8 * sum(files) / (number * height * width),
        "rate": RATE,
        "per_core": quartiles([each["per_core"] for each in free]),
        "waited": quartiles([each["waited"] for each in paced]),
        "first_s": quartiles([each["first_s"] for each in free + paced]),
        "photographs": photographs | {"longest_px": longest_px},
        "read_s": quartiles(first),
        "kept_s": quartiles(again),
    }


def targets(result: dict[str, Any]) -> list[Target]:
    """Return what was promised beside what a result says."""
    text = f"{_crops(result)}: share of its time that a network of {result['rate']:.0f} images/s a core waits"
    return [Target(text, 100 * result["waited"][1], 5, False, "%")]


def tables(result: dict[str, Any]) -> list[str]:
    """Return the page's lines."""
    sizes = result["sizes"]
    words = (
        f"{sizes['images']} JPEGs of {sizes['height']} × {sizes['width']}, {result['bits_per_pixel']:.1f} bits a pixel; "
        f"{sizes['batches']} batches of {sizes['batch']} a round."
    )
    rows = [
        ["images a second for each worker, nobody holding it up", page.spread(result["per_core"])],
        [
            f"% of its time that a network of {result['rate']:.0f} images/s a core waits",
            page.spread([100 * share for share in result["waited"]]),
        ],
        ["seconds to the first batch", page.spread(result["first_s"])],
    ]
    large = result["photographs"]
    again = [
        [name, page.spread([1e3 * value for value in result[key]])]
        for name, key in (("in the first epoch, read and shrunk", "read_s"), ("in the next, kept in memory", "kept_s"))
    ]
    photographs = f"{large['number']} photographs of {large['height']} × {large['width']}, shrunk to {large['longest_px']} px"
    header = [f"{photographs}; one process", "ms an image, median [quartiles]"]
    return [words, "", *page.table([_crops(result), "median [quartiles]"], rows), "", *page.table(header, again)]


def _crops(result: dict[str, Any]) -> str:
    return f"{result['sizes']['size']}² crops, {result['sizes']['workers']} workers"


if __name__ == "__main__":
    numbers = {"rounds": 3, "workers": 2, "size": 512, "batch": 8, "batches": 30}
    record.main("loading", run, numbers, RESULTS.parent)
