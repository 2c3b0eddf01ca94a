"""Images a second from a plain folder and from shards, beside loaders with torchvision's and albumentations' transforms.

    python -m benchmarks.streaming [--photos DATASET] [--small 20000] [--peer_python PYTHON] [--rounds 2] [--seconds 3]

Two data sets: many small JPEGs made on the spot, in a folder that is removed, and with ``--photos`` one that is at hand. Each
side is a process of its own, which measures with 0, 1 and 2 workers. In a round all sides take turns; ratios are taken within
rounds. ``--peer_python`` names the interpreter of an environment with torchvision and albumentations, which this package does
not want in its own:

    python -m venv PEERS && PEERS/bin/pip install torch==2.13.0 torchvision==0.28.0 albumentations
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from benchmarks.check_rate import make_dataset
from benchmarks.ops import page, record
from benchmarks.ops.measure import RESULTS, ROOT, quartiles
from benchmarks.ops.record import Target
from benchmarks.streaming_peers import SIDES, cold_and_warm
from scribbleseg.config import DataConfig, parse_config
from scribbleseg.data.folder import open_dataset
from scribbleseg.data.loader import training_loader
from scribbleseg.data.shards.pack import shard_dataset

BATCH = 8

OURS = ("folder", "shards")

NAMES = {
    "folder": "ours, plain folder",
    "shards": "ours, shards",
    "torchvision": "torchvision, plain folder",
    "albumentations": "albumentations, plain folder",
}


def measure_ours(told: dict[str, Any]) -> dict[str, Any]:
    """Time our own loader in this process."""
    torch.set_num_threads(1)
    dataset = open_dataset(told["root"])
    training = {"max_steps": told["images"] // BATCH, "batch_size": BATCH}
    if dataset.shards is not None:
        files = [str(path) for path in dataset.shards.paths]
    else:
        stems = dataset.stems("train")
        folders = dataset.folder("images"), dataset.folder("scribbles")
        files = [str(dataset.listing.find(folder, stem).path) for folder in folders for stem in stems]

    def make(workers: int) -> Iterable[Any]:
        data = {"root": told["root"], "crop_px": told["crop"], "num_workers": workers, "cache_mib": 0}
        return training_loader(dataset, parse_config({"data": data, "training": training}), lambda: 0)

    return {"times": cold_and_warm(make, files, told)}


def in_a_process(told: dict[str, Any], peer_python: str) -> dict[str, Any]:
    """Time a side in a new process."""
    own = [sys.executable, "-m", "benchmarks.streaming", "--measure"]
    words = own if told["side"] in OURS else [peer_python, str(ROOT / "benchmarks" / "streaming_peers.py")]
    environment = os.environ | {"NO_ALBUMENTATIONS_UPDATE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*words, json.dumps(told)], capture_output=True, check=False, text=True, cwd=ROOT, env=environment)
    if done.returncode:
        raise RuntimeError(f"{told['side']}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(
    plain: Path, shards: Path, scratch: Path, *, crop: int, workers: list[int], rounds: int, seconds: float, peer_python: str
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return a row for each number of workers, and the peers' versions."""
    dataset = open_dataset(plain)
    stems = dataset.stems("train")
    pairs = [[str(dataset.listing.find(dataset.folder(k), s).path) for k in ("images", "scribbles")] for s in stems]
    (scratch / "files.json").write_text(json.dumps(pairs), encoding="utf-8")
    defaults = DataConfig()
    told = {"crop": crop, "batch": BATCH, "scale": defaults.scale, "colour": defaults.colour, "images": len(stems)}
    told |= {"files": str(scratch / "files.json"), "seconds": seconds, "most": len(stems)}
    sides = (*OURS, *SIDES) if peer_python else OURS
    times: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    versions: dict[str, str] = {}
    for turn in range(rounds):
        for side in sides if turn % 2 == 0 else sides[::-1]:
            root = str(shards if side == "shards" else plain)
            found = in_a_process(told | {"side": side, "root": root, "workers": workers}, peer_python)
            times[side].append(found["times"])
            versions |= found.get("versions", {})
    rows = []
    for number in workers:
        here = {side: [each[str(number)] for each in found] for side, found in times.items()}
        rows.append({"workers": number, "sides": {side: _numbers(each, here["folder"]) for side, each in here.items()}})
    return rows, versions


