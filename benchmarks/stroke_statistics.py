"""How people's strokes and simulated ones measure up, drawn for the same masks.

    python -m benchmarks.stroke_statistics run DATA [--images 100] [--out FILE]
    python -m benchmarks.stroke_statistics write

``run`` measures the scribbles that people drew in DATA's ``acdc-scribble``, ``grabcut20-scribbles`` and ``medscribble``,
simulates every style from the same masks with a brush as wide as theirs, and measures those in the same way: as pixels, so
that a stroke is what hangs together. ``write`` puts the outcome into docs/explanation/simulation.md.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from scipy.sparse.csgraph import minimum_spanning_tree

from benchmarks.ops.page import put, table
from scribbleseg.atomic import atomic_path, write_text
from scribbleseg.data.folder import open_dataset
from scribbleseg.data.images import read_index, write_png
from scribbleseg.data.loader import evenly
from scribbleseg.data.simulate import STYLES
from scribbleseg.data.simulate.image import simulate
from scribbleseg.data.simulate.region import scikit_image
from scribbleseg.data.strokes import generator_for, graph_of, strokes_of
from scribbleseg.data.synthetic import make_image
from scribbleseg.data.vector import rasterise
from scribbleseg.palette import class_colours
from scribbleseg.provenance import provenance
from scribbleseg.records import UNLABELLED

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "stroke_statistics.json"
PAGE = ROOT / "docs" / "explanation" / "simulation.md"
IMAGES = ROOT / "docs" / "images"

#: Sets with people's scribbles, the folders of those, and how the set is called on the page.
SETS = {
    "acdc-scribble": (["scribbles"], "ACDC: hearts, one hand"),
    "grabcut20-scribbles": (["scribbles1", "scribbles2"], "GrabCut: photographs, two hands"),
    "medscribble": (["scribbles0", "scribbles1", "scribbles2"], "MedScribble: 12 medical tasks, three hands"),
}

#: Regions below this many pixels are left out, as the simulator leaves them out.
MIN_AREA = 150

PEOPLE = "people"

#: What a stroke or region is measured by, and its unit.
MEASURES = {
    "length": "length, √area",
    "strokes": "strokes in a region",
    "distance": "distance from the border, of the deepest",
    "width": "width, px",
}

#: Those by which a style is compared with people.
COMPARED = ("length", "strokes", "distance")

Lists = dict[str, dict[str, list[float]]]


def measure(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
    """Return quartiles and mean of each measure for objects and background (class 0), and shares, of scribbles and masks."""
    lists: Lists = {"objects": defaultdict(list), "background": defaultdict(list)}
    pixels = known_pixels = drawn_pixels = wrong = 0
    for scribbles, mask in pairs:
        known = (scribbles != UNLABELLED) & (mask != UNLABELLED)
        pixels += mask.size
        drawn_pixels += int((scribbles != UNLABELLED).sum())
        known_pixels += int(known.sum())
        wrong += int((scribbles != mask)[known].sum())
        add_strokes(lists, scribbles, mask)
    groups = {group: {name: summary(values) for name, values in found.items() if values} for group, found in lists.items()}
    return {**groups, "labelled": 100 * drawn_pixels / pixels, "wrong": 100 * wrong / max(known_pixels, 1)}


def add_strokes(lists: Lists, scribbles: np.ndarray, mask: np.ndarray) -> None:
    """Measure the strokes of an image. Those of which less than half lies on their class are counted as wrong only."""
    numbers, depth, areas = regions_of(mask)
    deepest = dict(zip(areas, np.atleast_1d(ndimage.maximum(depth, numbers, list(areas))), strict=True)) if areas else {}
    in_region: dict[int, int] = defaultdict(int)
    group_of: dict[int, str] = {}
    for label, own in strokes_of(scribbles):
        right = own[(mask.flat[own] == label) & (numbers.flat[own] > 0)]
        if len(right) < 0.5 * len(own):
            continue
        region = int(np.bincount(numbers.flat[right]).argmax())
        group_of[region] = group = "background" if label == 0 else "objects"
        in_region[region] += 1
        length = length_of(own, scribbles.shape)
        inside = right[numbers.flat[right] == region]
        lists[group]["length"].append(length / np.sqrt(areas[region]))
        lists[group]["width"].append(len(own) / length)
        lists[group]["distance"].append(float(depth.flat[inside].mean() / deepest[region]))
    for region, number in in_region.items():
        lists[group_of[region]]["strokes"].append(number)


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Return quartiles, mean and number."""
    quartiles = [round(float(q), 3) for q in np.quantile(values, [0.25, 0.5, 0.75])]
    return {"quartiles": quartiles, "mean": round(float(np.mean(values)), 3), "number": len(values)}


