"""What the benchmarks of all ops share around a measurement: rows, curves, targets, the command line and the JSON file."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.ops import peers
from benchmarks.ops.measure import HIGH_WATER, RESULTS, Call, Case, Maker, extra_memory, interleave, matmul, milliseconds, ratio
from scribbleseg.atomic import write_text
from scribbleseg.ops.backends import compiled
from scribbleseg.provenance import provenance

#: A curve leaves a side out from where one call would take longer, in milliseconds.
LONGEST = 600.0

MATMUL = "matmul"

#: The numbers that a benchmark of an op is told, and their defaults.
TIMED: dict[str, float] = {"threads": 2, "rounds": 5, "seconds": 0.15}

MEANING = {"seconds": "shortest time of a side in a round"}


@dataclass(frozen=True)
class Target:
    """A number that was promised, and what was measured."""

    text: str
    measured: float
    bound: float
    at_least: bool = True
    unit: str = "×"

    @property
    def met(self) -> bool:
        """Whether the measurement is on the right side of the bound."""
        return self.measured >= self.bound if self.at_least else self.measured <= self.bound


def installed(kernel: str) -> bool:
    """Say whether a compiled kernel is there."""
    return compiled(kernel) is not None


def demand(found: Mapping[str, Mapping[str, float]], tolerance: float, where: str) -> None:
    """Check the errors of our sides: a time with a wrong number is no time.

    Raises:
        ArithmeticError: one is larger than the tolerance, or no number.
    """
    for side, each in found.items():
        for name, error in each.items():
            if not error <= tolerance:
                raise ArithmeticError(f"{side} on {where}: {name} is off by {error:.2g}, more than {tolerance:g}")


def row(
    case: Case, calls: Mapping[str, Call], errors: Mapping[str, Any], *, rounds: int, seconds: float, threads: int
) -> dict[str, Any]:
    """Time the sides of a case in turns; ratios are of each side's time to the first side's."""
    product, product_flops = matmul(1536 if case.size >= 128 else 256)
    times = interleave({**calls, MATMUL: product}, rounds=rounds, seconds=seconds, threads=threads)
    first = next(iter(times.values()))
    per_flop = ratio(times.pop(MATMUL), first)[1] / product_flops
    sides = {
        name: {
            "ms": milliseconds(t),
            "calls": sum(map(len, t)),
            "to_first": ratio(t, first),
            "errors": errors.get(name),
        }
        for name, t in times.items()
    }
    return {"case": str(case), "sizes": asdict(case), "sides": sides, "matmul_flop_to_first": per_flop}


def floor(row: Mapping[str, Any], flops: int) -> dict[str, float]:
    """Return the time that a row's arithmetic takes at the rate of a matrix product in the same rounds."""
    first = next(iter(row["sides"].values()))
    share = flops * row["matmul_flop_to_first"]
    gflops = 1e-6 / (row["matmul_flop_to_first"] * first["ms"][1])
    return {"flops": flops, "peak_gflops": gflops, "floor_ms": share * first["ms"][1], "over_floor": 1 / share}


def add_memory(found: dict[str, Any], module: str, case: Case, threads: int, makers: Mapping[str, Maker]) -> None:
    """Measure what one call of each side adds to a fresh process, where the system tells."""
    if not HIGH_WATER.exists():
        return
    for name, side in found["sides"].items():
        if name in makers:
            side["extra_mib"] = extra_memory(module, name, case, threads)
            side["extra_copies"] = side["extra_mib"] / case.copy_mib()


def curves(
    makers: Mapping[str, Maker],
    available: Callable[[Case], Sequence[str]],
    base: Case,
    varied: Mapping[str, Sequence[int]],
    *,
    rounds: int,
    seconds: float,
    threads: int,
) -> dict[str, Any]:
    """Time every side along each axis, all else as in ``base``; None where a side is missing or would take too long."""
    found: dict[str, Any] = {}
    for axis, values in varied.items():
        lines: dict[str, list[list[float] | None]] = {name: [] for name in makers}
        for i, value in enumerate(values):
            case = base if axis == "threads" else replace(base, **{axis: value})
            growth = (value / max(values[i - 1], 1)) ** (2 if axis == "size" else 1) if i else 1.0
            here = [n for n in available(case) if not i or _may_go_on(lines[n][-1], growth)]
            calls = {name: makers[name](case) for name in here}
            times = interleave(calls, rounds=rounds, seconds=seconds, threads=value if axis == "threads" else threads)
            for name, line in lines.items():
                line.append(milliseconds(times[name]) if name in times else None)
        found[axis] = {"x": list(values), "case": str(base), "sides": {n: s for n, s in lines.items() if any(s)}}
    return found


def _may_go_on(last: list[float] | None, growth: float) -> bool:
    return last is not None and last[1] * max(growth, 0.0) <= LONGEST


def save(op: str, result: dict[str, Any], out: Path | None = None) -> Path:
    """Write a result with its origin: commit, machine, threads, versions, and which peers were there if it does not say."""
    target = out or RESULTS / f"{op}.json"
    write_text(target, json.dumps({"op": op, "provenance": provenance(), "peers": peers.found()} | result, indent=1) + "\n")
    return target


def main(op: str, run: Callable[..., dict[str, Any]], numbers: Mapping[str, float] = TIMED, folder: Path = RESULTS) -> None:
    """Parse the options that all benchmarks have, measure, and write the JSON file.

    Args:
        op: what is measured.
        run: measures.
        numbers: what ``run`` is told, each an option, with its default.
        folder: of the JSON file.
    """
    parser = argparse.ArgumentParser(description=f"Measure: {op}; see docs/performance.md.")
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help=MEANING.get(name))
    parser.add_argument("--peers-dir", type=Path, help="folder of the peers' clones; also PEERS_DIR")
    parser.add_argument("--out", type=Path, help="the JSON file, if not the one that the page is made from")
    arguments = parser.parse_args()
    if arguments.peers_dir:
        os.environ["PEERS_DIR"] = str(arguments.peers_dir.resolve())
    told = {name: getattr(arguments, name) for name in numbers}
    threads = told.get("threads", torch.get_num_threads())
    torch.set_num_threads(threads)
    result = run(**told)
    torch.set_num_threads(threads)  # a peer may have changed it
    print(save(op, result, arguments.out or folder / f"{op}.json"))
