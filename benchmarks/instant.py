"""How good the instant overlay is after 5, 10 and 20 strokes, how long it takes, and how much held-out strokes flatter it.

    python -m benchmarks.instant run DATA [--backbone FOLDER] [--sessions 3] [--out FILE]
    python -m benchmarks.instant write

A session: three random images of a set, strokes drawn from their masks in the style ``person`` (see
docs/explanation/simulation.md), dealt out to the images in turn, in an order that shows every class of an image once before any
twice. Scores are over all pixels of the three images.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.ops.page import put, table
from scribbleseg.annotate.features import Encoder, Features, compute
from scribbleseg.annotate.holdout import instant_shares, score
from scribbleseg.annotate.instant import PER_STROKE, Classifier, Samples, fit, smoothed
from scribbleseg.annotate.owned import owned
from scribbleseg.atomic import write_text
from scribbleseg.data.folder import Dataset, open_dataset
from scribbleseg.data.simulate import STYLES
from scribbleseg.data.simulate.image import simulate
from scribbleseg.data.strokes import generator_for
from scribbleseg.data.vector import rasterise
from scribbleseg.metrics import counts as metrics
from scribbleseg.provenance import provenance
from scribbleseg.records import Stroke

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "instant.json"
PAGE = ROOT / "docs" / "explanation" / "live_learning.md"

SETS = ("acdc-scribble", "camvid", "grabcut20-scribbles", "voc-animals")
STROKES = (5, 10, 20)
IMAGES = 3

#: Classifier, whether it sees the backbone's maps, whether its probabilities are smoothed. The first is in use with a backbone,
#: the second without.
WAYS = {
    "linear, backbone + filters": ("linear", True, True),
    "forest, filters": ("forest", False, True),
    "linear, backbone + filters, not smoothed": ("linear", True, False),
    "forest, backbone + filters": ("forest", True, True),
    "forest, filters, not smoothed": ("forest", False, False),
    "linear, filters": ("linear", False, True),
}


class Session:
    """Three images with their strokes in the order drawn."""

    def __init__(self, dataset: Dataset, seed: int, encoder: Encoder | None) -> None:
        rng = np.random.default_rng([seed, 77])
        stems = dataset.stems(next(iter(dataset.spec.splits)))
        self.stems = [stems[i] for i in rng.permutation(len(stems))[:IMAGES]]
        self.num_classes = len(dataset.names)
        self.masks = {stem: dataset.labels(stem, "masks") for stem in self.stems}
        self.features = {stem: compute(dataset.rgb(stem), self.masks[stem].shape, encoder) for stem in self.stems}
        each = {stem: ordered(self.masks[stem], seed, stem, rng) for stem in self.stems}
        longest = max(map(len, each.values()))
        self.strokes = [(stem, own[n]) for n in range(longest) for stem, own in each.items() if n < len(own)]

    def samples(self, number: int, with_maps: bool) -> dict[str, Samples]:
        """Return what the first strokes teach, by key."""
        found = {}
        for stem in self.stems:
            drawn = [stroke for at, stroke in self.strokes[:number] if at == stem]
            features = self.seen(stem, with_maps)
            for own in owned(drawn, rasterise(drawn, self.masks[stem].shape)):
                cells = features.cells(own.pixels)
                rng = np.random.default_rng(len(own.pixels))
                cells = cells if len(cells) <= PER_STROKE else rng.choice(cells, PER_STROKE, replace=False)
                found[f"{stem}/{own.key}"] = Samples(own.label, features.at(cells))
        return found

    def seen(self, stem: str, with_maps: bool) -> Features:
        """Return an image's features, with or without those of the backbone."""
        features = self.features[stem]
        return features if with_maps else Features(features.filters, np.zeros((0, 1, 1), np.float16), features.size)

    def counts(self, classifier: Classifier, with_maps: bool, smooth: bool) -> np.ndarray:
        """Return the confusion matrix over the images."""
        total = np.zeros((self.num_classes, self.num_classes), np.int64)
        for stem in self.stems:
            features = self.seen(stem, with_maps)
            probs = classifier.probabilities(features)
            if smooth:
                probs = smoothed(probs, np.asarray(features.filters[..., :3], np.float32).mean(axis=-1))
            found = classifier.classes[probs.argmax(axis=-1)].astype(np.uint8)
            total += metrics.confusion_matrix(self.masks[stem], found, self.num_classes)
        return total


def ordered(mask: np.ndarray, seed: int, stem: str, rng: np.random.Generator) -> list[Stroke]:
    """Return the strokes of an image, one of each class first."""
    drawn = simulate(mask, STYLES["person"], generator_for(seed, stem, 3), width_px=5)
    drawn = [drawn[i] for i in rng.permutation(len(drawn))]
    first = {stroke.label: n for n, stroke in reversed(list(enumerate(drawn)))}
    order = sorted(range(len(drawn)), key=lambda n: first[drawn[n].label] != n)
    return [drawn[n] for n in order]


