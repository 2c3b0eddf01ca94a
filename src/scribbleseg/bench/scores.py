"""Reading results: the usual figure, other scores, shares of the gap, paired tests, what rows have in common."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Result = Mapping[str, Any]
Scores = Mapping[str, Any]

BORDER = "border mIoU (5 px)"

#: Scores beside a data set's usual figure: heading and how to read it from a result's split.
COLUMNS: dict[str, Callable[[Scores], float]] = {
    "mIoU": lambda s: float(s["miou"]),
    BORDER: lambda s: float(s["border_miou"]),
    "pixel accuracy": lambda s: float(s["pixel_accuracy"]),
}

#: Gaps smaller than this are not divided by.
SMALLEST_GAP = 0.005


def figure(scores: Scores) -> tuple[str, float]:
    """Return a data set's usual figure and its value: Dice a volume where there are volumes, else mIoU."""
    if "volume_dice" in scores:
        return "Dice a volume", float(scores["volume_dice"]["foreground"])
    return "mIoU", float(scores["miou"])


def columns(mine: Sequence[Result]) -> dict[str, Callable[[Scores], float]]:
    """Return the scores of a table's columns, the usual figure first."""
    usual, _ = figure(mine[0]["val"])
    return {usual: lambda s: figure(s)[1]} | {name: read for name, read in COLUMNS.items() if name != usual}


def rounded(value: float, digits: int = 0) -> str:
    """Return a number with so many decimals, and never a -0."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def alike(mine: Sequence[Result], *methods: str) -> list[Result]:
    """Return the results on test of the seeds that all these methods have: a seed can move a score more than a method does."""
    seeds = set.intersection(*({r["seed"] for r in mine if r["method"] == m and "test" in r} for m in methods))
    return [r for r in mine if r["seed"] in seeds and "test" in r]


def values(mine: Iterable[Result], method: str, read: Callable[[Scores], float], split: str = "test") -> list[float]:
    """Return a score of every seed of a method."""
    return [read(r[split]) for r in mine if r["method"] == method and split in r]


def spread(numbers: Sequence[float]) -> str:
    """Return mean ± standard deviation, or the one value."""
    if len(numbers) == 1:
        return f"{numbers[0]:.3f}"
    return f"{statistics.mean(numbers):.3f} ± {statistics.stdev(numbers):.3f}"


def shares(mine: Sequence[Result], method: str, low: str, high: str, read: Callable[[Scores], float]) -> list[float]:
    """Return the share of the gap on test that each seed of a method closes, of those that both ends have as well.

    The ends are means over these seeds. Nothing where an end is missing or there is next to no gap.
    """
    same = alike(mine, method, low, high)
    if not same:
        return []
    bottom, top = (statistics.mean(values(same, end, read)) for end in (low, high))
    if top - bottom < SMALLEST_GAP:
        return []
    return [(value - bottom) / (top - bottom) for value in values(same, method, read)]


def paired(mine: Sequence[Result], one: str, other: str) -> tuple[float, float] | None:
    """Return the mean difference of two methods over the test cases and Wilcoxon's p; None where there is too little.

    A case is a volume or an image, its score a mean over the seeds that both methods have.
    """
    from scipy.stats import wilcoxon

    same = alike([r for r in mine if r.get("test", {}).get("per_case")], one, other)
    if not same:
        return None
    per_case = []
    for method in (one, other):
        cases = zip(*(r["test"]["per_case"] for r in same if r["method"] == method), strict=True)
        per_case.append([None if None in case else statistics.mean(case) for case in cases])
    differences = [a - b for a, b in zip(*per_case, strict=True) if a is not None and b is not None]
    if len(differences) < 6 or not any(differences):
        return None
    return statistics.mean(differences), float(wilcoxon(differences).pvalue)


def shared(mine: Sequence[Result]) -> str:
    """Return what all rows have in common, in a few sentences."""
    config = mine[0]["config"]
    training, data, model = config["training"], config["data"], config["model"]
    size = f"images {data['longest_px']} px long" if data["longest_px"] else "images of their own size"
    machines = sorted({_machine(r["provenance"]["machine"]) for r in mine})
    seeds = sorted({r["seed"] for r in mine})
    mark = f"**Protocol “{mine[0]['protocol']}”, not the whole table's.** " if mine[0]["protocol"] else ""
    pairs = " Shares of the gap and differences are over the seeds that both sides have." if len(seeds) > 1 else ""
    return (
        f"{mark}{training['max_steps']} steps of {training['batch_size']}; crops of {data['crop_px']} px from {size}, zoom "
        f"{data['scale'][0]} to {data['scale'][1]}; {backbone(model['backbone'])}, {model['decoder']} decoder. "
        f"Seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}. {'; '.join(machines)}. "
        f"Commits {', '.join(sorted({str(r['provenance']['commit']) for r in mine}))}.{pairs}"
    )


def _machine(found: Mapping[str, Any]) -> str:
    where = found["accelerator"] or f"{found['cores']} cores, no GPU, {found['threads']} thread a run"
    return f"{found['processor']}, {where}" + ("" if found.get("bf16", True) else ", float32 (no bf16 there)")


def backbone(source: str | Mapping[str, Any]) -> str:
    """Return a backbone in words."""
    if isinstance(source, str):
        return f"backbone {source}"
    sizes = ", ".join(f"{key} {value}" for key, value in source.items() if key in ("depths", "hidden_sizes", "stride"))
    return f"backbone {source['model_type']} from random weights ({sizes})"
