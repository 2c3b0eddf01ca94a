"""Scores against a number that differs between data sets of a table: a picture and the table under it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scribbleseg.bench.picture import picture_path, svg
from scribbleseg.bench.scores import figure, shared, spread, values
from scribbleseg.bench.table import Curve, Table

#: Of lines: told apart without colour vision (Okabe & Ito), and by their marks without any colour.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKS = "osD^vPX"


def curve_section(table: Table, title: str, results: Sequence[Mapping[str, Any]], images: Path, name: str) -> list[str]:
    """Return a curve's part of a page, a picture and a table for each network; nothing where there is but one point."""
    curve, lines = table.curves[title], []
    for network in table.networks:
        mine = [r for r in results if r["network"] == network and r["data"] in curve.points.values() and "test" in r]
        if len({r["data"] for r in mine}) < 2:  # one point is no curve
            continue
        picture = picture_path(images, name, title, network)
        draw(table, curve, mine, picture)
        usual, _ = figure(mine[0]["test"])
        lines += [f"### {title}, {network}", "", shared(mine), ""]
        lines += [f"![{usual} against {curve.axis}, {network}](images/{picture.name})", ""]
        lines += [f"| {usual}, test; {curve.axis} |" + "".join(f" {x:g} |" for x in curve.points)]
        lines += ["|" + "---|" * (1 + len(curve.points))]
        for method in table.methods:
            row = [at(mine, data, method) for data in curve.points.values()]
            if any(row):
                lines.append(f"| {method} | " + " | ".join(spread(found) if found else "–" for found in row) + " |")
        lines.append("")
    return lines


def at(mine: Sequence[Mapping[str, Any]], data: str, method: str) -> list[float]:
    """Return the usual figure of every seed of a method at one point."""
    return values([r for r in mine if r["data"] == data], method, lambda s: figure(s)[1])


def draw(table: Table, curve: Curve, mine: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw every method's mean over seeds as a line, with its smallest and largest seed."""
    usual, _ = figure(mine[0]["test"])
    with svg(path, 6.4, 3.6) as axes:
        drawn = [m for m in table.methods if any(at(mine, data, m) for data in curve.points.values())]
        for n, method in enumerate(drawn):
            points = [(x, found) for x, data in curve.points.items() if (found := at(mine, data, method))]
            style: dict[str, Any] = {"color": COLOURS[n % len(COLOURS)], "marker": MARKS[n % len(MARKS)], "markersize": 5}
            axes.plot([x for x, _ in points], [statistics.mean(f) for _, f in points], label=method, **style)
            for x, found in points:
                axes.plot([x, x], [min(found), max(found)], color=style["color"], linewidth=1)
        axes.set_xlabel(curve.axis)
        axes.set_ylabel(f"{usual} on test")
        axes.set_xticks(list(curve.points))
        axes.grid(axis="y", color="0.9", linewidth=0.8)
        axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