def run(
    data: Path, backbone: Path | None, sessions: int, out: Path | None = None, sets: Sequence[str] = SETS
) -> dict[str, Any]:
    """Measure all ways on some sessions of each set; after each session ``out`` has all so far."""
    torch.set_num_threads(1)
    made = provenance(0)
    encoder = None if backbone is None else Encoder(backbone)
    ways = {name: way for name, way in WAYS.items() if encoder is not None or not way[1]}
    rows: list[dict[str, Any]] = []
    bias: list[dict[str, Any]] = []
    times = first_overlay(encoder)
    head = {"provenance": made, "sessions": sessions, "backbone": backbone.name if backbone else None, "times": times}
    result = head | {"rows": rows, "bias": bias}
    for seed in range(sessions):
        for name in sets:
            session = Session(open_dataset(data / name), seed, encoder)
            for number in STROKES:
                for way, (kind, maps, smooth) in ways.items():
                    samples = session.samples(number, maps)
                    start = time.process_time()
                    classifier = fit(list(samples.values()), kind=kind)
                    fitted = time.process_time() - start
                    if classifier is None:
                        continue
                    counts = session.counts(classifier, maps, smooth)
                    pixels = sum(mask.size for mask in session.masks.values())
                    miou = metrics.mean_present(metrics.iou(counts))
                    took = (time.process_time() - start - fitted) / pixels * 1e6
                    rows.append(
                        {"set": name, "seed": seed, "strokes": number, "way": way, "miou": miou, "fit_s": fitted, "s_mp": took}
                    )
                    if way in list(ways)[:1] and number == STROKES[-1]:
                        shares = instant_shares(samples, list(samples), kind=kind)
                        held = score([(samples[key].label, share) for key, share in shares.items()]).value
                        drawn = sorted({each.label for each in samples.values()})
                        recall = metrics.recall(counts)[drawn]
                        true = metrics.mean_present(recall)
                        bias.append(
                            {"set": name, "seed": seed, "held": held, "true": true, "pixel": metrics.pixel_accuracy(counts)}
                        )
            print(name, seed, flush=True)
            result["sessions"] = seed + 1
            if out is not None:
                write_text(out, json.dumps(result, indent=1) + "\n")
    return result


def first_overlay(encoder: Encoder | None) -> dict[str, float]:
    """Return the seconds of one core that the parts of a first overlay of 1024 × 1024 take, reading apart."""
    rng, size = np.random.default_rng(0), (1024, 1024)
    rgb = rng.random((*size, 3), np.float32)
    times, start = {}, time.process_time()
    plain = compute(rgb, size, None)
    times["filters"] = time.process_time() - start
    start = time.process_time()
    features = compute(rgb, size, encoder)
    times["maps of the backbone"] = max(0.0, time.process_time() - start - times["filters"]) if encoder is not None else 0.0
    for name, seen, kind in (("linear", features, "linear"), ("forest, filters alone", plain, "forest")):
        samples = [Samples(c, seen.at(rng.integers(0, seen.grid[0] * seen.grid[1], PER_STROKE))) for c in (0, 1)]
        start = time.process_time()
        classifier = fit(samples, kind=kind)
        assert classifier is not None
        smoothed(classifier.probabilities(seen), np.asarray(seen.filters[..., :3], np.float32).mean(axis=-1))
        times[f"{name}: learn, predict, smooth"] = time.process_time() - start
    return times


def section(result: Mapping[str, Any]) -> list[str]:
    """Return the tables of the page."""
    cells: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    speed: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in result["rows"]:
        cells[row["way"], row["set"], row["strokes"]].append(row["miou"])
        speed[row["way"]].append((row["fit_s"], row["s_mp"]))
    sets = list(dict.fromkeys(row["set"] for row in result["rows"]))
    lines = [
        "mIoU after 5 / 10 / 20 strokes on three images together, and seconds of one core to learn and to predict a megapixel:",
        "",
    ]
    body = []
    for way in dict.fromkeys(row["way"] for row in result["rows"]):
        scores = [" / ".join(f"{np.mean(cells[way, name, n]):.2f}" for n in STROKES) for name in sets]
        learn, predict = np.mean(speed[way], axis=0)
        body.append([way, *scores, f"{learn:.2f}", f"{predict:.2f}"])
    lines += table(["", *sets, "learn, s", "predict, s / MP"], body)
    lines += [
        "",
        "A first overlay of 1024 × 1024, seconds of one core (processor time; for the clock's see docs/how-to/annotate.md):",
        "",
    ]
    lines += table(["part", "s"], [[name, f"{seconds:.2f}"] for name, seconds in result["times"].items()])
    return [*lines, "", origin(result)]


def bias_section(result: Mapping[str, Any]) -> list[str]:
    """Return how far held-out strokes are from the truth."""
    by_set: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for row in result["bias"]:
        if row["held"] is not None:
            by_set[row["set"]].append((row["held"], row["true"], row["pixel"]))
    body, every = [], []
    for name, found in by_set.items():
        held, true, pixel = np.mean(found, axis=0)
        every += [f[0] - f[1] for f in found]
        body.append([name, f"{100 * held:.0f}", f"{100 * true:.0f}", f"{100 * (held - true):+.0f}", f"{100 * pixel:.0f}"])
    mean, spread = 100 * float(np.mean(every)), 100 * float(np.std(every))
    lines = table(["", "held-out strokes, %", "all pixels, mean over classes, %", "difference", "all pixels, pooled, %"], body)
    said = f"Over all sessions held-out strokes say {mean:+.0f} points (spread of a session {spread:.0f}) beside the truth."
    return [*lines, "", said, "", origin(result)]


def origin(result: Mapping[str, Any]) -> str:
    """Return where the numbers come from."""
    made = result["provenance"]
    return (
        f"Up to {result['sessions']} sessions a set; backbone {result['backbone']}; {made['machine']['processor']}, one "
        f"thread, times are a core's, the machine was busy; commit {made['commit']}, {made['date'][:10]}; "
        "`python -m benchmarks.instant`."
    )


def main() -> None:
    """Parse, run, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "write"])
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--backbone", type=Path)
    parser.add_argument("--sessions", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    if given.what == "run":
        run(given.data, given.backbone, given.sessions, given.out)
    else:
        result = json.loads(RESULTS.read_text(encoding="utf-8"))
        text = put(PAGE.read_text(encoding="utf-8"), "instant", section(result))
        write_text(PAGE, put(text, "held-out", bias_section(result)))


if __name__ == "__main__":
    main()
