"""The fully connected Gaussian against rloss's lattice: time, memory, and both errors against all pairs.

    python -m benchmarks.ops.dense [--threads 2] [--peers-dir PEERS_DIR] [--out FILE]

DenseCRF's kernel on pictures of patches: position 50 px at 256², colour 15/255, and deep features (0.4) where there are
any. One call is the energy and its gradient: for the scores and, with deep features, for those too. An approximation is
held against the exact sum; each backend of it against the portable one, in float64 (the lattice's in float32).
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.ops import peers, record
from benchmarks.ops.measure import Call, Case, Maker, errors, relative_distance
from benchmarks.ops.record import Target
from benchmarks.ops.scene import scene
from scribbleseg.ops.dense import dense_energy, dense_forms

#: The position's width is a share of the map, so that a smaller map is the same picture seen from afar.
SIGMA_SHARE, SIGMA_RGB, SIGMA_FEATURE = 50 / 256, 15 / 255, 0.4

#: Largest relative error of the value and of a gradient entry that a backend may show against its method in float64. (The
#: portable backend takes distances from one matrix product, and the gradient by 32 features shows it.)
TOLERANCE = 5e-5

#: Largest maps of the sides that take seconds on larger ones.
LARGEST = {"exact": 128, "exact_torch": 64, "lattice_torch": 64}

#: rloss's lattice is not to scale; a loss's weight takes that up, so its error is stated without it as well.
SCALED = "rloss, times the best constant"

#: The one case that is compared with float64 at full size; the others are at 128².
MAIN = Case(1, 21, 256)

#: The lattice's cost grows with the square of the guide's width where the guide gets a gradient: it is for narrow ones.
WIDEST_LATTICE = 4

CASES: tuple[Case, ...] = (Case(1, 4, 256), MAIN, Case(4, 21, 256), Case(1, 21, 256, features=32))
#: Where approximations are held against the exact sum.
ERROR_CASES: tuple[Case, ...] = (Case(1, 21, 64), Case(1, 21, 64, features=32))
BASE = Case(1, 21, 128)
CURVES: dict[str, tuple[int, ...]] = {
    "size": (32, 64, 128, 256, 512, 1024),
    "classes": (2, 4, 8, 21, 64, 150),
    "features": (0, 4, 8, 16, 32, 64),
    "batch": (1, 2, 4, 8),
    "threads": (1, 2),
}


def inputs(case: Case, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Return scores (a leaf), colours, and deep features of unit length that follow the scores (a leaf if there are any)."""
    probs, rgb = scene(case.batch, case.classes, case.size)
    rng = torch.Generator().manual_seed(1)
    mix = torch.randn(case.features, case.classes, generator=rng)
    deep = torch.einsum("dc,bchw->bdhw", mix, torch.nn.functional.avg_pool2d(probs, 5, 1, 2))
    deep = torch.nn.functional.normalize(deep, dim=1)
    return probs.to(dtype).requires_grad_(), rgb.to(dtype), deep.to(dtype).requires_grad_(case.features > 0)


def guide_of(rgb: Tensor, deep: Tensor) -> Tensor:
    """Return position, colour and deep features, each over its sigma."""
    side = rgb.shape[-1]
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    place = (torch.stack([x, y]).to(rgb.dtype) / (SIGMA_SHARE * side)).expand(rgb.shape[0], -1, -1, -1)
    return torch.cat([place, rgb / SIGMA_RGB, deep / SIGMA_FEATURE], 1)


def ours(method: str, backend: str, dtype: torch.dtype = torch.float32) -> Maker:
    """Return the maker of a call: the energy, and its gradients for scores and deep features."""

    def make(case: Case) -> Call:
        probs, rgb, deep = inputs(case, dtype)
        wanted = [probs, deep] if case.features else [probs]

        def call() -> tuple[Tensor, ...]:
            value = dense_energy(probs, guide_of(rgb, deep), method=method, backend=backend)
            return value.detach(), *torch.autograd.grad(value, wanted)

        return call

    return make


def rloss(case: Case) -> Call:
    """Return rloss's call, with its copies to numpy and back; it counts neither the constant nor the negative sign."""
    probs, rgb, _ = inputs(case)

    def call() -> tuple[Tensor, ...]:
        value = peers.dense_crf(probs, rgb, SIGMA_RGB, SIGMA_SHARE * case.size)
        return value.detach(), *torch.autograd.grad(value.sum(), [probs])

    return call


#: Method and backend of our sides.
OURS = {
    "low_rank": ("low_rank", "compiled"),
    "low_rank_torch": ("low_rank", "torch"),
    "lattice": ("lattice", "compiled"),
    "lattice_torch": ("lattice", "torch"),
    "exact": ("exact", "compiled"),
    "exact_torch": ("exact", "torch"),
}
SIDES: dict[str, Maker] = {name: ours(*how) for name, how in OURS.items()} | {"rloss": rloss}


def available(case: Case) -> list[str]:
    """Return the sides that are installed and that do the work of this case."""
    there = record.installed("_dense")
    found = [name for name, (_, backend) in OURS.items() if there or backend != "compiled"]
    found = [name for name in found if case.size <= LARGEST.get(name, case.size)]
    if case.features > WIDEST_LATTICE:
        found = [name for name in found if OURS[name][0] != "lattice"]
    return [*found, "rloss"] if peers.has(peers.DENSE_CRF) and not case.features else found


