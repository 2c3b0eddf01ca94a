"""The windowed energy against WSL4MIS's unfold, a plain loop and the arithmetic of the machine.

    python -m benchmarks.ops.windowed [--threads 2] [--peers-dir PEERS_DIR] [--out FILE]

Random scores and colours; radius 5, position 6 px, colour 0.1; gradient for the scores, and for the features where there
are deep ones. Every side is compared with float64 before it is timed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from benchmarks.ops import peers, record
from benchmarks.ops.measure import Call, Case, Maker, errors
from benchmarks.ops.record import Target
from scribbleseg.ops.windowed import windowed_energy

SIGMA_PX, SIGMA_RGB, SIGMA_FEATURE = 6.0, 0.1, 0.4

#: Largest relative error of the value and of a gradient entry that a backend may show against float64.
TOLERANCE = 1e-5

#: Rows of the table. The last two differ in the deep features alone.
CASES: tuple[Case, ...] = (Case(1, 4, 256), Case(4, 4, 256), Case(1, 21, 256), Case(1, 21, 256, features=32))

#: Curves: what varies, its values, all else as in ``BASE``.
BASE = Case(1, 21, 128)
CURVES: dict[str, tuple[int, ...]] = {
    "size": (64, 128, 256, 512, 1024),
    "classes": (2, 4, 8, 21, 64, 150),
    "features": (0, 4, 8, 16, 32, 64),
    "radius": (1, 2, 3, 5, 8),
    "batch": (1, 2, 4, 8),
    "threads": (1, 2),
}


def inputs(case: Case, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Return random scores (a leaf), colours, and deep features of unit length (a leaf)."""
    rng = torch.Generator().manual_seed(0)
    shape = (case.size, case.size)
    probs = torch.randn(case.batch, case.classes, *shape, generator=rng).softmax(1)
    rgb = torch.rand(case.batch, 3, *shape, generator=rng)
    deep = torch.nn.functional.normalize(torch.randn(case.batch, case.features, *shape, generator=rng), dim=1)
    return probs.to(dtype).requires_grad_(), rgb.to(dtype), deep.to(dtype).requires_grad_()


def ours(backend: str, dtype: torch.dtype = torch.float32) -> Maker:
    """Return the maker of a backend's call: the energy per pixel, and its gradients for scores and features."""

    def make(case: Case) -> Call:
        probs, rgb, deep = inputs(case, dtype)
        colours = rgb / SIGMA_RGB
        wanted = [probs, deep] if case.features else [probs]

        def call() -> tuple[Tensor, ...]:
            guide = torch.cat([colours, deep / SIGMA_FEATURE], 1) if case.features else colours
            energy = windowed_energy(probs, guide, radius=case.radius, sigma_px=SIGMA_PX, backend=backend)
            value = energy / probs[:, 0].numel()
            return value.detach(), *torch.autograd.grad(value, wanted)

        return call

    return make


class PlainLoop(torch.autograd.Function):
    """The energy as one would write it first: a loop over half of the offsets, recomputed in the backward pass."""

    @staticmethod
    def forward(ctx: Any, probs: Tensor, guide: Tensor, radius: int) -> Tensor:
        ctx.save_for_backward(probs, guide)
        ctx.radius = radius
        total = probs.new_zeros(())
        for dy, dx in half_window(radius):
            (p, q), kernel = ends(probs, dy, dx), pair_kernel(guide, dy, dx)
            total = total + (kernel * (1 - (p * q).sum(1))).sum()
        return 2 * total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        probs, guide = ctx.saved_tensors
        gradient = torch.zeros_like(probs)
        for dy, dx in half_window(ctx.radius):
            (p, q), kernel = ends(probs, dy, dx), pair_kernel(guide, dy, dx).unsqueeze(1)
            at_p, at_q = ends(gradient, dy, dx)
            at_p -= kernel * q
            at_q -= kernel * p
        return 2 * grad * gradient, None, None


def half_window(radius: int) -> list[tuple[int, int]]:
    """Return the offsets of one half of the window."""
    return [(dy, dx) for dy in range(radius + 1) for dx in range(-radius, radius + 1) if (dy, dx) > (0, 0)]


def ends(x: Tensor, dy: int, dx: int) -> tuple[Tensor, Tensor]:
    """Return views of a map at both ends of all pairs (dy, dx) apart."""
    height, width = x.shape[-2:]
    left, right = max(0, -dx), width - max(0, dx)
    return x[..., : height - dy, left:right], x[..., dy:, left + dx : right + dx]


def pair_kernel(guide: Tensor, dy: int, dx: int) -> Tensor:
    """Return the Gaussian of colour and position for all pairs (dy, dx) apart."""
    g, h = ends(guide, dy, dx)
    return torch.exp(-0.5 * (g - h).square().sum(1) - 0.5 * (dy * dy + dx * dx) / SIGMA_PX**2)


def loop(case: Case) -> Call:
    """Return the plain loop's call; it gives no gradient to features."""
    probs, rgb, _ = inputs(case)
    guide = rgb / SIGMA_RGB
    plain: Any = PlainLoop.apply

    def call() -> tuple[Tensor, ...]:
        value = plain(probs, guide, case.radius) / probs[:, 0].numel()
        return value.detach(), *torch.autograd.grad(value, [probs])

    return call


