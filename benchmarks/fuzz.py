"""Faulty inputs thrown at every door through which bytes of strangers come in: how many, and what became of them.

    python -m benchmarks.fuzz run [--inputs 20000] [--seed 1] [--door NAME ...]
    python -m benchmarks.fuzz write

Each door (tests/fuzz/doors.py) has a process of its own with bounded memory and time. An input is taken, or refused with one
of our errors; anything else is a fault, and so are 20 seconds and a process that dies. ``run`` ends with exit code 1 if there
is one, and its inputs stand in the JSON file. ``write`` puts the table into SECURITY.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.ops.page import table, write
from scribbleseg.atomic import write_text
from scribbleseg.provenance import provenance
from tests.fuzz.doors import DOORS

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "fuzz.json"
PAGE = ROOT / "SECURITY.md"


def run(doors: list[str], inputs: int, seed: int) -> int:
    """Throw inputs at doors, one after the other; return the number of faults."""
    known = json.loads(RESULT.read_text(encoding="utf-8"))["doors"] if RESULT.is_file() else {}
    for name in doors:
        with tempfile.TemporaryDirectory() as folder:
            words = ["-m", "tests.fuzz.storm", name, "--inputs", str(inputs), "--seed", str(seed), "--found", folder]
            done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
            if done.returncode == 0:
                known[name] = json.loads(done.stdout.splitlines()[-1])
            else:
                last = [path.read_bytes().hex()[:4000] for path in Path(folder).glob("*.bin")]
                why = f"exit code {done.returncode}: {done.stderr[-500:]}"
                known[name] = {
                    "inputs": 1,
                    "taken": 0,
                    "refused": 0,
                    "seconds": 0.0,
                    "faults": [{"error": why, "input": "".join(last)}],
                }
        found = known[name]
        counts = ", ".join(f"{found[key]} {key}" for key in ("inputs", "taken", "refused"))
        print(f"{name}: {counts}, {len(found['faults'])} faults")
        for fault in found["faults"][:5]:
            print(f"  {fault['error'][:160]} at {fault.get('at')}")
        result = {"seed": seed, "provenance": provenance(), "doors": {name: known[name] for name in DOORS if name in known}}
        write_text(RESULT, json.dumps(result, indent=1) + "\n")
    return sum(len(known[name]["faults"]) for name in doors)


def page() -> list[str]:
    """Return the table with where it comes from."""
    result = json.loads(RESULT.read_text(encoding="utf-8"))
    rows = [
        [name, *(f"{found[key]:,}" for key in ("inputs", "taken", "refused")), str(len(found["faults"]))]
        for name, found in result["doors"].items()
    ]
    total = sum(found["inputs"] for found in result["doors"].values())
    commit = (result["provenance"].get("commit") or "?")[:12]
    head = ["door", "inputs", "taken", "refused", "faults"]
    return [
        *table(head, rows),
        "",
        f"{total:,} inputs; `python -m benchmarks.fuzz run`, seed {result['seed']}, commit {commit}.",
    ]


def main() -> None:
    """Do what the words say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    words = verbs.add_parser("run")
    words.add_argument("--inputs", type=int, default=20_000)
    words.add_argument("--seed", type=int, default=1)
    words.add_argument("--door", action="append", choices=DOORS)
    verbs.add_parser("write")
    given = parser.parse_args()
    if given.verb == "write":
        write({"fuzz": page()}, PAGE)
    elif run(given.door or list(DOORS), given.inputs, given.seed):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
