"""Sessions of a simulated user on a few images, to measure the drawing page's learner with; and what such commands share."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scribbleseg.annotate.features import Encoder, Features, compute
from scribbleseg.annotate.instant import PER_STROKE, Classifier, Samples, smoothed
from scribbleseg.annotate.owned import owned
from scribbleseg.atomic import write_text
from scribbleseg.data.folder import Dataset
from scribbleseg.data.simulate import STYLES
from scribbleseg.data.simulate.image import simulate
from scribbleseg.data.strokes import generator_for
from scribbleseg.data.vector import rasterise
from scribbleseg.metrics import counts as metrics
from scribbleseg.provenance import provenance
from scribbleseg.records import Stroke

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "explanation" / "live_learning.md"

SETS = ("acdc-scribble", "camvid", "grabcut20-scribbles", "voc-animals")


class Session:
    """Random images of a set with their strokes in the order drawn.

    Strokes are drawn from the masks in the style ``person`` (docs/explanation/simulation.md) and dealt out to the images in
    turn, in an order that shows every class of an image once before any twice; then to the next images, until there are enough.

    Args:
        dataset: the set.
        seed: same seed, same session.
        encoder: the backbone, if there is one.
        images: that are drawn on in turn.
        enough: strokes; no further images are taken where there are so many.
        most: images in all.
    """

    def __init__(
        self, dataset: Dataset, seed: int, encoder: Encoder | None, images: int = 3, enough: int = 0, most: int = 24
    ) -> None:
        rng = np.random.default_rng([seed, 77])
        stems = dataset.stems(next(iter(dataset.spec.splits)))
        order = [stems[i] for i in rng.permutation(len(stems))]
        self.num_classes = len(dataset.names)
        self.masks: dict[str, np.ndarray] = {}
        self.strokes: list[tuple[str, Stroke]] = []
        for first in range(0, min(most, len(order)), images):
            group = order[first : first + images]
            self.masks |= {stem: dataset.labels(stem, "masks") for stem in group}
            each = {stem: ordered(self.masks[stem], seed, stem, rng) for stem in group}
            longest = max(map(len, each.values()))
            self.strokes += [(stem, own[n]) for n in range(longest) for stem, own in each.items() if n < len(own)]
            if len(self.strokes) >= enough:
                break
        self.stems = list(self.masks)
        self.features = {stem: compute(dataset.rgb(stem), self.masks[stem].shape, encoder) for stem in self.stems}

    def samples(self, number: int, with_maps: bool = True) -> dict[str, Samples]:
        """Return what the first strokes teach, by key."""
        found = {}
        for stem in self.stems:
            drawn = [stroke for at, stroke in self.strokes[:number] if at == stem]
            found |= {f"{stem}/{key}": each for key, each in taught(drawn, self.seen(stem, with_maps)).items()}
        return found

    def seen(self, stem: str, with_maps: bool) -> Features:
        """Return an image's features, with or without those of the backbone."""
        features = self.features[stem]
        return features if with_maps else Features(features.filters, np.zeros((0, 1, 1), np.float16), features.size)

    def counts(self, classifier: Classifier, with_maps: bool = True, smooth: bool = True) -> np.ndarray:
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


def taught(strokes: list[Stroke], features: Features) -> dict[str, Samples]:
    """Return what the strokes of an image teach, by key."""
    found = {}
    for own in owned(strokes, rasterise(strokes, features.size)):
        cells = features.cells(own.pixels)
        rng = np.random.default_rng(len(own.pixels))
        cells = cells if len(cells) <= PER_STROKE else rng.choice(cells, PER_STROKE, replace=False)
        found[own.key] = Samples(own.label, features.at(cells))
    return found


