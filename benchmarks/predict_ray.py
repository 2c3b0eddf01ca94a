"""What Ray costs a core, what a second worker brings, and what 10⁴, 10⁶ and 10⁸ images come to.

    python -m benchmarks.predict_ray run [--images 600] [--size 256] [--window 256] [--rounds 3] [--out FILE]
    python -m benchmarks.predict_ray write

Sides: the plain loop that reads, predicts and writes one image after the other, on one core; ``--engine ray`` with one worker,
driver and Ray's own processes on that same core; and with two workers on two cores. Each is a process of its own, and they
take turns. Rates are of the time after every worker has finished its first block, processor seconds are of all processes of
a side in that time: a machine that is busy with other work says little of the former and more of the latter. The command
fails if masks differ from the plain loop's.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.ops.page import number, put, spread, table
from benchmarks.predict_rate import compare, make
from scribbleseg.atomic import write_text
from scribbleseg.environment import environment_with
from scribbleseg.provenance import provenance

ROOT = Path(__file__).parents[1]
RESULT, PAGE = ROOT / "benchmarks" / "results" / "predict_ray.json", ROOT / "docs" / "how-to" / "predict-many.md"

PLAIN, ONE, TWO = "plain loop, 1 core", "Ray, 1 worker on 1 core", "Ray, 2 workers on 2 cores"
CORES = {PLAIN: 1, ONE: 1, TWO: 2}

BLOCK = 16

SIZES = (10**4, 10**6, 10**8)

#: Requests to an object store for each block, beside one to read an image and one for each output: see worker.py and ledger.py.
REQUESTS = 8


def cpu_seconds() -> float:
    """Return the processor time of this process and all below it."""
    import psutil

    total = 0.0
    me = psutil.Process()
    for process in [me, *me.children(recursive=True)]:
        try:
            told = process.cpu_times()
        except psutil.Error:  # it has just ended
            continue
        total += told.user + told.system
    return total


def plain(root: Path, out: Path) -> dict[str, float]:
    """Do one image after the other."""
    from scribbleseg.data.images import read_rgb, write_png
    from scribbleseg.models.folder import load_model
    from scribbleseg.palette import blend
    from scribbleseg.predict import list_images, predict_mask

    model, paths = load_model(root / "model"), list_images(root / "images")
    began = used = 0.0
    for n, path in enumerate(paths):
        if n == BLOCK:
            began, used = time.time(), cpu_seconds()
        rgb = read_rgb(path)
        mask = predict_mask(model, rgb)
        write_png(out / f"{path.stem}.png", mask)
        write_png(out / "overlays" / f"{path.stem}.png", blend(rgb, mask))
    images = len(paths) - BLOCK
    return {"images": images, "seconds": time.time() - began, "cpu_seconds": cpu_seconds() - used}


def on_ray(root: Path, out: Path, workers: int) -> dict[str, float]:
    """Do it as the command does."""
    from scribbleseg.distributed import Resources, predict_many

    started = {"num_cpus": workers, "object_store_memory": 2**28}
    resources = Resources(workers=workers, block=BLOCK, started=started)
    before = time.time()
    seen: set[str] = set()
    first: dict[str, float] = {}
    last, used = 0.0, 0.0
    for now in predict_many(root / "model", str(root / "images"), str(out), device="cpu", resources=resources):
        if now.worker:
            seen.add(now.worker)
            if len(seen) == workers and not first:
                first, used = {"at": now.at_s, "done": now.done, "ready": time.time() - before}, cpu_seconds()
            last = max(last, now.at_s)
            spent = cpu_seconds()
    assert now.failed == 0
    told = {"images": now.done - first["done"], "seconds": last - first["at"], "cpu_seconds": spent - used}
    return told | {"first_block_s": first["ready"]}


def side(name: str, root: Path, out: Path) -> dict[str, Any]:
    """Run a side in a process of its own, on as many cores as it is allowed."""
    words = [sys.executable, "-m", "benchmarks.predict_ray", "side", "--side", name, "--root", str(root), "--out", str(out)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env=environment_with(OMP_NUM_THREADS="1"))
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1])


def this_side(name: str, root: Path, out: Path) -> dict[str, float]:
    """Keep to the cores of a side, and run it here."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: CORES[name]])
    import torch

    torch.set_num_threads(1)
    return plain(root, out) if name == PLAIN else on_ray(root, out, CORES[name])


