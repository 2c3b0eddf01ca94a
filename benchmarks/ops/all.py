"""All benchmarks of the ops, and the page made from them.

    python -m benchmarks.ops.all run [--peers-dir PEERS_DIR] [--threads 2] [--only windowed dense tree agree]
    python -m benchmarks.ops.all write

``run`` measures each op in a process of its own and writes one JSON file an op to benchmarks/results/ops/; ``write`` makes
the tables and pictures of docs/performance.md from those files.
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

SHORT = "short"

#: Parts of the page that have tables alone.
OTHERS = {"windowed_gpu": page.gpu, AGREE: page.agreement}


def run(arguments: argparse.Namespace) -> None:
    """Measure."""
    options = ["--threads", str(arguments.threads), "--rounds", str(arguments.rounds), "--seconds", str(arguments.seconds)]
    if arguments.peers_dir:
        options += ["--peers-dir", str(arguments.peers_dir.resolve())]
    environment = os.environ | {"OMP_NUM_THREADS": str(arguments.threads), "MKL_NUM_THREADS": str(arguments.threads)}
    failed = []
    for name in arguments.only:
        words = [sys.executable, "-m", f"benchmarks.ops.{name}", *options]
        if subprocess.run(words, cwd=ROOT, env=environment, check=False).returncode:
            failed.append(name)
    if failed:
        sys.exit(f"not measured, see above: {', '.join(failed)}")


def parts(results: Path = RESULTS, images: Path = page.IMAGES) -> dict[str, list[str]]:
    """Draw the pictures and return the text of each part of the page."""
    found: dict[str, list[str]] = {}
    promised: list[Target] = []
    for op, title in OPS.items():
        result = page.read(op, results)
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
        result = page.read(name, results)
        promised += page.gpu_targets(result) if result and name == "windowed_gpu" else []
        found[name] = tables(result) if result else [f"Not measured yet: `python -m benchmarks.ops.{name}`."]
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
    runner.add_argument("--rounds", type=int, default=5)
    runner.add_argument("--seconds", type=float, default=0.15, help="shortest time of a side in a round")
    runner.add_argument("--only", nargs="+", choices=[*OPS, AGREE], default=[*OPS, AGREE])
    runner.set_defaults(verb=run)
    verbs.add_parser("write").set_defaults(verb=write)
    arguments = parser.parse_args()
    arguments.verb(arguments)


if __name__ == "__main__":
    main()