def ordered(mask: np.ndarray, seed: int, stem: str, rng: np.random.Generator) -> list[Stroke]:
    """Return the strokes of an image, one of each class first."""
    drawn = simulate(mask, STYLES["person"], generator_for(seed, stem, 3), width_px=5)
    drawn = [drawn[i] for i in rng.permutation(len(drawn))]
    first = {stroke.label: n for n, stroke in reversed(list(enumerate(drawn)))}
    order = sorted(range(len(drawn)), key=lambda n: first[drawn[n].label] != n)
    return [drawn[n] for n in order]


class Kept:
    """Results in a file: what is in it, of the same settings, is not measured again.

    Args:
        path: the file; None keeps nothing.
        settings: what the rows depend on.
    """

    def __init__(self, path: Path | None, settings: Mapping[str, Any]) -> None:
        self.path = path
        self.tree: dict[str, Any] = {"provenance": provenance(0), **settings, "rows": [], "done": []}
        if path is not None and path.is_file():
            before = json.loads(path.read_text(encoding="utf-8"))
            if "done" in before and all(before.get(key) == value for key, value in settings.items()):
                self.tree = before
                print(f"{len(before['done'])} sessions are in {path} already", flush=True)

    def has(self, name: str, seed: int) -> bool:
        """Say whether a session was measured."""
        return [name, seed] in self.tree["done"]

    def add(self, name: str, seed: int, rows: list[dict[str, Any]]) -> None:
        """Keep the rows of a session; there may be none."""
        self.tree["rows"] += [{"set": name, "seed": seed, **row} for row in rows]
        self.tree["done"].append([name, seed])
        if self.path is not None:
            write_text(self.path, json.dumps(self.tree, indent=1) + "\n")


def measure(
    settings: dict[str, Any],
    data: Path,
    backbone: Path | None,
    sessions: int,
    out: Path | None,
    one: Callable[[str, int, Encoder | None], list[dict[str, Any]]],
    sets: tuple[str, ...] = SETS,
) -> dict[str, Any]:
    """Measure sessions of each set, with one thread; those in ``out`` already are taken from there.

    Args:
        settings: what the rows depend on, besides the backbone.
        data: folder of the sets.
        backbone: folder of a pretrained one.
        sessions: of each set.
        out: file of the results, written after each session.
        one: measures a session of a set.
        sets: names of folders of ``data``.
    """
    torch.set_num_threads(1)
    kept = Kept(out, {"backbone": backbone.name if backbone else None, **settings})
    encoder = None if backbone is None else Encoder(backbone)
    for seed in range(sessions):
        for name in sets:
            if not kept.has(name, seed):
                rows = one(name, seed, encoder)
                kept.add(name, seed, rows)
                print(name, seed, f"{len(rows)} rows", flush=True)
    return kept.tree


def command(
    doc: str | None,
    results: Path,
    run: Callable[[argparse.Namespace], Any],
    write: Callable[[str, dict[str, Any]], str],
    sessions: int,
    add: Callable[[argparse.ArgumentParser], Any] = lambda parser: None,
) -> None:
    """Parse the command line; measure, or write what was measured into the page.

    Args:
        doc: of the command.
        results: where the results lie.
        run: measures.
        write: gives the page's text with the results in it.
        sessions: of each set, if not given.
        add: adds further words to the command line.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "write"])
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--backbone", type=Path)
    parser.add_argument("--sessions", type=int, default=sessions, help="of each set")
    parser.add_argument("--out", type=Path, default=results)
    add(parser)
    given = parser.parse_args()
    if given.what == "run":
        if given.data is None:
            parser.error("DATA is missing: the folder of the data sets")
        run(given)
    else:
        result = json.loads(results.read_text(encoding="utf-8"))
        write_text(PAGE, write(PAGE.read_text(encoding="utf-8"), result))


def origin(result: Mapping[str, Any], what: str) -> str:
    """Return where the numbers come from."""
    made = result["provenance"]
    return (
        f"Backbone {result['backbone']}; {made['machine']['processor']}, one thread; commit {made['commit']}, "
        f"{made['date'][:10]}; `python -m benchmarks.{what}`."
    )
