"""Memory and open files of a long training and of a long prediction: whether they grow with what has been done.

    python -m benchmarks.soundness run [--steps 10000] [--files 100000] [--only training prediction] [--out FILE]
    python -m benchmarks.soundness write [--out FILE]

Both are the commands that a user types, in processes of their own: ``scribbleseg train`` of a tiny network on crops of 32 px
with every loss of the default method, validations and checkpoints, and ``scribbleseg predict`` of tiny pictures. While one
runs, its resident memory and its open files are read every ``--every`` seconds, beside how far it is. What counts is the second
half: the first fills caches that have a size. ``write`` puts the table into docs/reference/faults.md.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from benchmarks.ops import page
from benchmarks.ops.measure import RESULTS, ROOT
from benchmarks.ops.record import Target
from scribbleseg.atomic import write_text
from scribbleseg.config import dump_config, parse_config
from scribbleseg.predict.manifest import NAME
from scribbleseg.provenance import provenance
from tests.fake.datasets import make_dataset
from tests.fake.models import make_model
from tests.training.test_run import SMALL

RESULT = RESULTS.parent / "soundness.json"
PAGE = ROOT / "docs" / "reference" / "faults.md"

#: A second half that adds less than this share of the memory counts as flat.
FLAT = 0.02

#: Points of a curve that are kept.
POINTS = 200


def train_command(root: Path, steps: int) -> tuple[list[str], Callable[[], int]]:
    """Return the command, and what tells the steps that are done."""
    data = {**SMALL["data"], "root": str(make_dataset(root / "data", num_images=8))}
    training = {**SMALL["training"], "max_steps": steps, "val_every": max(1, steps // 20), "threads": 1}
    write_text(root / "run.yaml", dump_config(parse_config({**SMALL, "data": data, "training": training})))

    def done() -> int:
        try:
            rows = list(csv.DictReader(_tail(root / "run" / "metrics.csv")))
        except OSError:
            return 0
        steps = [row["step"] for row in rows if (row.get("step") or "").isdecimal()]
        return int(steps[-1]) + 1 if steps else 0

    return ["train", "--config", str(root / "run.yaml"), "--out", str(root / "run")], done


def _tail(path: Path) -> list[str]:
    """Return the heading and the last whole lines of a file."""
    with path.open(encoding="utf-8") as file:
        head = file.readline()
        file.seek(max(len(head), path.stat().st_size - 2000))
        return [head, *file.read().splitlines()[1:-1]]


def predict_command(root: Path, files: int) -> tuple[list[str], Callable[[], int]]:
    """Return the command, and what tells the files that are done."""
    make_model(root / "model", window_px=32)
    (root / "images").mkdir()
    rng = np.random.default_rng(0)
    for n in range(files):
        side = 32 if n % 100 else 24  # another size now and then, as folders have it
        Image.fromarray(rng.integers(0, 256, (side, 32, 3), np.uint8)).save(root / "images" / f"{n:07d}.png", compress_level=1)
    read = [0, -1]  # bytes, and lines but for the first

    def done() -> int:
        try:
            with (root / "out" / NAME).open("rb") as file:
                file.seek(read[0])
                new = file.read()
        except OSError:
            return 0
        read[0] += len(new)
        read[1] += new.count(b"\n")
        return max(0, read[1])

    words = ["--model", str(root / "model"), "--input", str(root / "images"), "--out", str(root / "out")]
    return ["predict", *words, "--outputs", "mask", "--device", "cpu"], done


COMMANDS = {"training": (train_command, "steps"), "prediction": (predict_command, "files")}


def watched(what: str, number: int, every: float) -> dict[str, Any]:
    """Run a command to its end, and return how its memory and its open files went."""
    make, unit = COMMANDS[what]
    with tempfile.TemporaryDirectory() as folder:
        command, done = make(Path(folder), number)
        environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        began = time.monotonic()
        words = [sys.executable, "-m", "scribbleseg", *command]
        running = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        process, points = psutil.Process(running.pid), []
        while running.poll() is None:
            time.sleep(every)
            try:
                points.append([done(), process.memory_info().rss / 2**20, process.num_fds()])
            except psutil.Error:
                break
        said = running.communicate()[1].decode(errors="replace")
        if running.returncode:
            raise RuntimeError(f"{what} ended with {running.returncode}: {said[-2000:]}")
        seconds = time.monotonic() - began
    points = [point for point in points if 0 < point[0] < number]
    return {
        "unit": unit,
        "number": number,
        "seconds": seconds,
        **growth(points),
        "points": points[:: len(points) // POINTS + 1],
    }


def growth(points: list[list[float]]) -> dict[str, Any]:
    """Return the median of memory and open files in the third and in the last quarter of what was done."""
    last = points[-1][0]
    found: dict[str, Any] = {}
    for column, name in ((1, "mib"), (2, "handles")):
        quarters = [[p[column] for p in points if low < p[0] / last <= low + 0.25] for low in (0.5, 0.75)]
        found[name] = [statistics.median(quarter) for quarter in quarters]
        found[f"most_{name}"] = max(p[column] for p in points)
    return found


def run(steps: int, files: int, every: float, only: list[str]) -> dict[str, Any]:
    """Return what was measured of each."""
    numbers = {"training": steps, "prediction": files}
    return {what: {"provenance": provenance()} | watched(what, numbers[what], every) for what in only}


def targets(result: dict[str, Any]) -> list[Target]:
    """Return what was hoped for beside what a result says."""
    found = []
    for what in COMMANDS:
        if what in result:
            (before, after), (few, many) = result[what]["mib"], result[what]["handles"]
            grown = 100 * (after / before - 1)
            found.append(Target(f"{what}: memory, last quarter against the third", grown, 100 * FLAT, at_least=False, unit="%"))
            found.append(Target(f"{what}: open files, the same", many - few, 0, at_least=False, unit=""))
    return found


def lines(result: dict[str, Any]) -> list[str]:
    """Return the page's lines."""
    rows = []
    for what in COMMANDS:
        if what in result:
            one = result[what]
            spent = f"{one['seconds'] / 60:.1f} min"
            memory = [f"{mib:.1f}" for mib in (*one["mib"], one["most_mib"])]
            handles = [f"{number:.0f}" for number in (*one["handles"], one["most_handles"])]
            rows.append(
                [
                    f"{what}, {one['number']:,} {one['unit']}, {spent}",
                    " → ".join(memory[:2]),
                    memory[2],
                    " → ".join(handles[:2]),
                    handles[2],
                ]
            )
    grown, made = [], []
    for what in COMMANDS:
        if what in result:
            before, after = result[what]["mib"]
            each = max(0.0, (after - before) * 2**20 / (result[what]["number"] / 4))
            origin = result[what]["provenance"]
            made.append(f"{what}: {origin['machine']['processor']}, commit {origin['commit']}, {origin['date'][:10]}")
            grown.append(f"{what} {each:.0f} bytes for each of its {result[what]['unit']}")
    words = f"In the second half memory grew by: {'; '.join(grown)}. A prediction keeps a line for every file that is done."
    heads = ["", "MiB resident: third → last quarter", "most", "open files: third → last quarter", "most"]
    verdicts = page.targets_table(targets(result))
    return [
        *page.table(heads, rows),
        "",
        words,
        "",
        *verdicts,
        "",
        f"One thread beside other work; {'; '.join(made)}; `python -m benchmarks.soundness run`.",
    ]


def main() -> None:
    """Parse, run, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "write"])
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--every", type=float, default=0.5)
    parser.add_argument("--only", nargs="+", choices=list(COMMANDS), default=list(COMMANDS))
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    if given.what == "run":
        kept = json.loads(given.out.read_text(encoding="utf-8")) if given.out.is_file() else {}
        result = kept | run(given.steps, given.files, given.every, given.only)
        write_text(given.out, json.dumps(result) + "\n")
        print("\n".join(lines(result)))
    else:
        result = json.loads(given.out.read_text(encoding="utf-8"))
        write_text(PAGE, page.put(PAGE.read_text(encoding="utf-8"), "soundness", lines(result)))


if __name__ == "__main__":
    main()