def regions_of(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[int, int]]:
    """Return the region of each pixel (0: none), its distance from the border, and the area of each region."""
    numbers, depth = np.zeros(mask.shape, int), np.zeros(mask.shape)
    areas: dict[int, int] = {}
    for label in np.unique(mask[mask != UNLABELLED]):
        inside = mask == label
        own, _ = ndimage.label(inside)
        depth[inside] = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1][inside]
        for number, area in enumerate(np.bincount(own.ravel())[1:], 1):
            if area >= MIN_AREA:
                areas[len(areas) + 1] = int(area)
                numbers[own == number] = len(areas)
    return numbers, depth, areas


def length_of(pixels: np.ndarray, shape: tuple[int, ...]) -> float:
    """Return the length of a stroke's middle line in px, all its branches; a dot is as long as a pixel."""
    row, column = np.unravel_index(pixels, shape)
    alone = np.zeros((np.ptp(row) + 3, np.ptp(column) + 3), bool)
    alone[row - row.min() + 1, column - column.min() + 1] = True
    thin = scikit_image("morphology").skeletonize(alone)
    graph = graph_of(np.where(thin, 0, UNLABELLED).astype(np.uint8))[2]
    return float(minimum_spanning_tree(graph).sum()) + 1


def run(data: Path, images: int, styles: Sequence[str], sets: Sequence[str] = tuple(SETS)) -> dict[str, Any]:
    """Measure people's strokes and every style's on the same masks."""
    made, found = provenance(0), dict[str, Any]()
    for name in sets:
        dataset = open_dataset(data / name)
        split = next(iter(dataset.spec.splits))
        stems = evenly(dataset.stems(split), images)
        masks = {stem: dataset.labels(stem, "masks") for stem in stems}
        people = measure(
            (read_index(dataset.listing.find(dataset.root / folder, stem).path), masks[stem])
            for folder in SETS[name][0]
            for stem in stems
        )
        width = max(1.0, round(2 * people["objects"]["width"]["quartiles"][1]) / 2)
        found[name] = {"images": len(stems), "split": split, "brush_px": width, PEOPLE: people}
        for style in styles:
            drawn = {s: simulate(masks[s], STYLES[style], generator_for(0, s, 3), width_px=width) for s in stems}
            found[name][style] = measure((rasterise(drawn[s], masks[s].shape), masks[s]) for s in stems)
            print(f"{name}: {style}, {off(found[name], style):.2f} × off", flush=True)
    return {"provenance": made, "styles": list(styles), "sets": found}


def off(one_set: Mapping[str, Any], style: str) -> float:
    """Return by which factor a style's strokes differ from people's, the geometric mean over ``COMPARED`` and both groups."""
    ratios = [
        abs(np.log(one_set[style][group][m]["mean"] / one_set[PEOPLE][group][m]["mean"]))
        for group in ("objects", "background")
        for m in COMPARED
    ]
    return float(np.exp(np.mean(ratios)))


def section(result: Mapping[str, Any]) -> list[str]:
    """Return the page's section: a picture and a table for each set."""
    made = result["provenance"]
    lines = [
        "![Every style on one picture](../images/simulated-styles.png)",
        "",
        "Simulated from the masks of sets in which people drew, with a brush as wide as theirs, and measured in the same way,",
        "as pixels: a stroke is what hangs together, its length that of its middle line, in √area of its region; its distance",
        "is its pixels' mean distance from the border, in that of the region's deepest pixel. Means over strokes (or regions);",
        "the picture has medians and quartiles. *Off* is the factor by which length, number and distance, of objects and of",
        "background, differ from people's: their geometric mean, 1 being none. What looks most like a hand's need not be the",
        "best to train on, and people draw for a purpose: see how far the three sets are apart.",
        "",
        "![Length, number and distance of strokes](../images/stroke-statistics.svg)",
        "",
    ]
    for name, one_set in result["sets"].items():
        lines += [f"**{SETS[name][1]}** ({one_set['images']} images, brush {one_set['brush_px']:g} px)", ""]
        heads = ["", "off", *(f"{g}: {m}" for g in ("objects", "background") for m in COMPARED), "labelled, %", "wrong, %"]
        order = [PEOPLE, *sorted(result["styles"], key=lambda style: off(one_set, style))]
        rows = [
            [
                source if source == PEOPLE else f"`{source}`",
                "–" if source == PEOPLE else f"{off(one_set, source):.2f}",
                *(f"{one_set[source][g][m]['mean']:.2f}" for g in ("objects", "background") for m in COMPARED),
                f"{one_set[source]['labelled']:.2f}",
                f"{one_set[source]['wrong']:.2f}",
            ]
            for source in order
        ]
        lines += [*table(heads, rows), ""]
    worst = max(one_set[PEOPLE]["wrong"] for one_set in result["sets"].values())
    lines += [
        f"People err: up to {worst:.1f} % of their stroke pixels have a wrong class in these sets, those of the simulator none "
        "(on thin vessels a hand misses by a pixel or two). `--wrong` mislabels whole strokes, which is another kind of error.",
        "",
        f"Commit {made['commit']}, {made['date'][:10]}; `python -m benchmarks.stroke_statistics`.",
    ]
    return lines


