"""Do the frames that `Where next` proposes save strokes, against frames anywhere?

    python -m benchmarks.where_next run DATA --backbone FOLDER [--sessions 4] [--strokes 12] [--out FILE]
    python -m benchmarks.where_next write

A simulated user: three random images of a set, one stroke of each of two classes in the first. Then, again and again, the user
is led to a frame, sees there the largest piece that is wrong in the overlay, and draws one stroke of its true class in it; a
frame without anything wrong costs a look, no stroke, and the next one comes. What is counted: mIoU over all pixels of the three
images after each stroke, and looks. All ways begin with the same strokes.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from benchmarks.instant import Session
from benchmarks.ops.page import put, table
from scribbleseg.annotate.features import Encoder
from scribbleseg.annotate.instant import PER_STROKE, Samples, fit, labels_and_doubt, smoothed
from scribbleseg.annotate.owned import owned
from scribbleseg.annotate.places import Place, Seen, frames_of, rank
from scribbleseg.atomic import write_text
from scribbleseg.data.folder import open_dataset
from scribbleseg.data.simulate import STYLES
from scribbleseg.data.simulate.image import simulate
from scribbleseg.data.vector import rasterise
from scribbleseg.metrics import counts as metrics
from scribbleseg.provenance import provenance
from scribbleseg.records import UNLABELLED, Stroke

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "where_next.json"
PAGE = ROOT / "docs" / "explanation" / "live_learning.md"

SETS = ("grabcut20-scribbles", "acdc-scribble", "voc-animals", "camvid")

#: ``proposed`` is what the page does; ``doubt`` the frame of the highest mean doubt, wherever strokes are.
WAYS = ("random", "proposed", "doubt")

#: A piece that is wrong is seen from so many pixels on.
SEEN_FROM = 40

#: Frames without anything wrong after which the user gives up.
MOST_LOOKS = 30


class User:
    """Draws on the images of a session."""

    def __init__(self, session: Session, seed: int) -> None:
        self.session, self.rng = session, np.random.default_rng([seed, 5])
        self.drawn: dict[str, list[Stroke]] = {stem: [] for stem in session.stems}
        first = session.stems[0]
        begun: dict[int, Stroke] = {}
        for stem, stroke in session.strokes:
            if stem == first and stroke.label not in begun and len(begun) < 2:
                begun[stroke.label] = stroke
        self.drawn[first] = list(begun.values())

    def overlays(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return classes and doubt of each image, learnt from what is drawn."""
        samples = []
        for stem, strokes in self.drawn.items():
            features = self.session.features[stem]
            for own in owned(strokes, rasterise(strokes, features.size)):
                cells = features.cells(own.pixels)
                rng = np.random.default_rng(len(own.pixels))
                cells = cells if len(cells) <= PER_STROKE else rng.choice(cells, PER_STROKE, replace=False)
                samples.append(Samples(own.label, features.at(cells)))
        classifier = fit(samples)
        assert classifier is not None
        found = {}
        for stem, features in self.session.features.items():
            guide = np.asarray(features.filters[..., :3], np.float32).mean(axis=-1)
            probs = smoothed(classifier.probabilities(features), guide)
            found[stem] = labels_and_doubt(probs, classifier.classes)[:2]
        return found

    def miou(self, overlays: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> float:
        """Return the mIoU over all pixels of all images."""
        size = self.session.num_classes
        counts = [metrics.confusion_matrix(self.session.masks[s], labels, size) for s, (labels, _) in overlays.items()]
        return metrics.mean_present(metrics.iou(np.sum(counts, axis=0)))

    def frames(self, way: str, overlays: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Iterator[Place]:
        """Yield frames one after the other, as a way leads to them; ``image`` is the number of the image."""
        stems = self.session.stems
        if way == "proposed":
            seen = []
            for n, stem in enumerate(stems):
                features, (labels, doubt) = self.session.features[stem], overlays[stem]
                drawn = rasterise(self.drawn[stem], features.size) != UNLABELLED
                step = max(1, -(-max(labels.shape) // 192))
                part = np.s_[step // 2 :: step, step // 2 :: step]
                colours = np.asarray(features.filters[..., :3], np.float32)[part]
                seen.append(Seen(n, features.size, labels[part], doubt[part], np.argwhere(drawn), colours))
            yield from rank(seen, MOST_LOOKS)
            return
        every = [Place(n, *frame, 0.0) for n, stem in enumerate(stems) for frame in frames_of(self.session.features[stem].size)]
        if way == "random":
            yield from (every[i] for i in self.rng.permutation(len(every)))
            return
        worth = [overlays[stems[p.image]][1][p.y0 : p.y1, p.x0 : p.x1].mean() for p in every]
        yield from (every[i] for i in np.argsort(worth)[::-1])

    def correct(self, place: Place, overlays: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> bool:
        """Draw in the largest piece of a frame that is wrong; say whether there was one to be seen."""
        stem = self.session.stems[place.image]
        part = np.s_[place.y0 : place.y1, place.x0 : place.x1]
        truth, labels = self.session.masks[stem][part], overlays[stem][0][part]
        best, size = None, SEEN_FROM - 1
        for label in np.unique(truth[truth != UNLABELLED]):
            pieces, _ = ndimage.label((truth == label) & (labels != truth))
            sizes = np.bincount(pieces.ravel())[1:]
            if len(sizes) and sizes.max() > size:
                size, best = int(sizes.max()), (int(label), pieces == 1 + int(sizes.argmax()))
        if best is None:
            return False
        label, piece = best
        mask = np.full(self.session.masks[stem].shape, UNLABELLED, np.uint8)
        mask[part][piece] = label
        strokes = simulate(mask, STYLES["walk"], self.rng, width_px=5, min_area=1)
        self.drawn[stem] += strokes[:1]
        return bool(strokes)


def play(session: Session, way: str, seed: int, strokes: int) -> dict[str, list[float]]:
    """Return mIoU and looks after each stroke, from the first two on."""
    user = User(session, seed)
    overlays = user.overlays()
    curve, looks = [user.miou(overlays)], [0.0]
    for _ in range(strokes):
        number = looks[-1]
        for tries, place in enumerate(user.frames(way, overlays), 1):
            if user.correct(place, overlays):
                number += tries
                break
            if tries >= MOST_LOOKS:
                number += tries
                break
        overlays = user.overlays()
        curve.append(user.miou(overlays))
        looks.append(number)
    return {"miou": [round(x, 4) for x in curve], "looks": looks}


def run(
    data: Path, backbone: Path | None, sessions: int, strokes: int, out: Path | None = None, sets: Sequence[str] = SETS
) -> dict[str, Any]:
    """Play some sessions of each set in every way; after each session ``out`` has all so far."""
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    result = {"provenance": provenance(0), "strokes": strokes, "backbone": backbone.name if backbone else None, "rows": rows}
    encoder = None if backbone is None else Encoder(backbone)
    for seed in range(sessions):
        for name in sets:
            session = Session(open_dataset(data / name), 100 + seed, encoder)
            if len({stroke.label for stem, stroke in session.strokes if stem == session.stems[0]}) < 2:
                continue
            for way in WAYS:
                rows.append({"set": name, "seed": seed, "way": way, **play(session, way, seed, strokes)})
            print(name, seed, {row["way"]: row["miou"][-1] for row in rows[-len(WAYS) :]}, flush=True)
            if out is not None:
                write_text(out, json.dumps(result, indent=1) + "\n")
    return result


def needed(curve: Sequence[float], target: float) -> int:
    """Return the number of strokes after which a mIoU is reached for good enough: first time; one more than all if never."""
    return next((n for n, value in enumerate(curve) if value >= target), len(curve))


def section(result: Mapping[str, Any]) -> list[str]:
    """Return the table and what follows from it."""
    games: dict[tuple[str, int], dict[str, Any]] = defaultdict(dict)
    for row in result["rows"]:
        games[row["set"], row["seed"]][row["way"]] = row
    sets = [name for name in SETS if any(each == name for each, _ in games)]
    body: list[list[str]] = []
    gains: dict[str, list[float]] = {way: [] for way in WAYS}
    for name in sets:
        own = [game for (each, _), game in games.items() if each == name]
        for way in WAYS:
            curves = np.array([game[way]["miou"] for game in own])
            goals = [game["random"]["miou"][-1] for game in own]
            strokes = [needed(game[way]["miou"], goal) for game, goal in zip(own, goals, strict=True)]
            looks = [game[way]["looks"][-1] for game in own]
            gains[way] += [float(np.mean(game[way]["miou"]) - np.mean(game["random"]["miou"])) for game in own]
            scores = [f"{curves[:, n].mean():.3f}" for n in (4, 8, result["strokes"]) if n < curves.shape[1]]
            body.append(
                [
                    f"{name}, {len(own)} sessions" if way == WAYS[0] else "",
                    way,
                    *scores,
                    f"{np.mean(strokes):.1f}",
                    f"{np.mean(looks):.0f}",
                ]
            )
    last = result["strokes"]
    heads = ["", "frames", *(f"mIoU after {n}" for n in (4, 8, last)), "strokes to random's last", "looks in all"]
    lines = [*table(heads, body), ""]
    for way in WAYS[1:]:
        mean = float(np.mean(gains[way]))
        error = float(np.std(gains[way], ddof=1) / len(gains[way]) ** 0.5)
        lines.append(
            f"`{way}` against `random`: mIoU, mean over all strokes, {100 * mean:+.1f} ± {100 * error:.1f} points (standard "
            f"error over {len(gains[way])} sessions), better in {sum(g > 0 for g in gains[way])} of them."
        )
    made = result["provenance"]
    lines += [
        "",
        f"Backbone {result['backbone']}; {made['machine']['processor']}, one thread; commit {made['commit']}, "
        f"{made['date'][:10]}; `python -m benchmarks.where_next`.",
    ]
    return lines


def main() -> None:
    """Parse, run, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "write"])
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--backbone", type=Path)
    parser.add_argument("--sessions", type=int, default=4)
    parser.add_argument("--strokes", type=int, default=12)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    if given.what == "run":
        run(given.data, given.backbone, given.sessions, given.strokes, given.out)
    else:
        result = json.loads(RESULTS.read_text(encoding="utf-8"))
        write_text(PAGE, put(PAGE.read_text(encoding="utf-8"), "where-next", section(result)))


if __name__ == "__main__":
    main()
