"""The share of the gap that each method closes, as a picture."""

from __future__ import annotations

import contextlib
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from scribbleseg.atomic import atomic_path
from scribbleseg.bench.scores import BORDER, columns, ends, gap_closed, values
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

    A dot is the mean over seeds, a line its smallest and largest seed; the ends of the gap are the seeds' means.
    """
    reads = columns(mine)
    usual = next(iter(reads))
    methods = [m for m in table.methods if m != table.low and values(mine, m, reads[usual])]
    gaps = {name: ends(mine, table.low, table.high, reads[name]) for name in (usual, BORDER)}
    if all(gap is None or gap_closed(0, *gap) is None for gap in gaps.values()):
        return False
    with svg(path, 7.2, 1.1 + 0.28 * len(methods)) as axes:
        for offset, (name, gap), colour in zip((-0.13, 0.13), gaps.items(), ("#0b6e99", "#b4641e"), strict=True):
            if gap is None or gap_closed(0, *gap) is None:
                continue
            for n, method in enumerate(methods):
                shares = [100 * (gap_closed(v, *gap) or 0.0) for v in values(mine, method, reads[name])]
                axes.plot([min(shares), max(shares)], [n + offset] * 2, color=colour, linewidth=1.5)
                label = None if n else name
                axes.plot(statistics.mean(shares), n + offset, "o", color=colour, markersize=5, label=label)
        axes.axvline(0, color="0.6", linewidth=0.8)
        axes.axvline(100, color="0.6", linewidth=0.8)
        axes.set_yticks(range(len(methods)), methods)
        axes.set_ylim(len(methods) - 0.5, -0.5)
        axes.set_xlabel(f"share of the gap from {table.low} (0) to {table.high} (100) on test, %")
        axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return True
