"""The share of the gap that each method closes, as a picture."""

from __future__ import annotations

import contextlib
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from scribbleseg.atomic import atomic_path
from scribbleseg.bench.scores import BORDER, columns, shares
from scribbleseg.bench.table import Table


def picture_path(images: Path, *names: str) -> Path:
    """Return the file of a picture that is named after several things."""
    return images / (re.sub(r"[^\w.-]+", "_", "--".join(names)) + ".svg")


@contextlib.contextmanager
def svg(path: Path, width: float, height: float) -> Iterator[Any]:
    """Yield the axes of a picture, sizes in inches, that is written when the block ends well; the same for the same numbers."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "scribbleseg", "font.size": 9, "svg.fonttype": "path"}):
        sheet = Figure(figsize=(width, height), layout="constrained")
        axes = sheet.subplots()
        yield axes
        axes.spines[["top", "right"]].set_visible(False)
        with atomic_path(path) as temporary:
            sheet.savefig(temporary, format="svg", metadata={"Date": None}, facecolor="white")


def gap_picture(table: Table, mine: Sequence[Mapping[str, Any]], path: Path) -> bool:
    """Draw every method's share of the gap on test, of the usual figure and at the borders; say whether there was any.

    A dot is the mean over seeds, a line its smallest and largest seed; see ``scores.shares``.
    """
    reads = columns(mine)
    usual = next(iter(reads))
    others = [m for m in table.methods if m != table.low]
    closed = {name: {m: shares(mine, m, table.low, table.high, reads[name]) for m in others} for name in (usual, BORDER)}
    methods = [m for m in others if any(found[m] for found in closed.values())]
    if not methods:
        return False
    with svg(path, 7.2, 1.1 + 0.28 * len(methods)) as axes:
        for (name, found), offset, colour in zip(closed.items(), (-0.13, 0.13), ("#0b6e99", "#b4641e"), strict=True):
            rows = [(n + offset, [100 * x for x in found[m]]) for n, m in enumerate(methods) if found[m]]
            for y, seeds in rows:
                axes.plot([min(seeds), max(seeds)], [y, y], color=colour, linewidth=1.5)
            if rows:
                means = [statistics.mean(seeds) for _, seeds in rows]
                axes.plot(means, [y for y, _ in rows], "o", color=colour, markersize=5, label=name)
        axes.axvline(0, color="0.6", linewidth=0.8)
        axes.axvline(100, color="0.6", linewidth=0.8)
        axes.set_yticks(range(len(methods)), methods)
        axes.set_ylim(len(methods) - 0.5, -0.5)
        axes.set_xlabel(f"share of the gap from {table.low} (0) to {table.high} (100) on test, %")
        axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return True
