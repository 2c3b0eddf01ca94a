"""The curves of a report, as inline SVG in the page's own colours."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from scribbleseg.errors import DataError

#: A curve of more points than this is drawn as means of neighbouring ones.
MAX_POINTS = 60

#: Okabe and Ito's colours, those that stand out on white and on black first.
_RUN_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")

#: Line patterns as SVG dash lengths; they tell runs apart where colour does not.
_RUN_DASHES = ((), (5.0, 2.0), (1.5, 1.5), (6.0, 1.5, 1.5, 1.5))

#: Colour that is drawn where the page's own text colour is wanted.
_PAGE_COLOUR = "#010203"

_FONT = {"svg.fonttype": "none", "svg.hashsalt": "scribbleseg", "font.size": 8.5, "axes.unicode_minus": True}


@dataclass(frozen=True)
class Style:
    """How a run is drawn throughout the page: a colour, and a dash pattern in widths of the line."""

    colour: str
    dash: tuple[float, ...]

    @property
    def dasharray(self) -> str:
        """The pattern as the SVG attribute, as long as it comes out in the curves."""
        return " ".join(f"{2 * length:g}" for length in self.dash)


def run_style(index: int) -> Style:
    """Return the style of the n-th run: six colours, then the same with the next pattern."""
    return Style(_RUN_COLOURS[index % len(_RUN_COLOURS)], _RUN_DASHES[index % len(_RUN_DASHES)])


def read_history(path: Path) -> dict[str, list[tuple[float, float]]]:
    """Return (step, value) by column of a ``metrics.csv``; empty cells and values that are not finite are left out."""
    history: dict[str, list[tuple[float, float]]] = {}
    if not path.is_file():
        return history
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                for key, text in row.items():
                    if key and key not in ("step", "epoch") and text and math.isfinite(float(text)):
                        history.setdefault(key, []).append((float(row["step"]), float(text)))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(path, "the CSV file that `train` wrote", str(error), "restore or remove it") from None
    return history


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return at most ``MAX_POINTS`` points, each the mean of as many neighbours as needed."""
    share = math.ceil(len(points) / MAX_POINTS)
    groups = [points[k : k + share] for k in range(0, len(points), share or 1)]
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]


def curve_svg(curves: Sequence[tuple[Style, Sequence[tuple[float, float]]]], y_label: str, name: str) -> str:
    """Draw values by step as an ``<svg>`` element in the page's own text colour, without text from outside.

    Args:
        curves: of each run its style and its points (step, value).
        y_label: with its unit.
        name: put before every id in the picture, so that several fit in one page.
    """
    with _axes(name) as (axes, svg):
        for style, points in curves:
            x, y = zip(*points, strict=True)
            dot = "o" if len(points) <= 30 else None
            axes.plot(x, y, color=style.colour, linestyle=_line(style), linewidth=1.5, marker=dot, markersize=3.2)
        axes.set_xlabel("step (optimizer updates)", color=_PAGE_COLOUR)
        axes.set_ylabel(y_label, color=_PAGE_COLOUR)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4))
    return svg[0]


def reliability_panel(runs: Sequence[tuple[str, Mapping[str, Any] | None]]) -> dict[str, Any] | None:
    """Return the panel that shows accuracy by confidence, with the diagonal of a network that knows; None without any run's.

    Args:
        runs: of each its title and the ``calibration`` of its scores.
    """
    known = [(title, run_style(k), bins) for k, (title, bins) in enumerate(runs) if bins is not None]
    if not known:
        return None
    with _axes("reliability") as (axes, svg):
        axes.plot([0, 1], [0, 1], color=_PAGE_COLOUR, alpha=0.4, linewidth=1)
        for _, style, bins in known:
            points = [(x, y) for x, y in zip(bins["confidence"], bins["accuracy"], strict=True) if x is not None]
            x, y = zip(*points, strict=True)
            axes.plot(x, y, color=style.colour, linestyle=_line(style), linewidth=1.5, marker="o", markersize=3.2)
        axes.set(xlim=(0, 1), ylim=(0, 1))
        axes.set_xlabel("confidence (mean probability of the predicted class)", color=_PAGE_COLOUR)
        axes.set_ylabel("accuracy (share that is right)", color=_PAGE_COLOUR)
    ends = "calibration error: " + ", ".join(f"{title} {bins['ece']:.3f}" for title, _, bins in known)
    return {"caption": "Reliability", "svg": Markup(svg[0]), "ends": ends}


def _line(style: Style) -> Any:
    return (0, style.dash) if style.dash else "-"


@contextmanager
def _axes(name: str) -> Iterator[tuple[Axes, list[str]]]:
    """Yield axes to draw on, and a list that has their ``<svg>`` once the block is left."""
    svg: list[str] = []
    with matplotlib.rc_context(_FONT):
        figure = Figure(figsize=(3.5, 2.1), layout="constrained")
        figure.patch.set_visible(False)
        canvas = FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        axes.patch.set_visible(False)
        yield axes, svg
        axes.tick_params(colors=_PAGE_COLOUR, length=2.5)
        axes.grid(color=_PAGE_COLOUR, alpha=0.15, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(_PAGE_COLOUR)
        buffer = io.StringIO()
        canvas.print_svg(buffer, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    svg.append(_inlined(buffer.getvalue(), name))


def _inlined(svg: str, name: str) -> str:
    """Cut what belongs to a file of its own, and make ids unique and the size free."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\s(?:xmlns(?::\w+)?|width|height|version)="[^"]*"', "", svg[: svg.index(">")]) + svg[svg.index(">") :]
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    return svg.replace("<svg", '<svg aria-hidden="true" focusable="false"', 1).replace(_PAGE_COLOUR, "currentColor")


def curve_panels(runs: Sequence[tuple[str, Mapping[str, Sequence[tuple[float, float]]]]]) -> list[dict[str, Any]]:
    """Return a panel a loss, the weighted total after them, the validation score last.

    Args:
        runs: of each its title, and (step, value) by column of its ``metrics.csv``.
    """
    columns = dict.fromkeys(c for _, history in runs for c in history if c.startswith("train/") and c != "train/total")
    captions = {c: c.removeprefix("train/").replace("_", " ") for c in columns}
    captions |= {"train/total": "total of the weighted losses", "val/miou": "validation mIoU"}
    panels = []
    for n, (column, caption) in enumerate(captions.items()):
        curves = [(title, run_style(k), history[column]) for k, (title, history) in enumerate(runs) if column in history]
        if not curves:
            continue
        validates = column == "val/miou"
        drawn = [(style, points if validates else thinned(points)) for _, style, points in curves]
        svg = curve_svg(drawn, "mIoU (0 to 1)" if validates else "loss (no unit)", f"curve{n}")
        ends = "at the end: " + ", ".join(f"{title} {points[-1][1]:.3f}" for title, _, points in curves)
        panels.append({"caption": caption, "svg": Markup(svg), "ends": ends})
    return panels
