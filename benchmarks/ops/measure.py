"""Time, memory and error of one forward and backward pass: ours and others', on the same tensors, in one run.

Sides are timed in turns, so that a machine that slows down slows all of them; a ratio is taken within a round and the
median over rounds is reported. Memory is what one call adds to a fresh process at its highest point.
"""

from __future__ import annotations

import importlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.benchmark import Timer

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "ops"

#: Linux's switch that sets a process's high-water mark of memory back.
HIGH_WATER = Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Case:
    """Sizes of one measurement: square maps, ``features`` deep features beside the three colours."""

    batch: int = 1
    classes: int = 21
    size: int = 256
    radius: int = 5
    features: int = 0

    def __str__(self) -> str:
        deep = f", D = {self.features}" if self.features else ""
        return f"{self.batch} × {self.classes} × {self.size}²{deep}"

    def copy_mib(self) -> float:
        """Return the size of what gets a gradient, scores and deep features, in float32."""
        return self.batch * (self.classes + self.features) * self.size**2 * 4 / 2**20


#: One forward and backward pass: its value and the gradients that it asked for.
Call = Callable[[], tuple[Tensor, ...]]
Maker = Callable[[Case], Call]


def interleave(
    sides: Mapping[str, Callable[[], Any]], *, rounds: int, seconds: float, threads: int
) -> dict[str, list[list[float]]]:
    """Return each side's times in seconds, a list a round; a side has at least ``seconds`` or one call in each round."""
    times: dict[str, list[list[float]]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, call in sides.items():
            # The timer sets the number of threads itself: a peer may have changed it behind PyTorch's back.
            timer = Timer("call()", globals={"call": call}, num_threads=threads)
            times[name].append(list(timer.blocked_autorange(min_run_time=seconds).times))
    return times


def quartiles(values: Sequence[float]) -> list[float]:
    """Return the lower quartile, the median and the upper quartile."""
    if len(values) == 1:
        return [values[0]] * 3
    return statistics.quantiles(values, n=4, method="inclusive")


def milliseconds(rounds: Sequence[Sequence[float]]) -> list[float]:
    """Return the quartiles of all times of a side."""
    return [1e3 * t for t in quartiles([t for times in rounds for t in times])]


def ratio(of: Sequence[Sequence[float]], to: Sequence[Sequence[float]]) -> list[float]:
    """Return the quartiles over rounds of the ratio of two sides' medians."""
    return quartiles([statistics.median(a) / statistics.median(b) for a, b in zip(of, to, strict=True)])


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference over the largest entry of what is expected."""
    found, expected = found.detach().double(), expected.detach().double()
    largest = float(expected.abs().max())
    return float((found - expected).abs().max()) / largest if largest else float(found.abs().max())


def relative_distance(found: Tensor, expected: Tensor) -> float:
    """Return ‖found − expected‖ / ‖expected‖: the size of an approximation's error."""
    return float((found.detach().double() - expected.detach().double()).norm() / expected.detach().double().norm())


def errors(found: Sequence[Tensor], expected: Sequence[Tensor], names: Sequence[str]) -> dict[str, float]:
    """Return the relative error of the value and of each gradient."""
    return {name: relative_error(f, e) for name, f, e in zip(names, found, expected, strict=True)}


def matmul(side: int = 1536) -> tuple[Callable[[], Tensor], int]:
    """Return a large single-precision matrix product, the fastest arithmetic that the machine has, and its flops."""
    a, b, out = (torch.randn(side, side) for _ in range(3))
    return lambda: torch.mm(a, b, out=out), 2 * side**3


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Return the least-squares exponent of a power law y ∝ x^s."""
    logs = torch.tensor([x, y], dtype=torch.float64).log()
    logs -= logs.mean(1, keepdim=True)
    return float((logs[0] * logs[1]).sum() / logs[0].square().sum())


def extra_memory(module: str, side: str, case: Case, threads: int) -> float:
    """Return what one forward and backward pass adds to a fresh process at its peak, in MiB; gradients included."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    environment["MALLOC_MMAP_THRESHOLD_"] = str(2**16)  # what is freed leaves the process, and is not used again uncounted
    words = [sys.executable, "-m", "benchmarks.ops.measure", module, side, json.dumps(asdict(case))]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise RuntimeError(f"{side} on {case}: {done.stderr.strip()[-2000:]}")
    return float(done.stdout.split()[-1])


def _memory_child(module: str, side: str, case: Case) -> float:
    make: Maker = importlib.import_module(module).SIDES[side]
    make(Case(1, 2, 16, min(case.radius, 2), min(case.features, 1)))()  # libraries, threads
    call = make(case)
    before = _resident("VmRSS")
    HIGH_WATER.write_text("5", encoding="utf-8")
    kept = call()
    return (_resident("VmHWM") - before) / 1024 if kept else 0.0


def _resident(key: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1])


if __name__ == "__main__":
    print(_memory_child(sys.argv[1], sys.argv[2], Case(**json.loads(sys.argv[3]))))
