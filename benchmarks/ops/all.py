"""All benchmarks of the ops and of a training run, and the page made from them.

    python -m benchmarks.ops.all run [--peers-dir PEERS_DIR] [--threads 2] [--only windowed dense …]
    python -m benchmarks.ops.all write

``run`` measures each in a process of its own and writes one JSON file each, of an op to benchmarks/results/ops/, of a training
run to benchmarks/results/; ``write`` makes the tables and pictures of docs/performance.md from those files.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.ops import page
from benchmarks.ops.measure import RESULTS, ROOT
from benchmarks.ops.record import Target

#: The ops, and the title of each one's picture.
OPS = {
    "windowed": "Windowed energy",
    "dense": "Fully connected Gaussian",
    "tree": "Tree filter",
}
AGREE = "agree"

#: What is measured of a training run, of what comes before it and of prediction; each has a module of this name in benchmarks/.
TRAINING = ("step", "loading", "start", "check_rate", "streaming", "predict_rate", "large_picture")

EVERYTHING = (*OPS, AGREE, *TRAINING)

SHORT = "short"

#: Parts of the page that have tables alone.
OTHERS = {"windowed_gpu": page.gpu, AGREE: page.agreement}


def run(arguments: argparse.Namespace) -> None:
    """Measure."""
    peers = ["--peers-dir", str(arguments.peers_dir.resolve())] if arguments.peers_dir else []
    threads = ["--threads", str(arguments.threads)]
    options = [*threads, "--rounds", str(arguments.rounds), "--seconds", str(arguments.seconds)]
    others: dict[str, list[str]] = {
        "step": threads,
        "loading": [],
        "start": [],
        "check_rate": [],
        "streaming": [],
        "predict_rate": [],
        "large_picture": [],
    }  # their rounds are few or many of their own
    environment = os.environ | {"OMP_NUM_THREADS": str(arguments.threads), "MKL_NUM_THREADS": str(arguments.threads)}
    failed = []
    for name in arguments.only:
        module = f"benchmarks.{name}" if name in TRAINING else f"benchmarks.ops.{name}"
        words = [sys.executable, "-m", module, *peers, *others.get(name, options)]
        if subprocess.run(words, cwd=ROOT, env=environment, check=False).returncode:
            failed.append(name)
    if failed:
        sys.exit(f"not measured, see above: {', '.join(failed)}")


def parts(results: Path = RESULTS.parent, images: Path = page.IMAGES) -> dict[str, list[str]]:
    """Draw the pictures and return the text of each part of the page."""
    found: dict[str, list[str]] = {}
    promised: list[Target] = []
    for op, title in OPS.items():
        result = page.read(op, results / RESULTS.name)
        if result is None:
            found[op] = [f"Not measured yet: `python -m benchmarks.ops.{op}`."]
            continue
        picture = images / f"{op}-scaling.svg"
        page.draw(result, title, picture)
        module = importlib.import_module(f"benchmarks.ops.{op}")
        targets = module.targets(result)
        promised += targets
        more = module.extra_tables(result) if hasattr(module, "extra_tables") else []
        found[op] = [
            page.origin(result),
            "",
            page.checked(result),
            "",
            *page.rows_table(result),
            "",
            *(line for headings, cells in more for line in (*page.table(headings, cells), "")),
            *page.targets_table(targets),
            "",
            f"![{title}: time against each size, logarithmic](images/{picture.name})",
        ]
    for name, tables in OTHERS.items():
        result = page.read(name, results / RESULTS.name)
        promised += page.gpu_targets(result) if result and name == "windowed_gpu" else []
        found[name] = tables(result) if result else [f"Not measured yet: `python -m benchmarks.ops.{name}`."]
    for name in TRAINING:
        result = page.read(name, results)
        if result is None:
            found[name] = [f"Not measured yet: `python -m benchmarks.{name}`."]
            continue
        module = importlib.import_module(f"benchmarks.{name}")
        targets = module.targets(result)
        promised += targets
        found[name] = [page.origin(result), "", *module.tables(result), "", *page.targets_table(targets)]
    found[SHORT] = page.short(promised)
    return found


def write(_: argparse.Namespace) -> None:
    """Put tables and pictures into the page."""
    page.write(parts())
    print(page.PAGE)


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    runner = verbs.add_parser("run")
    runner.add_argument("--peers-dir", type=Path, help="folder of the peers' clones; also PEERS_DIR")
    runner.add_argument("--threads", type=int, default=2)
    runner.add_argument("--rounds", type=int, default=5, help="of an op")
    runner.add_argument("--seconds", type=float, default=0.15, help="shortest time of a side in a round")
    runner.add_argument("--only", nargs="+", choices=EVERYTHING, default=EVERYTHING)
    runner.set_defaults(verb=run)
    verbs.add_parser("write").set_defaults(verb=write)
    arguments = parser.parse_args()
    arguments.verb(arguments)


if __name__ == "__main__":
    main()
