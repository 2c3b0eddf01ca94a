"""The windowed energy on a GPU: Triton against the portable backend and a plain unfold, right first, then timed.

    python -m benchmarks.ops.windowed_gpu [--rounds 30] [--out FILE]

Random scores, colours and features of unit length; radius 5, position 6 px, colour 0.1, features 0.4; gradients for the
scores, and for the features where there are any. Triton is compared with the portable backend in float64 at full size, for
every pair term, before anything is timed. Times are CUDA events of sides in turns, after the tuning. ``floor_ms`` is the larger
of the flops over a float32 matrix product's rate and the bytes over a copy's, both measured in the same run.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import statistics
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.ops.measure import RESULTS, Case, errors, quartiles
from scribbleseg.atomic import write_text
from scribbleseg.ops.backends import why_not_triton
from scribbleseg.ops.windowed import BACKENDS, RELAXATIONS, windowed_energy
from scribbleseg.provenance import provenance

SIGMA_PX, SIGMA_RGB, SIGMA_FEATURE = 6.0, 0.1, 0.4

#: Largest error of a value or gradient entry, relative to the largest entry in float64.
TOLERANCE = 1e-5

#: The first is the one of the targets: ≤ 4 × the floor, ≥ 30 × unfold, memory ≤ 2 × inputs + gradients.
CASES = (Case(8, 21, 512, features=32), Case(8, 21, 512), Case(1, 21, 256), Case(4, 4, 256), Case(2, 64, 256, features=61))

Call = Callable[[], tuple[Tensor, ...]]


def inputs(case: Case, device: torch.device | str, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Return scores (a leaf) and the stacked guide (a leaf where there are features)."""
    rng = torch.Generator(device).manual_seed(0)

    def draw(channels: int) -> Tensor:
        return torch.randn(case.batch, channels, case.size, case.size, generator=rng, device=device)

    rgb, deep = draw(3).sigmoid() / SIGMA_RGB, functional.normalize(draw(case.features), dim=1) / SIGMA_FEATURE
    guide = torch.cat([rgb, deep], 1).to(dtype).requires_grad_(case.features > 0)
    return draw(case.classes).softmax(1).to(dtype).requires_grad_(), guide


def unfold_energy(probs: Tensor, guide: Tensor, radius: int, sigma_px: float) -> Tensor:
    """Return the bilinear energy as the field computes it: every window copied out by ``unfold``."""
    size = 2 * radius + 1
    step = torch.arange(-radius, radius + 1, device=probs.device, dtype=probs.dtype)
    place = (step[:, None].square() + step.square()).flatten()[:, None, None] / sigma_px**2

    def windows(x: Tensor) -> Tensor:
        return functional.unfold(x, size, padding=radius).reshape(*x.shape[:2], size * size, *x.shape[-2:])

    kernel = torch.exp(-0.5 * ((windows(guide) - guide[:, :, None]).square().sum(1) + place))
    kernel = kernel * windows(torch.ones_like(probs[:, :1]))[:, 0] * (place > 0)
    return (kernel * (1 - (windows(probs) * probs[:, :, None]).sum(1))).sum()


def gradients(energy: Callable[[Tensor, Tensor], Tensor], probs: Tensor, guide: Tensor) -> Call:
    """Return one forward and backward pass of an energy per pixel."""
    wanted = [x for x in (probs, guide) if x.requires_grad]

    def call() -> tuple[Tensor, ...]:
        value = energy(probs, guide) / probs[:, 0].numel()
        return value.detach(), *torch.autograd.grad(value, wanted)

    return call


def backend(name: str, case: Case, relaxation: str = "bilinear") -> Callable[[Tensor, Tensor], Tensor]:
    """Return the energy by a backend of ours."""
    numbers: dict[str, Any] = {"radius": case.radius, "sigma_px": SIGMA_PX, "relaxation": relaxation, "backend": name}
    return lambda probs, guide: windowed_energy(probs, guide, **numbers)


def check(case: Case, device: torch.device | str) -> dict[str, dict[str, float]]:
    """Return the errors of Triton against the portable backend in float64.

    Raises:
        ArithmeticError: one is larger than the tolerance, or no number.
    """
    found = {}
    for relaxation in RELAXATIONS:
        expected = gradients(backend("torch", case, relaxation), *inputs(case, device, torch.float64))()
        # The same numbers: what is drawn is drawn in float32.
        got = gradients(backend("triton", case, relaxation), *inputs(case, device))()
        found[relaxation] = errors(got, expected, ["value", "probs", "guide"][: len(got)])
        worst = max(found[relaxation].values())
        if not worst <= TOLERANCE:
            raise ArithmeticError(f"Triton on {case}, {relaxation}: {found[relaxation]}, more than {TOLERANCE:g}")
    return found