def run(images: int, size: int, window: int, rounds: int) -> dict[str, Any]:
    """Return what every side did in every round."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in CORES}
    load, different = os.getloadavg()[0], 0.0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make(root, images, size, window)
        for turn in range(rounds):
            for name in list(CORES) if turn % 2 == 0 else list(CORES)[::-1]:
                found[name].append(side(name, root, root / f"{turn}-{CORES[name]}-{name == PLAIN}"))
            for name in (ONE, TWO):
                different = max(different, compare(root / f"{turn}-1-True", root / f"{turn}-{CORES[name]}-False"))
        masks = root / "0-1-False"
        ledger = [p for p in (masks / "predictions").rglob("*") if p.is_file()]
        of_image = sum(p.stat().st_size for p in masks.glob("*.png")) / images
        of_ledger = sum(p.stat().st_size for p in ledger) / images
    return {
        "images": images,
        "size": size,
        "window": window,
        "block": BLOCK,
        "sides": found,
        "different": different,
        "mask_bytes": of_image,
        "ledger_bytes": of_ledger,
        "load_before": load,
        "load_after": os.getloadavg()[0],
        "provenance": provenance(),
    }


def rates(result: dict[str, Any], name: str) -> list[float]:
    """Return images a second, round by round."""
    return [r["images"] / r["seconds"] for r in result["sides"][name]]


def per_cpu(result: dict[str, Any], name: str) -> list[float]:
    """Return images a second of processor time, round by round."""
    return [r["images"] / r["cpu_seconds"] for r in result["sides"][name]]


def _ratios(one: list[float], other: list[float]) -> list[float]:
    return [a / b for a, b in zip(one, other, strict=True)]


def _three(values: list[float]) -> tuple[float, float, float]:
    return min(values), statistics.median(values), max(values)


def speed(result: dict[str, Any]) -> list[str]:
    """Return the page's lines about rates."""
    rows = []
    for name in CORES:
        first = [r["first_block_s"] for r in result["sides"][name] if "first_block_s" in r]
        rows.append(
            [
                name,
                spread(_three(rates(result, name))),
                spread(_three(per_cpu(result, name))),
                spread(_three(first)) if first else "–",
            ]
        )
    made = result["provenance"]
    machine = made["machine"]
    wall, cpu = _ratios(rates(result, ONE), rates(result, PLAIN)), _ratios(per_cpu(result, ONE), per_cpu(result, PLAIN))
    two = _ratios(rates(result, TWO), rates(result, ONE))
    both = _ratios(per_cpu(result, TWO), per_cpu(result, PLAIN))
    ratio_rows = [
        ["one core: Ray ÷ plain loop, images a second", "≥ 0.9", spread(_three(wall))],
        ["one core: Ray ÷ plain loop, images a second of processor time", "≥ 0.9", spread(_three(cpu))],
        ["two cores: Ray ÷ plain loop, images a second of processor time", "≥ 0.9", spread(_three(both))],
        ["1 → 2 workers, images a second", "–", spread(_three(two))],
    ]
    words = (
        f"{result['images']} JPEGs of {result['size']}², windows of {result['window']}, blocks of {result['block']}; median "
        f"[lowest, highest] of {len(wall)} rounds. {machine['processor']}, {machine['cores']} cores; load "
        f"{number(result['load_before'])} before, {number(result['load_after'])} after; commit {made['commit']}. "
        f"Pixels of another class than in this loop's masks, which shares no batches: {result['different']:.1e}; than in "
        "those of `scribbleseg predict`, which does: none (a test)."
    )
    heads = ["", "images/s", "images/s of processor time", "first block of all workers after, s"]
    return [*table(heads, rows), "", *table(["", "bound", "measured"], ratio_rows), "", words]


def cost(result: dict[str, Any]) -> list[str]:
    """Return the page's lines about 10⁴, 10⁶ and 10⁸ images."""
    rate = statistics.median(per_cpu(result, TWO))
    block = 64
    rows = []
    for images in SIZES:
        blocks = -(-images // block)
        core_hours = images / rate / 3600
        rows.append(
            [
                f"10{str(len(str(images)) - 1).translate(str.maketrans('0123456789', '⁰¹²³⁴⁵⁶⁷⁸⁹'))}",
                f"{blocks:,}",
                f"{images * 2:,}",
                f"{3 * images + REQUESTS * blocks:,}",
                f"{(images * result['mask_bytes'] + images * result['ledger_bytes']) / 1e9:,.2f}",
                number(core_hours),
                number(core_hours / 64),
                f"{number(core_hours)} × p",
                f"{number(images / 3600)} ÷ g",
            ]
        )
    heads = [
        "images",
        "blocks of 64",
        "masks and overlays",
        "requests",
        "masks and ledger, GB",
        "core-hours",
        "hours on 64 cores",
        "money at p a core-hour",
        "GPU-hours at g images/s",
    ]
    words = (
        f"r = {number(rate)} images a second of processor time (median of two workers' rounds): a small U-Net, images of "
        f"{result['size']}². Bytes an image: mask {number(result['mask_bytes'])}, ledger {number(result['ledger_bytes'])}."
    )
    return [*table(heads, rows), "", words]


def main() -> None:
    """Run, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "write", "side"])
    for name, default in {"images": 600, "size": 256, "window": 256, "rounds": 3}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--side", choices=list(CORES), help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    if args.what == "side":
        print(json.dumps(this_side(args.side, args.root, args.out)))
        return
    if args.what == "run":
        result = run(args.images, args.size, args.window, args.rounds)
        write_text(args.out, json.dumps(result, indent=1) + "\n")
        print("\n".join(speed(result)))
        return
    result = json.loads(args.out.read_text(encoding="utf-8"))
    text = PAGE.read_text(encoding="utf-8")
    for name, lines in {"ray speed": speed(result), "ray cost": cost(result)}.items():
        text = put(text, name, lines)
    write_text(PAGE, text)


if __name__ == "__main__":
    main()
