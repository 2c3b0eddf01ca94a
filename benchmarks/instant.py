"""How good the instant overlay is after 5, 10 and 20 strokes, and how long it takes.

    python -m benchmarks.instant run DATA [--backbone FOLDER] [--sessions 3] [--out FILE]
    python -m benchmarks.instant write

A session: strokes on three random images of a set, see benchmarks/sessions.py. Scores are over all pixels of the three images.
"""

from __future__ import annotations

import json
import time
from argparse import Namespace
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ops.page import put, table
from benchmarks.sessions import ROOT, SETS, Session, command, measure, origin
from scribbleseg.annotate.features import Encoder, compute
from scribbleseg.annotate.instant import PER_STROKE, Samples, fit, smoothed
from scribbleseg.atomic import write_text
from scribbleseg.data.folder import open_dataset
from scribbleseg.metrics import counts as metrics

RESULTS = ROOT / "benchmarks" / "results" / "instant.json"

STROKES = (5, 10, 20)

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


def run(
    data: Path, backbone: Path | None, sessions: int, out: Path | None = None, sets: tuple[str, ...] = SETS
) -> dict[str, Any]:
    """Measure all ways on some sessions of each set; those in ``out`` already are taken from there."""

    def one(name: str, seed: int, encoder: Encoder | None) -> list[dict[str, Any]]:
        session = Session(open_dataset(data / name), seed, encoder)
        pixels = sum(mask.size for mask in session.masks.values())
        rows = []
        for number in STROKES:
            for way, (kind, maps, smooth) in WAYS.items():
                if maps and encoder is None:
                    continue
                samples = session.samples(number, maps)
                start = time.process_time()
                classifier = fit(list(samples.values()), kind=kind)
                fitted = time.process_time() - start
                if classifier is None:
                    continue
                miou = metrics.mean_present(metrics.iou(session.counts(classifier, maps, smooth)))
                took = (time.process_time() - start - fitted) / pixels * 1e6
                rows.append({"strokes": number, "way": way, "miou": miou, "fit_s": fitted, "s_mp": took})
        return rows

    result = measure({"numbers": list(STROKES)}, data, backbone, sessions, out, one, sets)
    result["times"] = first_overlay(None if backbone is None else Encoder(backbone))
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
    return [*lines, "", "Times are a core's. " + origin(result, "instant")]


def main() -> None:
    """Parse, run, write."""

    def measured(given: Namespace) -> None:
        run(given.data, given.backbone, given.sessions, given.out)

    command(__doc__, RESULTS, measured, lambda page, result: put(page, "instant", section(result)), sessions=3)


if __name__ == "__main__":
    main()
