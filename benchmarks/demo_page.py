"""Writes what README shows of the demo: the picture and the table.

    scribbleseg demo --out demo
    python benchmarks/demo_page.py demo

The images are the first of the test split, not chosen.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from scribbleseg.atomic import atomic_path, write_text
from scribbleseg.data.folder import open_dataset
from scribbleseg.demo import METHODS
from scribbleseg.models.folder import load_model
from scribbleseg.palette import blend
from scribbleseg.predict import predict_mask
from scribbleseg.scores import read_scores

HERE = Path(__file__).parents[1]
PICTURE, README = HERE / "docs" / "images" / "demo.png", HERE / "README.md"
NUM_ROWS = 3


def picture(demo: Path) -> None:
    """Draw training strokes, and predictions on unseen images."""
    dataset = open_dataset(demo / "data")
    models = {title: load_model(demo / method) for method, title in METHODS.items()}
    figure = Figure(figsize=(9.0, 4.75), layout="constrained")
    FigureCanvasAgg(figure)
    columns = ["training image", "its scribbles", "unseen image", *METHODS.values(), "true mask"]
    axes = figure.subplots(NUM_ROWS, len(columns))
    for row, (seen, stem) in enumerate(zip(dataset.stems("train"), dataset.stems("test"), strict=False)):
        if row == NUM_ROWS:
            break
        known, rgb = dataset.rgb(seen), dataset.rgb(stem)
        strokes = np.full_like(known, 0.93)
        tiles = [known, blend(strokes, dataset.labels(seen, "scribbles"), 1.0), rgb]
        tiles += [blend(rgb, predict_mask(model, rgb), 0.7) for model in models.values()]
        tiles.append(blend(rgb, dataset.labels(stem, "masks"), 0.7))
        for axis, tile, title in zip(axes[row], tiles, columns, strict=True):
            axis.imshow(tile, interpolation="nearest")
            axis.set_axis_off()
            if row == 0:
                axis.set_title(title, fontsize=10)
    with atomic_path(PICTURE) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def table(demo: Path) -> str:
    """Return the scores as Markdown, with where they come from."""
    lines = ["| on unseen images | mIoU | border mIoU (5 px) | pixel accuracy |", "|---|---|---|---|"]
    for method, title in METHODS.items():
        s = read_scores(demo / method / "scores_test.json")
        lines.append(f"| {title} | {s['miou']:.3f} | {s['border_miou']:.3f} | {s['pixel_accuracy']:.3f} |")
    record = json.loads((demo / "dfr" / "run.json").read_text(encoding="utf-8"))
    machine = record["machine"]
    where = f"{machine['processor']}, {machine['cores']} cores, seed {record['seed']}, commit {record['commit']}"
    return "\n".join([*lines, "", f"`make demo` on {where}."])


def main() -> None:
    """Draw and write."""
    demo = Path(sys.argv[1])
    picture(demo)
    begin, end = "<!-- demo: begin -->", "<!-- demo: end -->"
    head, rest = README.read_text(encoding="utf-8").split(begin)
    write_text(README, f"{head}{begin}\n{table(demo)}\n{end}{rest.split(end)[1]}")
    print(PICTURE, README, sep="\n")


if __name__ == "__main__":
    main()
