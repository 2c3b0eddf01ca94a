"""The tree filter against SciPy's spanning tree with a loop over the tree's levels, and its growth with the map.

    python -m benchmarks.ops.tree [--threads 2] [--out FILE]

One call makes the tree from the colours, filters the scores and takes the gradient of a random projection: for the scores
and, with deep features, for those in the affinities as well. The field's own filter (TreeEnergyLoss) is CUDA alone, made
for PyTorch 1.7: there is nothing of it to time here.
"""

from __future__ import annotations

from dataclasses import asdict
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree
from torch import Tensor
from torch.autograd.function import once_differentiable

from benchmarks.ops import record
from benchmarks.ops.measure import Call, Case, Maker, errors, slope
from benchmarks.ops.record import Target
from benchmarks.ops.scene import scene
from scribbleseg.ops.tree import spanning_tree, tree_filter

#: a = exp(−‖Δrgb‖²/0.02), the authors' width.
SIGMA_RGB, SIGMA_FEATURE = 0.02**0.5, 1.0

#: Largest relative error of the filtered scores and of a gradient entry that a backend may show against float64.
TOLERANCE = 1e-5

CASES: tuple[Case, ...] = (Case(1, 4, 256), Case(1, 21, 256), Case(4, 21, 256), Case(1, 21, 256, features=32))
BASE = Case(1, 21, 128)
CURVES: dict[str, tuple[int, ...]] = {
    "size": (64, 128, 256, 512, 1024),
    "classes": (2, 4, 8, 21, 64, 150),
    "features": (0, 4, 8, 16, 32, 64),
    "batch": (1, 2, 4, 8),
    "threads": (1, 2),
}


