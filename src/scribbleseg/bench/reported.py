"""What papers report, beside what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from scribbleseg.bench.scores import figure, values
from scribbleseg.bench.table import Reported, Table

HEADS = (
    *("method, network", "figure, %", "reported", "full supervision", "ratio"),
    *("here", "ratio here", "source", "what differs"),
)


def reported_section(table: Table, results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a table of the papers' numbers, in percent, each with this table's own and what differs; nothing without any.

    *Ratio* is the share of full supervision in the same source, which a stronger network does not change.
    """
    if not table.reported:
        return []
    lines = ["### What papers report", ""]
    lines += ["| " + " | ".join(HEADS) + " |", "|" + "---|" * len(HEADS)]
    for row in table.reported:
        here, ratio = measured(table, row, results)
        full = ["–", "–"] if row.full is None else [f"{row.full:g}", f"{row.value / row.full:.3f}"]
        cells = [row.title, row.score, f"{row.value:g}", *full, here, ratio, row.source, row.differs or "–"]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def measured(table: Table, row: Reported, results: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Return our own figure for a row, the best network's mean over data sets and seeds, and its share of full supervision."""
    best: tuple[float, str] | None = None
    for network in table.networks:
        mine = [r for r in results if r["network"] == network and row.data in (None, r["data"])]
        got, full = (values(mine, method, lambda s: figure(s)[1]) for method in (row.method or "", table.high))
        if got and (best is None or statistics.mean(got) > best[0]):
            best = statistics.mean(got), f"{statistics.mean(got) / statistics.mean(full):.3f}" if full else "–"
    return ("–", "–") if best is None else (f"{100 * best[0]:.1f}", best[1])