def write(result: Mapping[str, Any], page: Path, images: Path) -> None:
    """Write the section between its marks, and its pictures."""
    draw_statistics(result, images / "stroke-statistics.svg")
    draw_styles(result["styles"], images / "simulated-styles.png")
    write_text(page, put(page.read_text(encoding="utf-8"), "statistics", section(result)))


def draw_statistics(result: Mapping[str, Any], path: Path) -> None:
    """Draw medians and quartiles: a column for each set, a row for each measure, a line for people and each style."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    sources = [PEOPLE, *result["styles"]]
    with mpl.rc_context({"svg.hashsalt": "scribbleseg", "font.size": 8, "svg.fonttype": "path"}):
        sheet = Figure(figsize=(9, 7.5), layout="constrained")
        grid = sheet.subplots(len(COMPARED), len(result["sets"]), squeeze=False, sharey=True)
        for axes_row, name in zip(grid, COMPARED, strict=True):
            for axes, (set_name, one_set) in zip(axes_row, result["sets"].items(), strict=True):
                axes.axhspan(-0.5, 0.5, color="0.93")
                for shift, group, colour in ((-0.15, "objects", "#0072b2"), (0.15, "background", "#d55e00")):
                    for n, source in enumerate(sources):
                        low, middle, high = one_set[source][group][name]["quartiles"]
                        axes.plot([low, high], [n + shift] * 2, color=colour, linewidth=1.5)
                        axes.plot(middle, n + shift, "o", color=colour, markersize=4, label=None if n else group)
                    axes.axvline(one_set[PEOPLE][group][name]["quartiles"][1], color=colour, linewidth=0.6, linestyle=":")
                axes.set_yticks(range(len(sources)), sources)
                axes.set_ylim(len(sources) - 0.5, -0.5)
                axes.set_xlabel(MEASURES[name])
                axes.spines[["top", "right"]].set_visible(False)
                if name == COMPARED[0]:
                    axes.set_title(SETS[set_name][1].split(":")[0], fontsize=9)
        grid[0][-1].legend(frameon=False, loc="lower right")
        with atomic_path(path) as temporary:
            sheet.savefig(temporary, format="svg", metadata={"Date": None}, facecolor="white")


def draw_styles(styles: Sequence[str], path: Path, size: int = 200, columns: int = 4) -> None:
    """Draw every style on one made-up picture."""
    from PIL import Image, ImageDraw

    picture, mask = make_image(np.random.default_rng(9), size)
    tints = class_colours(4)
    tiles = []
    for style in styles:
        labels = rasterise(simulate(mask, STYLES[style], generator_for(1, "picture", 3), width_px=3.0), mask.shape)
        tile = (0.6 * picture).astype(np.uint8)
        edge = np.zeros(mask.shape, bool)
        edge[:, 1:] |= mask[:, 1:] != mask[:, :-1]
        edge[1:] |= mask[1:] != mask[:-1]
        tile[edge] = 255
        tile[labels != UNLABELLED] = tints[labels[labels != UNLABELLED]]
        framed = Image.new("RGB", (size + 8, size + 24), "white")
        framed.paste(Image.fromarray(tile), (4, 20))
        ImageDraw.Draw(framed).text((6, 4), style, fill="black")
        tiles.append(np.asarray(framed))
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % columns)
    write_png(path, np.concatenate([np.concatenate(tiles[n : n + columns], 1) for n in range(0, len(tiles), columns)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "write"])
    parser.add_argument("data", type=Path, nargs="?", default=Path("data"))
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    if given.what == "run":
        write_text(given.out, json.dumps(run(given.data, given.images, sorted(STYLES)), indent=1) + "\n")
    else:
        write(json.loads(given.out.read_text(encoding="utf-8")), PAGE, IMAGES)


if __name__ == "__main__":
    main()