def inputs(case: Case, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return scores (a leaf), colours, deep features (a leaf) and the projection that the gradient is of."""
    probs, rgb = scene(case.batch, case.classes, case.size)
    rng = torch.Generator().manual_seed(1)
    deep = torch.randn(case.batch, case.features, case.size, case.size, generator=rng)
    deep = torch.nn.functional.normalize(deep, dim=1)
    projection = torch.randn(probs.shape, generator=rng)
    return probs.to(dtype).requires_grad_(), rgb.to(dtype), deep.to(dtype).requires_grad_(), projection.to(dtype)


def ours(backend: str, dtype: torch.dtype = torch.float32) -> Maker:
    """Return the maker of a backend's call; every precision filters along the tree of the float32 colours."""

    def make(case: Case) -> Call:
        probs, rgb, deep, projection = inputs(case, dtype)
        single = rgb.float()
        wanted = [probs, deep] if case.features else [probs]

        def call() -> tuple[Tensor, ...]:
            tree = spanning_tree(single, backend=backend)
            guide = deep / SIGMA_FEATURE if case.features else rgb / SIGMA_RGB
            filtered = tree_filter(probs, guide, tree=tree, backend=backend)
            return filtered.detach(), *torch.autograd.grad(filtered, wanted, projection)

        return call

    return make


class LevelFilter(torch.autograd.Function):
    """The filter one level of the tree after the other; K is symmetric, so the backward pass is the forward one."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, affinity: Tensor, parent: Tensor, levels: list[Tensor]) -> Tensor:
        norm = apply_kernel(torch.ones_like(values[:, :1]), affinity, parent, levels)
        ctx.save_for_backward(norm, affinity, parent)
        ctx.levels = levels
        return apply_kernel(values, affinity, parent, levels) / norm

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        norm, affinity, parent = ctx.saved_tensors
        return apply_kernel(grad / norm, affinity, parent, ctx.levels), None, None, None


def apply_kernel(values: Tensor, affinity: Tensor, parent: Tensor, levels: list[Tensor]) -> Tensor:
    """Return Σ_j K_ij y_j of (P, C) values: up from the leaves, then down from the root."""
    up = values.clone()
    for nodes in reversed(levels):
        up.index_add_(0, parent[nodes], affinity[nodes] * up[nodes])
    down = up.clone()
    for nodes in levels:
        a = affinity[nodes]
        down[nodes] = a * down[parent[nodes]] + (1 - a * a) * up[nodes]
    return down


def scipy_tree(rgb: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return the parents of one image's tree and its levels below the root."""
    height, width = rgb.shape[-2:]
    pixel = np.arange(height * width, dtype=np.int32).reshape(height, width)
    right, down = ((rgb[:, :, 1:] - rgb[:, :, :-1]) ** 2).sum(0), ((rgb[:, 1:] - rgb[:, :-1]) ** 2).sum(0)
    weights = 1 + torch.cat([right.flatten(), down.flatten()]).double().numpy()  # SciPy takes 0 for "no edge"
    starts = np.concatenate([pixel[:, :-1].ravel(), pixel[:-1].ravel()])
    ends = np.concatenate([pixel[:, 1:].ravel(), pixel[1:].ravel()])
    spanning = minimum_spanning_tree(coo_array((weights, (starts, ends)), shape=(pixel.size, pixel.size)).tocsr())
    order, parent = breadth_first_order(spanning, 0, directed=False)
    place = np.empty(pixel.size, dtype=np.int64)
    place[order] = np.arange(pixel.size)
    above = place[parent[order[1:]]]  # not decreasing: a level ends where the parents of the next begin
    bounds = [0, 1]
    while bounds[-1] < pixel.size:
        bounds.append(1 + int(np.searchsorted(above, bounds[-1])))
    parent[0] = 0
    nodes = torch.from_numpy(order.astype(np.int64))
    return torch.from_numpy(parent.astype(np.int64)), [nodes[a:b] for a, b in pairwise(bounds[1:])]


def scipy_levels(case: Case) -> Call:
    """Return the call of the plain way; colours alone."""
    probs, rgb, _, projection = inputs(case)
    filter_: Any = LevelFilter.apply

    def call() -> tuple[Tensor, ...]:
        filtered = []
        for values, colours in zip(probs, rgb, strict=True):
            parent, levels = scipy_tree(colours)
            points = colours.flatten(1).T / SIGMA_RGB
            affinity = torch.exp(-(points - points[parent]).square().sum(1, keepdim=True))
            filtered.append(filter_(values.flatten(1).T, affinity, parent, levels).T.view(values.shape))
        result = torch.stack(filtered)
        return result.detach(), *torch.autograd.grad(result, [probs], projection)

    return call


SIDES: dict[str, Maker] = {"compiled": ours("compiled"), "torch": ours("torch"), "scipy": scipy_levels}


def available(case: Case) -> list[str]:
    """Return the sides that are installed and that do the work of this case."""
    left_out = set() if record.installed("_tree") else {"compiled"}
    left_out |= {"scipy"} if case.features else set()
    return [name for name in SIDES if name not in left_out]


def check(case: Case) -> dict[str, dict[str, float]]:
    """Return each side's relative errors against float64, the definition itself for small maps.

    Raises:
        ArithmeticError: a backend is further off than ``TOLERANCE``.
    """
    truth = ours("reference" if case.size <= 24 else "torch", torch.float64)(case)()
    names = ("filtered", "scores", "features")[: len(truth)]
    found = {name: errors(SIDES[name](case)(), truth, names) for name in available(case)}
    record.demand({side: found[side] for side in found if side != "scipy"}, TOLERANCE, str(case))
    return found


def measure(case: Case, *, rounds: int, seconds: float, threads: int, memory: bool = True) -> dict[str, Any]:
    """Return one row: times, ratios, memory and errors of every side."""
    found = check(case)
    calls = {name: SIDES[name](case) for name in available(case)}
    row = record.row(case, calls, found, rounds=rounds, seconds=seconds, threads=threads)
    if memory:
        record.add_memory(row, "benchmarks.ops.tree", case, threads, SIDES)
    return row


def run(*, threads: int, rounds: int = 5, seconds: float = 0.15, quick: bool = False) -> dict[str, Any]:
    """Return all rows and curves; ``quick`` makes every map tiny, for tests."""
    cases, base, varied = CASES, BASE, CURVES
    if quick:
        cases, base = (Case(2, 3, 12), Case(1, 3, 12, features=2)), Case(1, 3, 12)
        varied = {"size": (8, 16), "features": (0, 1), "threads": (1,)}
    small = Case(2, base.classes, min(base.size, 24), features=4)
    return {
        "tolerance": TOLERANCE,
        "definition": {"case": str(small), "errors": check(small)},
        "rows": [measure(c, rounds=rounds, seconds=seconds, threads=threads, memory=not quick) for c in cases],
        "curves": record.curves(SIDES, available, base, varied, rounds=min(rounds, 2), seconds=seconds / 3, threads=threads),
    }


def targets(result: dict[str, Any]) -> list[Target]:
    """Return what was promised beside what a result says."""
    found = []
    for row in result["rows"]:
        if "compiled" in row["sides"] and row["sizes"] == asdict(Case(1, 21, 256)):
            found.append(
                Target(f"{row['case']}: tree, filter and gradient", row["sides"]["compiled"]["ms"][1], 60, False, "ms")
            )
    sizes = result["curves"]["size"]
    line = [(x * x, y[1]) for x, y in zip(sizes["x"], sizes["sides"].get("compiled", []), strict=False) if y is not None]
    if len(line) > 1:
        steepness = slope(*zip(*line, strict=True))
        sides = f"{sizes['x'][0]}² to {round(line[-1][0] ** 0.5)}²"
        found.append(Target(f"{sides}: exponent of the time's growth with pixels, from above", steepness, 1.1, False, ""))
        found.append(Target(f"{sides}: the same, from below", steepness, 0.9, True, ""))
    return found


if __name__ == "__main__":
    record.main("tree", run)