def check(case: Case) -> dict[str, dict[str, float]]:
    """Return each of our sides' relative errors against its method in float64; the lattice's against the portable backend.

    Which points a lattice has depends on the last bit of the guide, so that its backends can be compared in one precision
    alone: they must make the same points of the same guide.

    Raises:
        ArithmeticError: a backend is further off than ``TOLERANCE``.
    """
    found: dict[str, dict[str, float]] = {}
    truths: dict[str, tuple[Tensor, ...]] = {}
    for name in available(case):
        if name not in OURS:
            continue
        method = OURS[name][0]
        if method not in truths:
            small = method == "exact" and case.batch * case.size**2 <= 2048
            precision = torch.float32 if method == "lattice" else torch.float64
            truths[method] = ours(method, "reference" if small else "torch", precision)(case)()
        names = ("value", "scores", "features")[: len(truths[method])]
        found[name] = errors(SIDES[name](case)(), truths[method], names)
    record.demand(found, TOLERANCE, str(case))
    return found


def approximations(case: Case) -> dict[str, Any]:
    """Return each method's error against all pairs in float64: of Σ A_ij p_i·p_j, and of its gradient (2-norms)."""
    probs, rgb, deep = inputs(case)

    def forms(method: str, dtype: torch.dtype) -> tuple[Tensor, ...]:
        scores, features = (x.detach().to(dtype).requires_grad_() for x in (probs, deep))
        guide = guide_of(rgb.to(dtype), features)
        value = dense_forms(scores, guide, method=method).association.sum()
        return value.detach(), *torch.autograd.grad(value, [scores, features] if case.features else [scores])

    def apart(found: tuple[Tensor, ...], truth: tuple[Tensor, ...]) -> dict[str, float]:
        names = ("energy", "scores", "features")
        return {name: relative_distance(f, t) for name, f, t in zip(names, found, truth, strict=False)}

    truth = forms("exact", torch.float64)
    methods = ("low_rank", "lattice") if case.features <= WIDEST_LATTICE else ("low_rank",)
    sides = {method: apart(forms(method, torch.float32), truth) for method in methods}
    if peers.has(peers.DENSE_CRF) and not case.features:
        value, gradient = rloss(case)()
        theirs = (-case.batch * value.sum(), -case.batch * gradient)
        sides["rloss"] = apart(theirs, truth)
        scale = (theirs[1] * truth[1]).sum() / theirs[1].square().sum()
        sides[SCALED] = apart((scale * theirs[0], scale * theirs[1]), truth)
    return {"case": str(case), "sizes": asdict(case), "sides": sides}


def measure(case: Case, *, rounds: int, seconds: float, threads: int, memory: bool = True) -> dict[str, Any]:
    """Return one row: times, ratios, memory and errors of every side."""
    found = check(case if case == MAIN else replace(case, size=min(case.size, 128)))
    calls = {name: SIDES[name](case) for name in available(case)}
    row = record.row(case, calls, found, rounds=rounds, seconds=seconds, threads=threads)
    if memory:
        record.add_memory(row, "benchmarks.ops.dense", case, threads, SIDES)
    return row


def run(*, threads: int, rounds: int = 5, seconds: float = 0.15, quick: bool = False) -> dict[str, Any]:
    """Return all rows, curves and errors of approximation; ``quick`` makes every map tiny, for tests."""
    cases, base, varied, error_cases = CASES, BASE, CURVES, ERROR_CASES
    if quick:
        cases = error_cases = (Case(2, 3, 12), Case(1, 3, 12, features=2))
        base = Case(1, 3, 12)
        varied = {"size": (8, 16), "features": (0, 1), "threads": (1,)}
    small = Case(2, base.classes, min(base.size, 32), features=4)
    return {
        "tolerance": TOLERANCE,
        "definition": {"case": str(small), "errors": check(small)},
        "approximations": [approximations(c) for c in error_cases],
        "rows": [measure(c, rounds=rounds, seconds=seconds, threads=threads, memory=not quick) for c in cases],
        "curves": record.curves(SIDES, available, base, varied, rounds=min(rounds, 2), seconds=seconds / 3, threads=threads),
    }


def targets(result: dict[str, Any]) -> list[Target]:
    """Return what was promised beside what a result says; a row without its peer is left out."""
    found = []
    for row in result["rows"]:
        for name in ("low_rank", "lattice"):
            if row["sizes"]["classes"] == 21 and {name, "rloss"} <= row["sides"].keys():
                times = row["sides"]["rloss"]["to_first"][1] / row["sides"][name]["to_first"][1]
                found.append(
                    Target(f"{row['case']}: {name.replace('_', ' ')} faster than rloss's lattice with its copies", times, 3)
                )
    for each in result["approximations"]:
        sides = each["sides"]
        for name in ("low_rank", "lattice") if SCALED in sides else ():
            for what, words in (("energy", "energy"), ("scores", "gradient")):
                text = f"{each['case']}: {name}, error of the {words}, against {SCALED}"
                found.append(Target(text.replace("_", " "), sides[name][what], sides[SCALED][what], False, ""))
    return found


def extra_tables(result: dict[str, Any]) -> list[tuple[list[str], list[list[str]]]]:
    """Return the table of approximations: headings and cells."""
    lines = []
    for each in result["approximations"]:
        for i, (name, side) in enumerate(each["sides"].items()):
            cells = [f"{side[key]:.1e}" if key in side else "–" for key in ("energy", "scores", "features")]
            lines.append([each["case"] if i == 0 else "", name, *cells])
    return [(["map", "approximation", "energy", "gradient by scores", "gradient by features"], lines)]


if __name__ == "__main__":
    record.main("dense", run)
