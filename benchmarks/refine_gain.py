"""What refinement adds to a trained model, on pictures that no choice was made on but this one.

    python -m benchmarks.refine_gain run --run RUN [--run RUN …] [--data DATASET …] [--split val] [--most 0]
    python -m benchmarks.refine_gain write

``run`` predicts a split once for each model and scores the probabilities as they are and refined by every method. Differences
are paired: the same pictures in every resampled set. Rows of other runs in the JSON file stay; ``write`` puts all of them into
docs/how-to/refine.md. Without ``--data`` a run's own data set is taken.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.ops.page import put, table
from scribbleseg.atomic import write_text
from scribbleseg.config import load_record
from scribbleseg.data.folder import open_dataset
from scribbleseg.metrics import counts
from scribbleseg.metrics.bootstrap import Replicates, interval
from scribbleseg.metrics.image import BORDER_PX
from scribbleseg.models.folder import load_model
from scribbleseg.predict import probabilities
from scribbleseg.provenance import provenance
from scribbleseg.records import UNLABELLED
from scribbleseg.refine import REFINEMENTS, refined

ROOT = Path(__file__).parents[1]
RESULT, PAGE = ROOT / "benchmarks" / "results" / "refine_gain.json", ROOT / "docs" / "how-to" / "refine.md"

PLAIN = "none"


class Counts:
    """Confusion of a split as it is, near borders, and resampled."""

    def __init__(self, num_classes: int) -> None:
        self.whole, self.near = np.zeros((2, num_classes, num_classes), np.int64)
        self.resampled, self.near_resampled = Replicates(num_classes), Replicates(num_classes)
        self.seconds = 0.0

    def add(self, unit: str, truth: np.ndarray, prediction: np.ndarray) -> None:
        number = len(self.whole)
        found = counts.confusion_matrix(truth, prediction, number)
        border = np.where(counts.near_border(truth, BORDER_PX), truth, UNLABELLED)
        near = counts.confusion_matrix(border, prediction, number)
        self.whole += found
        self.near += near
        self.resampled.add(unit, found)
        self.near_resampled.add(unit, near)

    def scores(self) -> dict[str, tuple[float, np.ndarray]]:
        """Return score and its resampled values, by name."""
        pairs = {"miou": (self.whole, self.resampled), "border_miou": (self.near, self.near_resampled)}
        return {name: (counts.mean_present(counts.iou(c)), r.scores()["miou"]) for name, (c, r) in pairs.items()}


def measure(run: Path, data: Path | None, split: str, most: int) -> dict[str, Any]:
    """Return the row of one trained model."""
    root = data if data is not None else Path(load_record(run).data.root or "")
    dataset, model = open_dataset(root), load_model(run)
    assert model.names == dataset.names, f"{run} is of other classes than {root}"
    stems = dataset.stems(split)
    stems = stems[:: max(1, len(stems) // most)][:most] if most else stems
    found = {name: Counts(len(model.names)) for name in (PLAIN, *REFINEMENTS)}
    for stem in stems:
        rgb, truth = dataset.rgb(stem, model.reading), dataset.labels(stem, "masks")
        began = time.process_time()
        plain = probabilities(model, rgb)
        found[PLAIN].seconds += time.process_time() - began
        for name, each in found.items():
            began = time.process_time()
            with torch.inference_mode():
                probs = plain if name == PLAIN else refined(name, plain, rgb)
            each.seconds += time.process_time() - began if name != PLAIN else 0
            each.add(dataset.volume_of(stem) or stem, truth, probs.argmax(0).to(torch.uint8).numpy())
    before = found[PLAIN].scores()
    methods: dict[str, Any] = {}
    for name, each in found.items():
        scores = each.scores()
        row: dict[str, Any] = {"s_per_image": each.seconds / len(stems)} | {key: value for key, (value, _) in scores.items()}
        if name != PLAIN:
            for key, (value, sets) in scores.items():
                gain = {"difference": value - before[key][0], "interval": list(interval(sets - before[key][1]))}
                row[f"{key}_gain"] = gain
        methods[name] = row
    return {"data": dataset.root.resolve().name, "run": run.name, "split": split, "images": len(stems), "methods": methods}


def lines(result: dict[str, Any]) -> list[str]:
    """Return the page's lines."""

    def gain(row: dict[str, Any], key: str) -> str:
        told = row.get(f"{key}_gain")
        if told is None:
            return "–"
        low, high = told["interval"]
        clear = "**" if low > 0 or high < 0 else ""
        return f"{clear}{told['difference']:+.3f}{clear} ({low:+.3f} … {high:+.3f})"

    rows = []
    for each in result["rows"]:
        parts = each["run"].split("--")
        network = ", ".join(parts[1:3]).replace("_", " ") if len(parts) == 4 else each["run"]
        for n, (name, row) in enumerate(each["methods"].items()):
            first = [f"{each['data']}, {each['split']}, {each['images']} images", network] if n == 0 else ["", ""]
            scores = [f"{row['miou']:.3f}", gain(row, "miou"), f"{row['border_miou']:.3f}", gain(row, "border_miou")]
            seconds = row.get("s_per_image")
            rows.append([*first, name, *scores, "–" if seconds is None else f"{seconds:.2f}"])
    head = ["data", "network", "`--refine`", "mIoU", "gain (95 %)", "border mIoU", "gain (95 %)", "s an image"]
    made = result["provenance"]
    machine = made["machine"]
    where = (
        f"{machine['processor']}; commit {made['commit']}. Seconds are processor time on one thread, a method's on top of "
        f"the network's in the line `none`. Bold: the 95 % interval of the paired difference leaves out 0. Border: within "
        f"{BORDER_PX} px of a class border."
    )
    return [*table(head, rows), "", where]


def main() -> None:
    """Run or write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "write"])
    parser.add_argument("--run", type=Path, action="append", default=[])
    parser.add_argument("--data", type=Path, action="append", default=[])
    parser.add_argument("--split", default="val")
    parser.add_argument("--most", type=int, default=0, help="Images of a split at most, evenly taken; 0 for all.")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--page", type=Path, default=PAGE)
    args = parser.parse_args()
    if args.what == "run":
        torch.set_num_threads(1)
        if len(args.data) not in (0, len(args.run)):
            parser.error("a --data for every --run, or for none")
        rows = json.loads(args.out.read_text(encoding="utf-8"))["rows"] if args.out.is_file() else []
        for run, data in zip(args.run, args.data or [None] * len(args.run), strict=True):
            new = measure(run, data, args.split, args.most)
            same = [k for k, row in enumerate(rows) if all(row[key] == new[key] for key in ("data", "run", "split"))]
            rows = [row for k, row in enumerate(rows) if k not in same] + [new]
            rows.sort(key=lambda row: (row["data"], row["run"]))
            tree = {"rows": rows, "provenance": provenance()}
            write_text(args.out, json.dumps(tree, indent=1) + "\n")
            print(new["data"], new["run"], {name: round(row["miou"], 4) for name, row in new["methods"].items()}, flush=True)
    else:
        result = json.loads(args.out.read_text(encoding="utf-8"))
        write_text(args.page, put(args.page.read_text(encoding="utf-8"), "refine gain", lines(result)))


if __name__ == "__main__":
    main()
