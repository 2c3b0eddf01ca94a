"""The tree filter on a GPU: Triton against the portable backend, right first, then timed.

    python -m benchmarks.ops.tree_gpu [--rounds 30] [--out FILE]

Inputs as in benchmarks.ops.tree. Both filter along the same tree, whose making is a row of its own; a call is the filter and
the gradient of a random projection. Both are compared with the portable backend in float64 before they are timed, by CUDA
events and in turns.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import statistics
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.ops import record, tree
from benchmarks.ops.measure import RESULTS, Case, errors, quartiles
from benchmarks.ops.windowed_gpu import Call, extra_memory, times
from scribbleseg.atomic import write_text
from scribbleseg.ops.backends import why_not_triton
from scribbleseg.ops.tree import spanning_tree, tree_filter
from scribbleseg.provenance import provenance

CASES = (Case(1, 21, 256), Case(8, 21, 512), Case(8, 21, 512, features=32), Case(4, 4, 256))


def calls(case: Case, device: str, dtype: torch.dtype = torch.float32) -> dict[str, Call]:
    """Return the making of the tree and each backend's filter with its gradients."""
    probs, rgb, deep, projection = (x.detach().to(device) for x in tree.inputs(case))
    made = spanning_tree(rgb, backend="torch")
    probs, guide = probs.to(dtype).requires_grad_(), (deep if case.features else rgb / tree.SIGMA_RGB).to(dtype)
    guide.requires_grad_(case.features > 0)

    def filtered(backend: str) -> Call:
        def call() -> tuple[torch.Tensor, ...]:
            result = tree_filter(probs, guide, tree=made, backend=backend)
            wanted = [x for x in (probs, guide) if x.requires_grad]
            return result.detach(), *torch.autograd.grad(result, wanted, projection.to(dtype))

        return call

    return {"triton": filtered("triton"), "torch": filtered("torch"), "tree": partial(spanning_tree, rgb, backend="torch")}


def check(case: Case, device: str) -> dict[str, dict[str, float]]:
    """Return both backends' errors against the portable one in float64.

    Raises:
        ArithmeticError: one is larger than the tolerance, or no number.
    """
    expected, sides = calls(case, device, torch.float64)["torch"](), calls(case, device)
    names = ("filtered", "scores", "features")[: len(expected)]
    found = {name: errors(sides[name](), expected, names) for name in ("triton", "torch")}
    record.demand(found, tree.TOLERANCE, str(case))
    return found


def measure(case: Case, rounds: int) -> dict[str, Any]:
    """Check a case and time it."""
    found, sides = check(case, "cuda"), calls(case, "cuda")
    memory = {name: extra_memory(call) / 2**20 for name, call in sides.items()}
    ms = times(sides, rounds)
    rows = {name: {"ms": quartiles(ms[name]), "extra_mib": memory[name], "errors": found.get(name)} for name in sides}
    ratio = statistics.median(ms["torch"]) / statistics.median(ms["triton"])
    return {"case": str(case), "sizes": asdict(case), "sides": rows, "torch_over_triton": ratio}


def main() -> None:
    """Check, measure, print and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--out", type=Path, default=RESULTS / "tree_gpu.json")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("tree_gpu: there is no CUDA GPU here, nothing was measured")
    if (reason := why_not_triton(torch.device("cuda"))) is not None:
        sys.exit(f"tree_gpu: {reason}, nothing was measured")
    result: dict[str, Any] = {"op": "tree_gpu", "provenance": provenance(), "triton": importlib.metadata.version("triton")}
    result["rows"] = []
    for case in CASES:
        row = measure(case, arguments.rounds)
        result["rows"].append(row)
        ms = {name: round(side["ms"][1], 3) for name, side in row["sides"].items()}
        print(f"{case}: {ms} ms", flush=True)
        write_text(arguments.out, json.dumps(result, indent=1) + "\n")
    print(arguments.out)


if __name__ == "__main__":
    main()
