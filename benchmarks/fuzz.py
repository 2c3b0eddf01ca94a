"""Faulty inputs thrown at every door through which bytes of strangers come in: how many, and what became of them.

    python -m benchmarks.fuzz run [--guided] [--inputs 20000] [--seed 1] [--door NAME ...]
    python -m benchmarks.fuzz write

Each door (tests/fuzz/doors.py) has a process of its own with bounded memory and time. An input is taken, or refused with one
of our errors; anything else is a fault, and so are 20 seconds and a process that dies. ``run`` ends with exit code 1 if there
is one, and its inputs stand in the JSON file. ``write`` puts the tables into SECURITY.md.

Inputs are sound files with faults; with ``--guided`` they are atheris' (``pip install atheris``), which goes on from those that
reached lines that none before had reached.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.ops.page import table, write
from scribbleseg.atomic import write_text
from scribbleseg.provenance import provenance
from tests.fuzz.doors import DOORS

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "fuzz.json"
PAGE = ROOT / "SECURITY.md"

#: What throws them, and the words that do it.
KINDS = {"storm": "`python -m benchmarks.fuzz run`", "guided": "`… run --guided`"}


def run(doors: list[str], inputs: int, seed: int, kind: str) -> int:
    """Throw inputs at doors, one after the other; return the number of faults."""
    results = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {}
    known = results.get(kind, {}).get("doors", {})
    for name in doors:
        with tempfile.TemporaryDirectory() as folder:
            known[name] = found = one(name, inputs, seed, Path(folder), kind)
        counts = ", ".join(f"{found[key]} {key}" for key in ("inputs", "taken", "refused"))
        print(f"{name}: {counts}, {len(found['faults'])} faults")
        for fault in found["faults"][:5]:
            print(f"  {fault['error'][:160]} at {fault.get('at')}")
        doors_now = {name: known[name] for name in DOORS if name in known}
        results[kind] = {"seed": seed, "provenance": provenance(), "doors": doors_now}
        write_text(RESULT, json.dumps(results, indent=1) + "\n")
    return sum(len(known[name]["faults"]) for name in doors)


def one(door: str, inputs: int, seed: int, folder: Path, kind: str) -> dict[str, Any]:
    """Throw inputs at a door from a process of its own; one that dies is a fault."""
    words = ["-m", f"tests.fuzz.{kind}", door, "--inputs", str(inputs), "--seed", str(seed), "--found", str(folder)]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
    result = folder / "result.json"
    if done.returncode == 0 and result.is_file():
        found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        return found
    last = "".join(path.read_bytes().hex()[:4000] for path in folder.glob("last.bin"))
    why = f"exit code {done.returncode}: {done.stderr[-500:]}"
    return {"inputs": 1, "taken": 0, "refused": 0, "seconds": 0.0, "faults": [{"error": why, "input": last}]}


def page() -> list[str]:
    """Return the table with where it comes from."""
    results = json.loads(RESULT.read_text(encoding="utf-8"))
    counted = ("inputs", "taken", "refused")
    rows = []
    for name in DOORS:
        of_kinds = [results[kind]["doors"].get(name) for kind in KINDS if kind in results]
        cells = [[*(f"{f[key]:,}" for key in counted), str(len(f["faults"]))] if f else ["–"] * 4 for f in of_kinds]
        rows.append([name, *(cell for some in cells for cell in some)])
    told = []
    for kind, words in KINDS.items():
        if kind in results:
            total = sum(found["inputs"] for found in results[kind]["doors"].values())
            commit = (results[kind]["provenance"].get("commit") or "?")[:12]
            told.append(f"{words}: {total:,} inputs, seed {results[kind]['seed']}, commit {commit}.")
    heads = [f"{key}{mark}" for mark in ("", ", guided")[: len(told)] for key in (*counted, "faults")]
    return [*table(["door", *heads], rows), "", " ".join(told)]


def main() -> None:
    """Do what the words say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    words = verbs.add_parser("run")
    words.add_argument("--guided", action="store_const", const="guided", default="storm", dest="kind")
    words.add_argument("--inputs", type=int, default=20_000)
    words.add_argument("--seed", type=int, default=1)
    words.add_argument("--door", action="append", choices=DOORS)
    verbs.add_parser("write")
    given = parser.parse_args()
    if given.verb == "write":
        write({"fuzz": page()}, PAGE)
    elif run(given.door or list(DOORS), given.inputs, given.seed, given.kind):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
