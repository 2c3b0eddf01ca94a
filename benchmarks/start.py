"""How long the library and the program take to start, each time in a new process.

python -m benchmarks.start [--rounds 9] [--out FILE]
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import time
from typing import Any

from benchmarks.ops import page, record
from benchmarks.ops.measure import RESULTS, quartiles
from benchmarks.ops.record import Target

#: What was promised, in seconds.
PROMISED = {"`import scribbleseg`": 0.3, "`scribbleseg --help`": 0.5}


def commands() -> dict[str, list[str]]:
    """Return the command lines; the first is what an interpreter takes by itself."""
    program = shutil.which("scribbleseg", path=sysconfig.get_path("scripts"))
    assert program is not None, "the package is not installed in this environment"
    return {
        "Python, nothing else": [sys.executable, "-c", "pass"],
        "`import scribbleseg`": [sys.executable, "-c", "import scribbleseg"],
        "`scribbleseg --help`": [program, "--help"],
    }


def run(*, rounds: int = 9) -> dict[str, Any]:
    """Return the seconds of each command, taken in turns."""
    times: dict[str, list[float]] = {name: [] for name in commands()}
    for _ in range(rounds):
        for name, words in commands().items():
            began = time.perf_counter()
            subprocess.run(words, capture_output=True, check=True)
            times[name].append(time.perf_counter() - began)
    return {"peers": {}, "rounds": rounds, "seconds": {name: quartiles(found) for name, found in times.items()}}


def targets(result: dict[str, Any]) -> list[Target]:
    """Return what was promised beside what a result says."""
    text = f"in a new process, median of {result['rounds']}"
    return [Target(f"{name} {text}", result["seconds"][name][1], bound, False, "s") for name, bound in PROMISED.items()]


def tables(result: dict[str, Any]) -> list[str]:
    """Return the page's lines."""
    rows = [[name, page.spread(seconds)] for name, seconds in result["seconds"].items()]
    return page.table([f"{result['rounds']} new processes each", "s"], rows)


if __name__ == "__main__":
    record.main("start", run, {"rounds": 9}, RESULTS.parent)
