"""How many images a second ``scribbleseg check`` looks at, and how its memory grows with their number.

    python -m benchmarks.check_rate [--few 1000] [--many 10000] [--size 256] [--out FILE]

The data sets are made on the spot, in a folder that is removed: JPEGs with strokes and masks, no two alike. Each check runs in
a process of its own, with as many workers as there are cores. Where other programs run too, time by the clock says little:
the time that the processors spent on the check is written down beside it, and the machine's load.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.ops import page, record
from benchmarks.ops.measure import RESULTS, ROOT
from benchmarks.ops.record import Target
from scribbleseg.check.pool import default_jobs
from scribbleseg.check.run import check

CLASSES = 4

#: A file system takes so many names of one file (ext4: 65,000).
MAX_LINKS = 50_000

#: What is promised for.
IMAGES = 100_000


def make_dataset(root: Path, number: int, size: int) -> Path:
    """Write pictures whose light changes from place to place, each with a mask of bands and a stroke in every band.

    No two pictures are alike. Label files that are, are hard links: 200,000 files less to write, as many to read.
    """
    for folder in ("images", "scribbles", "masks"):
        (root / folder).mkdir(parents=True)
    mask = np.repeat(np.arange(CLASSES, dtype=np.uint8), -(-size // CLASSES))[None, :size].repeat(size, 0)
    for n in range(number):
        rng = np.random.default_rng(n)
        coarse = Image.fromarray(rng.integers(0, 255, (12, 12, 3), np.uint8))
        coarse.resize((size, size), Image.Resampling.BICUBIC).save(root / "images" / f"{n:06d}.jpg", quality=90)
        row = int(rng.integers(size // 4, size // 2))
        strokes = np.full_like(mask, 255)
        strokes[row : row + 3] = mask[row : row + 3]
        for folder, labels, kind in (("scribbles", strokes, row), ("masks", mask, 0)):
            first, target = root / f"{folder}-{kind}-{n // MAX_LINKS}.png", root / folder / f"{n:06d}.png"
            if not first.exists():
                Image.fromarray(labels).save(first)
            os.link(first, target)
    spec = {"name": "bands", "names": {k: f"class {k}" for k in range(CLASSES)}, "masks": "masks"}
    lists = {"train": range(number * 8 // 10), "val": range(number * 8 // 10, number)}
    for split, members in lists.items():
        (root / f"{split}.txt").write_text("".join(f"{n:06d}\n" for n in members), encoding="utf-8")
    tree = spec | {"splits": {split: f"{split}.txt" for split in lists}}
    (root / "dataset.yaml").write_text(json.dumps(tree), encoding="utf-8")  # which YAML can read, numbers as words
    return root


def measure(root: Path, quick: bool) -> dict[str, Any]:
    """Check a data set in this process and return what it took."""
    began, own = time.perf_counter(), time.process_time()
    found = check(root, quick=quick)
    seconds, own = time.perf_counter() - began, time.process_time() - own
    assert not found.findings, found.verdict.text
    workers = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy_s = own + workers.ru_utime + workers.ru_stime
    return {"seconds": seconds, "busy_s": busy_s, "peak_mib": _peak_mib(), "worker_mib": workers.ru_maxrss / 1024}


def _peak_mib() -> float:
    """Return the highest memory of this process; not what its parent had, which getrusage counts too."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 1024


def run(*, few: int = 1000, many: int = 10000, size: int = 256) -> dict[str, Any]:
    """Return the rate and the memory for two numbers of images, with and without decoding them."""
    load, rows = os.getloadavg()[0], []
    for number in (few, many):
        with tempfile.TemporaryDirectory() as folder:
            root = make_dataset(Path(folder) / "data", number, size)
            for quick in (False, True):
                words = [sys.executable, "-m", "benchmarks.check_rate", "--measure", str(root), "quick" if quick else "whole"]
                told = subprocess.run(words, capture_output=True, check=True, text=True, cwd=ROOT).stdout
                found = json.loads(told)
                rows.append({"images": number, "quick": quick, "rate": number / found["seconds"]} | found)
    return {"peers": {}, "size": size, "classes": CLASSES, "jobs": default_jobs(), "load_before": load, "rows": rows}


def targets(result: dict[str, Any]) -> list[Target]:
    """Return what was promised beside what a result says."""
    whole = [row for row in result["rows"] if not row["quick"]]
    few, many = whole[0], whole[-1]
    text = f"processor time for {IMAGES:,} images of {result['size']}², shared by {result['jobs']} cores"
    growth = IMAGES * (many["peak_mib"] - few["peak_mib"]) / max(many["images"] - few["images"], 1)
    return [
        Target(f"check: {text}", IMAGES * many["busy_s"] / many["images"] / result["jobs"] / 60, 10, False, "min"),
        Target(f"check: memory that {IMAGES:,} images add", growth, 200, False, "MiB"),
    ]


def tables(result: dict[str, Any]) -> list[str]:
    """Return the page's lines."""
    words = (
        f"JPEGs of {result['size']}² with {result['classes']} classes, {result['jobs']} processes; the machine's load before "
        f"was {page.number(result['load_before'])} (of {result['provenance']['machine']['cores']} cores)."
    )
    rows = [
        [
            f"{row['images']:,}",
            "headers and labels (`--quick`)" if row["quick"] else "everything",
            page.number(1000 * row["busy_s"] / row["images"]),
            page.number(row["seconds"]),
            page.number(row["rate"]),
            page.number(row["peak_mib"]),
            page.number(row["worker_mib"]),
        ]
        for row in result["rows"]
    ]
    head = [
        "images",
        "read",
        "processor time (ms an image)",
        "s by the clock",
        "images/s",
        "peak memory (MiB)",
        "of a worker (MiB)",
    ]
    return [words, "", *page.table(head, rows)]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(Path(sys.argv[2]), sys.argv[3] == "quick")))
    else:
        record.main("check_rate", run, {"few": 1000, "many": 10000, "size": 256}, RESULTS.parent)
