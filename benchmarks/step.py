"""What the regularizers cost in a training step: Swin-T (random weights), UPerNet, two pictures of 512², 21 classes.

    python -m benchmarks.step [--size 512] [--batch 2] [--rounds 3] [--threads 2] [--peers-dir PEERS_DIR] [--out FILE]

A step is forward, backward and AdamW, with partial cross-entropy alone or with all of DFR's losses, in the precision that a
run takes here. A regularizer is timed from given scores and features to their gradients, in the same rounds as the step.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from benchmarks.ops import page, peers, record
from benchmarks.ops.measure import RESULTS, Call, errors, interleave, milliseconds, ratio
from benchmarks.ops.record import Target
from benchmarks.ops.windowed import TOLERANCE
from benchmarks.step_sides import Given, batch_of, features_of, given_by, objective_of, regularizer, step, unfold
from scribbleseg.config import ModelConfig
from scribbleseg.models.segmenter import Segmenter
from scribbleseg.training.run import has_bf16

CLASSES = 21
SWIN: dict[str, Any] = {"model_type": "swin", "image_size": 224, "window_size": 7}
SWIN_T = SWIN | {"embed_dim": 96, "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24]}
TINY = SWIN | {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2]}

STEP = "step, partial cross-entropy alone"

#: Memory of the unfold's forward and backward pass, in copies of the scores: about 250 are measured, see docs/performance.md.
UNFOLD_COPIES = 280

#: Largest share of a step, in %, that was promised of a whole regularizer.
PROMISED = 5


def backends() -> dict[str, str]:
    """Return the backends of the windowed energy that are here, and what the page calls them."""
    return ({"compiled": "compiled"} if record.installed("_windowed") else {}) | {"torch": "portable"}


def fits(scores: int) -> bool:
    """Say whether the unfold of so many scores fits into the memory that is free, where the system tells."""
    told = Path("/proc/meminfo")
    if not told.exists():
        return True
    free = next(line for line in told.read_text(encoding="utf-8").splitlines() if line.startswith("MemAvailable"))
    return 4 * scores * UNFOLD_COPIES < 1024 * int(free.split()[1])


def sides(given: Given) -> dict[str, Call]:
    """Return the regularizers and their parts, and the unfold: on the scores' grid, and as near to the images' as fits."""
    static, kernels = objective_of("static", "dynamic_feature"), objective_of("dfr", "dynamic_feature")
    whole, pairs = objective_of("dfr", "dynamic_feature", "feature_consistency"), objective_of("dfr", "feature_consistency")
    found: dict[str, Call] = {}
    for backend, name in backends().items():
        found[f"static kernel, {name}"] = regularizer(given, static, backend)
        found[f"DFR, {name}"] = regularizer(given, whole, backend, head=True)
        found[f"of it the two kernels, {name}"] = regularizer(given, kernels, backend)
    found["of it the pairs of the consistency loss"] = regularizer(given, pairs, "torch")
    found["of it the head that makes the features"] = features_of(given)
    if peers.has(peers.GATED_CRF):
        grid, size = given.logits.shape[-1], given.batch.rgb.shape[-1]
        while size > grid and not fits(given.logits.numel() * size**2 // grid**2):
            size //= 2
        found |= {f"WSL4MIS's unfold on {side}²": unfold(given, side) for side in sorted({grid, size})}
    return found


def check(given: Given) -> float:
    """Return the largest relative error of the kernels' value and gradient against float64, over the backends.

    Raises:
        ArithmeticError: it is larger than ``TOLERANCE``.
    """
    found = {}
    for method in ("static", "dfr"):
        objective = objective_of(method, "dynamic_feature")
        truth = regularizer(given, objective, "torch", double=True)()
        for backend in backends():
            found[f"{method}, {backend}"] = errors(regularizer(given, objective, backend)(), truth, ("value", "scores"))
    record.demand(found, TOLERANCE, "the batch")
    return max(error for each in found.values() for error in each.values())


def run(
    *, threads: int, rounds: int = 3, seconds: float = 0.15, size: int = 512, batch: int = 2, quick: bool = False
) -> dict[str, Any]:
    """Return the times of the step and of each regularizer, and their shares of the step; ``quick`` is tiny, for tests."""
    torch.manual_seed(0)
    segmenter = Segmenter(ModelConfig(backbone=TINY if quick else SWIN_T, decoder="upernet"), CLASSES)
    pictures = batch_of(batch, CLASSES, size)
    given = given_by(segmenter, pictures)
    worst = check(given)
    calls = {STEP: step(segmenter, pictures, "partial_ce"), "step, all of DFR": step(segmenter, pictures, "dfr")}
    times = interleave(calls | sides(given), rounds=rounds, seconds=seconds, threads=threads)
    return {
        "peers": {path: sha for path, sha in peers.found().items() if path == peers.GATED_CRF},
        "sizes": {"size": size, "batch": batch, "classes": CLASSES, "grid": given.logits.shape[-1]},
        "weights": sum(p.numel() for p in segmenter.parameters()),
        "precision": "bf16" if has_bf16() else "float32",
        "tolerance": TOLERANCE,
        "worst_error": worst,
        "sides": {name: {"ms": milliseconds(t), "share": ratio(t, times[STEP])} for name, t in times.items()},
    }


def targets(result: dict[str, Any]) -> list[Target]:
    """Return what was promised beside what a result says."""
    regularizers = [f"{what}, {name}" for name in ("compiled", "portable") for what in ("static kernel", "DFR")]
    shares = {name: 100 * result["sides"][name]["share"][1] for name in regularizers if name in result["sides"]}
    return [Target(f"{name}: share of a training step", share, PROMISED, False, "%") for name, share in shares.items()]


def tables(result: dict[str, Any]) -> list[str]:
    """Return the page's lines."""
    sizes = result["sizes"]
    words = (
        f"{sizes['batch']} × {sizes['size']}², {sizes['classes']} classes, scores and features on {sizes['grid']}²; "
        f"{result['weights'] / 1e6:.1f} million weights; the network in {result['precision']}. "
        f"The kernels against float64: {result['worst_error']:.0e} at most (bound {result['tolerance']:.0e})."
    )
    rows = [
        [name, page.spread(side["ms"]), page.spread([100 * share for share in side["share"]])]
        for name, side in result["sides"].items()
    ]
    return [words, "", *page.table(["what", "ms", "% of the step"], rows)]


if __name__ == "__main__":
    numbers = {"threads": 2, "rounds": 3, "seconds": 0.15, "size": 512, "batch": 2}
    record.main("step", run, numbers, RESULTS.parent)
