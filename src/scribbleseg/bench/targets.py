"""What was asked of a method, beside what it reached, and by how much it missed."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from scribbleseg.bench.scores import Result, Scores, alike, figure, rounded, shares, values
from scribbleseg.bench.table import Table, Target

HEADS = (
    "data, network",
    "method",
    "gap closed, %",
    "asked",
    "before the best of the rivals, points",
    "asked",
    "of full supervision, %",
    "asked",
)


def target_section(table: Table, results: Sequence[Result]) -> list[str]:
    """Return a line for each data set, network and method with a target, of the usual figure on test; nothing without any.

    A point is a hundredth of the gap between the two ends. Seeds are averaged first, those that all compared methods have.
    """
    lines = []
    for data in table.data:
        for network in table.networks:
            mine = [r for r in results if (r["data"], r["network"]) == (data, network) and "test" in r]
            for target in table.targets:
                lines += _line(table, target, mine, f"{data}, {network}")
    if not lines:
        return []
    rivals = list(dict.fromkeys(rival for target in table.targets for rival in target.rivals))
    return [
        "### What was asked, and what was reached",
        "",
        "A point is a hundredth of the gap. Rivals: " + "; ".join(rivals) + ".",
        "",
        "| " + " | ".join(HEADS) + " |",
        "|" + "---|" * len(HEADS),
        *lines,
        "",
    ]


def _line(table: Table, target: Target, mine: Sequence[Result], where: str) -> list[str]:
    """Return the line of a method, if it and both ends were measured."""
    same = alike(mine, target.method, table.low, table.high)
    if not same:
        return []
    asked = target.on(mine[0]["data"])
    own = _points(table, same, target.method)
    leads = {rival: lead for rival in target.rivals if (lead := _lead(table, mine, target.method, rival)) is not None}
    best = min(leads, key=leads.__getitem__, default=None)
    reached, full = (statistics.mean(values(same, method, _usual)) for method in (target.method, table.high))
    cells = [where, target.method, _beside(own, asked.gap), f"≥ {asked.gap:g}"]
    cells += [f"{best}: {_beside(leads[best], asked.lead)}" if best else "–", f"≥ {asked.lead:g}"]
    cells += [_beside(100 * reached / full, asked.ratio, digits=1), f"≥ {asked.ratio:g}"]
    return ["| " + " | ".join(cells) + " |"]


def _points(table: Table, mine: Sequence[Result], method: str) -> float | None:
    """Return the share of the gap, in hundredths."""
    found = shares(mine, method, table.low, table.high, _usual)
    return 100 * statistics.mean(found) if found else None


def _lead(table: Table, mine: Sequence[Result], method: str, rival: str) -> float | None:
    """Return by how many points a method is before a rival; None where they have no seed in common."""
    same = alike(mine, method, rival, table.low, table.high)
    one, other = (_points(table, same, name) for name in (method, rival))
    return None if one is None or other is None else one - other


def _usual(scores: Scores) -> float:
    return figure(scores)[1]


def _beside(value: float | None, asked: float, *, digits: int = 0) -> str:
    """Return a number, and what it lacks."""
    if value is None:
        return "–"
    reached = rounded(value, digits)
    if value >= asked:
        return reached
    lack = f"{asked - value:.{digits}f}"
    return f"{reached}, {lack if float(lack) else f'less than {10**-digits:g}'} short"