def _numbers(times: list[dict[str, Any]], folder: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for state in ("cold", "warm"):
        rates = [each[state]["rate"] for each in times]
        ratios = [rate / other[state]["rate"] for rate, other in zip(rates, folder, strict=True)]
        found[state] = {
            "rate": quartiles(rates) if len(rates) > 1 else rates * 3,
            "to_folder": statistics.median(ratios),
            "cpu_ms": statistics.median(each[state]["cpu_ms"] for each in times),
            "first_s": statistics.median(each[state]["first_s"] for each in times),
            "images": min(each[state]["images"] for each in times),
        }
    return found


def run(
    *, photos: str = "", small: int = 20000, size: int = 128, peer_python: str = "", rounds: int = 2, seconds: float = 3.0
) -> dict[str, Any]:
    """Return the rates of all sides on both data sets, with 0, 1 and 2 workers."""
    load, sets, versions = os.getloadavg()[0], [], {}
    how: dict[str, Any] = {"rounds": rounds, "seconds": seconds, "peer_python": peer_python}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        plain = make_dataset(scratch / "small", small, size)
        todo = [("small JPEGs, made on the spot", plain, size * 3 // 4 // 32 * 32 or 32)]
        todo += [(Path(photos).resolve().name, Path(photos).resolve(), 256)] if photos else []
        for n, (name, plain, crop) in enumerate(todo):
            packed = shard_dataset(plain, scratch / f"shards{n}", size_mb=100)
            rows, found = compare(plain, scratch / f"shards{n}", scratch, crop=crop, workers=[0, 1, 2], **how)
            versions |= found
            about = {"images": packed.images, "files": packed.files, "shards": packed.shards, "mb": packed.bytes / 1e6}
            sets.append({"name": name, "crop": crop, "rows": rows} | about)
    peers = {name: versions.get(name) for name in SIDES}
    return {
        "peers": {},
        "peer_versions": versions,
        "left_out": [] if peer_python else [f"{name}: no --peer_python was given" for name in peers],
        "size": size,
        "batch": BATCH,
        "rounds": rounds,
        "load_before": load,
        "load_after": os.getloadavg()[0],
        "sets": sets,
    }


def targets(result: dict[str, Any]) -> list[Target]:
    """Return what was hoped for beside what a result says."""
    found = []
    for each in result["sets"]:
        last = each["rows"][-1]
        where = f"{each['name']}, {last['workers']} workers, warm"
        found.append(Target(f"{where}: shards against the folder", last["sides"]["shards"]["warm"]["to_folder"], 0.9))
        for name in SIDES:
            if name in last["sides"]:
                against = 1 / last["sides"][name]["warm"]["to_folder"]
                found.append(Target(f"{where}: our loader against {name}'s", against, 1.0))
    return found


def tables(result: dict[str, Any]) -> list[str]:
    """Return the page's lines."""
    versions = ", ".join(f"{name} {version}" for name, version in sorted(result["peer_versions"].items()))
    lines = [
        f"Batches of {result['batch']}, {result['rounds']} rounds. The machine was busy with other work: its load was "
        f"{page.number(result['load_before'])} before and {page.number(result['load_after'])} after "
        f"(of {result['provenance']['machine']['cores']} cores); compare within a table.",
        "",
    ]
    lines += [f"The peers' environment: {versions}.", ""] if versions else []
    lines += [f"Left out: {'; '.join(result['left_out'])}.", ""] if result["left_out"] else []
    head = [
        "workers",
        "loader",
        "images/s, warm",
        "× the folder",
        "images/s, cold",
        "× the folder",
        "processor ms an image, warm",
    ]
    for each in result["sets"]:
        cells = []
        for row in each["rows"]:
            for n, (side, found) in enumerate(row["sides"].items()):
                warm, cold = found["warm"], found["cold"]
                busy = page.number(warm["cpu_ms"]) if row["workers"] == 0 else "–"
                ratios = [page.number(state["to_folder"]) if n else "1" for state in (warm, cold)]
                first = str(row["workers"]) if n == 0 else ""
                cells.append(
                    [first, NAMES[side], page.spread(warm["rate"]), ratios[0], page.spread(cold["rate"]), ratios[1], busy]
                )
        lines += [
            f"{each['name']}: {each['images']:,} images ({each['files']:,} files; {each['shards']} shards, "
            f"{page.number(each['mb'])} MB), crops of {each['crop']}²",
            "",
            *page.table(head, cells),
            "",
        ]
    return lines[:-1]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure_ours(json.loads(sys.argv[2]))))
    else:
        defaults = {"photos": "", "small": 20000, "size": 128, "peer_python": "", "rounds": 2, "seconds": 3.0}
        record.main("streaming", run, defaults, RESULTS.parent)
