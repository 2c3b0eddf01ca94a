"""What was asked of a method, beside what it reached, and by how much it missed."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from scribbleseg.bench.scores import Result, Scores, ends, figure, gap_closed, values
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

    A point is a hundredth of the gap between the two ends. Seeds are averaged first.
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
    got = values(mine, target.method, _usual)
    gap = ends(mine, table.low, table.high, _usual)
    if not got or gap is None:
        return []
    asked = target.on(mine[0]["data"])
    reached = statistics.mean(got)
    rivals = {name: values(mine, name, _usual) for name in target.rivals}
    means = {name: statistics.mean(found) for name, found in rivals.items() if found}
    best = max(means, key=means.__getitem__, default=None)
    shares = {name: gap_closed(value, *gap) for name, value in {"": reached, **means}.items()}
    own = shares[""]
    cells = [where, target.method, _beside(None if own is None else 100 * own, asked.gap), f"≥ {asked.gap:g}"]
    rival = None if best is None else shares[best]
    lead = None if own is None or rival is None else 100 * (own - rival)
    cells += [(f"{best}: " if best else "") + _beside(lead, asked.lead), f"≥ {asked.lead:g}"]
    cells += [_beside(100 * reached / gap[1], asked.ratio, digits=1), f"≥ {asked.ratio:g}"]
    return ["| " + " | ".join(cells) + " |"]


def _usual(scores: Scores) -> float:
    return figure(scores)[1]


def _beside(value: float | None, asked: float, *, digits: int = 0) -> str:
    """Return a number, and what it lacks."""
    if value is None:
        return "–"
    if value >= asked:
        return f"{value:.{digits}f}"
    lack = f"{asked - value:.{digits}f}"
    return f"{value:.{digits}f}, {lack if float(lack) else f'less than {10**-digits:g}'} short"