def times(sides: Mapping[str, Call], rounds: int) -> dict[str, list[float]]:
    """Return each side's times in ms, the sides in turns."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for n in range(rounds + 3):
        for name, call in sides.items():
            events: list[Any] = [torch.cuda.Event(enable_timing=True) for _ in range(2)]  # type: ignore[no-untyped-call]
            events[0].record()
            call()
            events[1].record()
            events[1].synchronize()
            if n >= 3:  # the first ones warm up
                found[name].append(events[0].elapsed_time(events[1]))
    return found


def extra_memory(call: Call) -> int:
    """Return the bytes that one call adds at its highest point, gradients included."""
    call()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def ceilings(rounds: int) -> dict[str, float]:
    """Return the flops per second of a float32 matrix product and the bytes per second of a copy."""
    a = torch.randn(8192, 8192, device="cuda")
    source, target = torch.randn(2**29, device="cuda"), torch.empty(2**29, device="cuda")
    found = times({"product": lambda: (a @ a,), "copy": lambda: (target.copy_(source),)}, rounds)
    product, copy = (1e-3 * statistics.median(found[name]) for name in ("product", "copy"))
    return {"flops_per_s": 2 * 8192**3 / product, "bytes_per_s": 2 * 4 * 2**29 / copy}


def floor_ms(case: Case, ceiling: Mapping[str, float]) -> float:
    """Return the least time; an unordered pair takes 6 flops a class, 3 a guide (7 with its gradient) and 20 for the kernel."""
    pixels, guides = case.batch * case.size**2, 3 + case.features
    pairs = pixels * ((2 * case.radius + 1) ** 2 - 1) // 2
    flops = pairs * (6 * case.classes + (7 if case.features else 3) * guides + 20)
    moved = 4 * pixels * (2 * case.classes + (2 if case.features else 1) * guides)
    return 1e3 * max(flops / ceiling["flops_per_s"], moved / ceiling["bytes_per_s"])


def measure(case: Case, ceiling: Mapping[str, float], rounds: int) -> dict[str, Any]:
    """Check a case and time its sides; a side for which the memory is too small is null."""
    row: dict[str, Any] = {"case": str(case), "sizes": asdict(case), "floor_ms": floor_ms(case, ceiling), "sides": {}}
    row["errors"] = check(case, "cuda")
    probs, guide = inputs(case, "cuda")
    row["inputs_mib"] = sum(x.numel() for x in (probs, guide)) * 4 / 2**20
    sides = {name: gradients(backend(name, case), probs, guide) for name in ("triton", "torch")}
    alone = (probs.detach(), guide.detach(), None, None, case.radius, 1, SIGMA_PX, "bilinear", True, case.features > 0)
    sides["triton without autograd"] = lambda: BACKENDS["triton"].run(*alone)
    sides["unfold"] = gradients(lambda p, g: unfold_energy(p, g, case.radius, SIGMA_PX), probs, guide)
    for name in list(sides):
        torch.cuda.empty_cache()
        try:
            row["sides"][name] = {"extra_mib": extra_memory(sides[name]) / 2**20}
        except torch.OutOfMemoryError:
            row["sides"][name] = None
            del sides[name]
    found = times(sides, rounds)
    for name, t in found.items():
        row["sides"][name] |= {"ms": quartiles(t), "to_triton": statistics.median(t) / statistics.median(found["triton"])}
    row["triton_over_floor"] = row["sides"]["triton"]["ms"][1] / row["floor_ms"]
    from scribbleseg.ops import windowed_triton  # not before Triton is known to be there

    row["tile"] = str(windowed_triton._tuned(probs.shape[1] + guide.shape[1]).best_config)
    return row


def main() -> None:
    """Check, measure, print and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--out", type=Path, default=RESULTS / "windowed_gpu.json")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("windowed_gpu: there is no CUDA GPU here, nothing was measured")
    if (reason := why_not_triton(torch.device("cuda"))) is not None:
        sys.exit(f"windowed_gpu: {reason}, nothing was measured")
    torch.backends.cuda.matmul.allow_tf32 = False
    ceiling = ceilings(arguments.rounds)
    result: dict[str, Any] = {"op": "windowed_gpu", "provenance": provenance(), "triton": importlib.metadata.version("triton")}
    result |= {"ceilings": ceiling, "rows": []}
    for case in CASES:
        row = measure(case, ceiling, arguments.rounds)
        result["rows"].append(row)
        ms = {name: side and round(side["ms"][1], 3) for name, side in row["sides"].items()}
        print(f"{case}: {ms} ms, floor {row['floor_ms']:.3f} ms, {row['tile']}", flush=True)
        write_text(arguments.out, json.dumps(result, indent=1) + "\n")
    print(arguments.out)


if __name__ == "__main__":
    main()