def unfold(case: Case) -> Call:
    """Return WSL4MIS's call, without masks as in their training."""
    probs, rgb, _ = inputs(case)

    def call() -> tuple[Tensor, ...]:
        value = peers.gated_crf(probs, rgb, case.radius, SIGMA_PX, SIGMA_RGB)
        return value.detach(), *torch.autograd.grad(value, [probs])

    return call


SIDES: dict[str, Maker] = {"compiled": ours("compiled"), "torch": ours("torch"), "loop": loop, "unfold": unfold}


def available(case: Case) -> list[str]:
    """Return the sides that are installed and that do the work of this case."""
    left_out = {"unfold"} if not peers.has(peers.GATED_CRF) else set()
    left_out |= set() if record.installed("_windowed") else {"compiled"}
    left_out |= {"loop", "unfold"} if case.features else set()
    return [name for name in SIDES if name not in left_out]


def num_pairs(case: Case) -> int:
    """Return the number of unordered pairs of all images."""
    inside = ((case.size - dy) * max(0, case.size - abs(dx)) for dy, dx in half_window(case.radius) if dy < case.size)
    return case.batch * sum(inside)


def flops(case: Case) -> int:
    """Return the arithmetic: per pair 2C for p·q, 4C for the gradients, 20 for the kernel, and 7D for deep features."""
    return num_pairs(case) * (6 * case.classes + 20 + 7 * case.features)


def check(case: Case) -> dict[str, dict[str, float]]:
    """Return each side's relative errors against float64, the definition itself where it fits into memory.

    Raises:
        ArithmeticError: a side of ours is further off than ``TOLERANCE``.
    """
    truth = ours("reference" if case.batch * case.size**2 <= 2048 else "torch", torch.float64)(case)()
    names = ("value", "scores", "features")[: len(truth)]
    found = {name: errors(SIDES[name](case)(), truth, names) for name in available(case)}
    record.demand({side: found[side] for side in found if side != "unfold"}, TOLERANCE, str(case))
    return found


def measure(case: Case, *, rounds: int, seconds: float, threads: int, memory: bool = True) -> dict[str, Any]:
    """Return one row: times, ratios, memory and errors of every side. Deep features are set against none at all."""
    found = check(case)
    calls = {name: SIDES[name](case) for name in available(case)}
    if case.features:
        calls |= {f"{name}, static": SIDES[name](replace(case, features=0)) for name in list(calls)}
    row = record.row(case, calls, found, rounds=rounds, seconds=seconds, threads=threads)
    row |= record.floor(row, flops(case))
    if memory:
        record.add_memory(row, "benchmarks.ops.windowed", case, threads, SIDES)
    return row


def run(*, threads: int, rounds: int = 5, seconds: float = 0.15, quick: bool = False) -> dict[str, Any]:
    """Return all rows and curves; ``quick`` makes every map tiny, for tests."""
    cases, base, varied = CASES, BASE, CURVES
    if quick:
        cases, base = (Case(1, 3, 16, 2), Case(1, 3, 16, 2, features=2)), Case(1, 3, 16, 2)
        varied = {"size": (8, 16), "features": (0, 1), "threads": (1,)}
    small = Case(1, base.classes, min(base.size, 32), base.radius, 4)
    return {
        "tolerance": TOLERANCE,
        "definition": {"case": str(small), "errors": check(small)},
        "rows": [measure(c, rounds=rounds, seconds=seconds, threads=threads, memory=not quick) for c in cases],
        "curves": record.curves(SIDES, available, base, varied, rounds=min(rounds, 2), seconds=seconds / 3, threads=threads),
    }


def targets(result: dict[str, Any]) -> list[Target]:
    """Return what was promised beside what a result says; a row without its peer is left out."""
    found = []
    for row in result["rows"]:
        case, sides = row["case"], row["sides"]
        if "compiled" not in sides or row["sizes"]["classes"] * row["sizes"]["batch"] < 16:
            continue
        ratios = {name: side["to_first"][1] for name, side in sides.items()}
        if row["sizes"]["features"]:
            dynamic = 1 / ratios["compiled, static"]
            found.append(Target(f"{case}: deep features and their gradient, against the static kernel", dynamic, 2.5, False))
            continue
        if "unfold" in ratios:
            found.append(Target(f"{case}: faster than WSL4MIS's unfold", ratios["unfold"], 60))
        found.append(Target(f"{case}: faster than the plain loop", ratios["loop"], 10))
        found.append(Target(f"{case}: portable backend faster than the plain loop", ratios["loop"] / ratios["torch"], 1.3))
        over = f"{case}: over the arithmetic floor of {row['floor_ms']:.1f} ms"
        found.append(Target(over, row["over_floor"], 3, False))
        if "extra_copies" in sides["compiled"]:
            copies = round(sides["compiled"]["extra_copies"], 1)
            found.append(Target(f"{case}: extra memory in copies of the scores, their gradient included", copies, 3, False, ""))
    return found


if __name__ == "__main__":
    record.main("windowed", run)
