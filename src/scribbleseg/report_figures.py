"""The pictures of a report: photographs and class overlays as data URIs, curves as inline SVG."""

from __future__ import annotations

import base64
import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image
from scipy import ndimage

from scribbleseg.data.folder import Dataset
from scribbleseg.errors import DataError
from scribbleseg.palette import class_colours
from scribbleseg.records import UNLABELLED

#: Largest width and height of a picture in the report, in pixels.
TILE_PX = (320, 480)

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


def tile_size(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return (width, height) at which an image of shape (H, W, …) is shown; never larger than it is."""
    height, width = shape[:2]
    factor = min(1.0, TILE_PX[0] / width, TILE_PX[1] / height)
    return max(1, round(width * factor)), max(1, round(height * factor))


def photo_uri(rgb: np.ndarray) -> str:
    """Return a picture, float (H, W, 3) in [0, 1], as a JPEG data URI."""
    picture = Image.fromarray((255 * rgb).round().clip(0, 255).astype(np.uint8))
    if (rgb[..., :1] == rgb).all():
        picture = picture.convert("L")
    buffer = io.BytesIO()
    picture.resize(tile_size(rgb.shape), Image.Resampling.LANCZOS).save(buffer, format="JPEG", quality=85, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def overlay_uri(labels: np.ndarray, num_classes: int, *, grow_px: int = 0) -> str:
    """Return labels (H, W) in class colours as a PNG data URI, see-through where they are 255.

    Args:
        labels: class ids and 255.
        num_classes: C, for the palette.
        grow_px: of the shown picture, by which labelled places grow into unlabelled ones, so that thin strokes are seen.
    """
    size = tile_size(labels.shape)
    if grow_px:
        labels = _grown(labels, grow_px * labels.shape[1] / size[0])
    picture = Image.fromarray(labels).resize(size, Image.Resampling.NEAREST)
    palette = np.zeros((256, 3), dtype=np.uint8)
    palette[:num_classes] = class_colours(num_classes)
    picture.putpalette(palette.tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", transparency=UNLABELLED, optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _grown(labels: np.ndarray, radius_px: float) -> np.ndarray:
    known = labels != UNLABELLED
    if not known.any():
        return labels
    distance, (rows, columns) = ndimage.distance_transform_edt(~known, return_indices=True)
    return np.where(distance <= radius_px, labels[rows, columns], labels).astype(np.uint8)


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
    with matplotlib.rc_context(_FONT):
        figure = Figure(figsize=(3.5, 2.1), layout="constrained")
        figure.patch.set_visible(False)
        canvas = FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        axes.patch.set_visible(False)
        for style, points in curves:
            x, y = zip(*points, strict=True)
            dot = "o" if len(points) <= 30 else None
            dashes = (0, style.dash) if style.dash else "-"
            axes.plot(x, y, color=style.colour, linestyle=dashes, linewidth=1.5, marker=dot, markersize=3.2)
        axes.set_xlabel("step (optimizer updates)", color=_PAGE_COLOUR)
        axes.set_ylabel(y_label, color=_PAGE_COLOUR)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.tick_params(colors=_PAGE_COLOUR, length=2.5)
        axes.grid(color=_PAGE_COLOUR, alpha=0.15, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(_PAGE_COLOUR)
        buffer = io.StringIO()
        canvas.print_svg(buffer, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return _inlined(buffer.getvalue(), name)


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


def case_tiles(dataset: Dataset, stem: str, predictions: Sequence[tuple[str, np.ndarray, float | None]]) -> dict[str, Any]:
    """Return an image and the tiles laid over it: scribbles where there are any, each run's prediction, truth.

    Args:
        dataset: with masks.
        stem: of the image.
        predictions: of each run its title, its mask and its score on this image.
    """
    rgb = dataset.rgb(stem)
    size = (rgb.shape[0], rgb.shape[1])
    truth, scribbles = dataset.labels(stem, "masks", size), _scribbles(dataset, stem, size)
    tiles = [] if scribbles is None else [_tile(dataset, stem, "scribbles", scribbles, strokes=True)]
    for k, (title, mask, score) in enumerate(predictions):
        tiles.append(_tile(dataset, stem, title, mask) | {"style": run_style(k), "score": score})
    tiles.append(_tile(dataset, stem, "truth", truth))
    width, height = tile_size(rgb.shape)
    return {"stem": stem, "photo": photo_uri(rgb), "width": width, "height": height, "tiles": tiles}


def _tile(dataset: Dataset, stem: str, caption: str, labels: np.ndarray, *, strokes: bool = False) -> dict[str, Any]:
    alt = f"{caption} of {stem}: {coverage(labels, dataset.names)}"
    uri = overlay_uri(labels, len(dataset.names), grow_px=int(strokes))
    return {"caption": caption, "alt": alt, "uri": uri, "strokes": strokes, "style": None, "score": None}


def _scribbles(dataset: Dataset, stem: str, size: tuple[int, int]) -> np.ndarray | None:
    """Return the strokes, or None where the image has no file of them."""
    try:
        dataset.listing.find(dataset.folder("scribbles"), stem)
    except DataError:
        return None
    return dataset.labels(stem, "scribbles", size)


def coverage(labels: np.ndarray, names: Sequence[str]) -> str:
    """Say in words which share of the labelled pixels the largest three classes take."""
    counts = np.bincount(labels.ravel(), minlength=256)[: len(names)]
    order = [k for k in np.argsort(-counts, kind="stable")[:3] if counts[k]]
    return ", ".join(f"{names[k]} {100 * counts[k] / counts.sum():.0f} %" for k in order) or "nothing labelled"
