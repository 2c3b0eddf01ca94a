"""Do the frames that `Where next` proposes save strokes, against frames anywhere?

    python -m benchmarks.where_next run DATA --backbone FOLDER [--sessions 8] [--strokes 10] [--ways proposed] [--out FILE]
    python -m benchmarks.where_next write

``run`` can be broken off: sessions that are in FILE are not played again.

A simulated user: three random images of a set, one stroke of each of two classes in the first. Then, again and again, the user
is led to a frame, sees there the largest piece that is wrong in the overlay, and draws one stroke of its true class in it; a
frame without anything wrong costs a look, no stroke, and the next one comes. What is counted: mIoU over all pixels of the three
images after each stroke, and looks. All ways begin with the same strokes.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage, stats

from benchmarks.ops.page import put, table
from benchmarks.sessions import ROOT, Session, command, measure, origin, taught
from scribbleseg.annotate.features import Encoder
from scribbleseg.annotate.instant import fit, labels_and_doubt, smoothed
from scribbleseg.annotate.places import Place, Seen, frames_of, rank
from scribbleseg.data.folder import open_dataset
from scribbleseg.data.simulate import STYLES
from scribbleseg.data.simulate.image import simulate
from scribbleseg.data.vector import rasterise
from scribbleseg.metrics import counts as metrics
from scribbleseg.records import UNLABELLED, Stroke

RESULTS = ROOT / "benchmarks" / "results" / "where_next.json"

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
        lessons = (taught(strokes, self.session.features[stem]) for stem, strokes in self.drawn.items())
        classifier = fit([each for own in lessons for each in own.values()])
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
    data: Path,
    backbone: Path | None,
    sessions: int,
    strokes: int,
    out: Path | None = None,
    sets: tuple[str, ...] = SETS,
    ways: Sequence[str] = WAYS,
) -> dict[str, Any]:
    """Play some sessions of each set in every way; those in ``out`` already are taken from there."""

    def one(name: str, seed: int, encoder: Encoder | None) -> list[dict[str, Any]]:
        session = Session(open_dataset(data / name), 100 + seed, encoder)
        if len({stroke.label for stem, stroke in session.strokes if stem == session.stems[0]}) < 2:
            return []  # nothing to begin with in the first image
        return [{"way": way, **play(session, way, seed, strokes)} for way in ways]

    return measure({"strokes": strokes, "ways": list(ways)}, data, backbone, sessions, out, one, sets)


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
    ways, last = result.get("ways", WAYS), result["strokes"]
    after = sorted({n for n in (4, 8, last) if n <= last})
    gains: dict[str, dict[str, list[float]]] = {way: {} for way in ways}
    for name in sets:
        own = [game for (each, _), game in games.items() if each == name]
        for way in ways:
            curves = np.array([game[way]["miou"] for game in own])
            goals = [game["random"]["miou"][-1] for game in own]
            strokes = [needed(game[way]["miou"], goal) for game, goal in zip(own, goals, strict=True)]
            looks = [game[way]["looks"][-1] for game in own]
            gains[way][name] = [float(np.mean(game[way]["miou"]) - np.mean(game["random"]["miou"])) for game in own]
            scores = [f"{curves[:, n].mean():.3f}" for n in after]
            body.append(
                [
                    f"{name}, {len(own)} sessions" if way == ways[0] else "",
                    way,
                    *scores,
                    f"{np.mean(strokes):.1f}",
                    f"{np.mean(looks):.0f}",
                ]
            )
    heads = ["", "frames", *(f"mIoU after {n}" for n in after), "strokes to random's last", "looks in all"]
    lines = [*table(heads, body), ""]
    for way in ways[1:]:
        every = [gain for own in gains[way].values() for gain in own]
        each = "; ".join(f"{name} {paired(own)}" for name, own in gains[way].items())
        lines += [
            f"`{way}` against `random` in the same session: mIoU, mean over all strokes, {paired(every)} points (95 % interval "
            f"of the paired difference, {len(every)} sessions), better in {sum(g > 0 for g in every)} of them. By set: {each}.",
            "",
        ]
    return [*lines, origin(result, "where_next")]


def paired(gains: Sequence[float]) -> str:
    """Return the mean of differences and its 95 % interval by Student's t, in points."""
    mean = 100 * float(np.mean(gains))
    if len(gains) < 2:
        return f"{mean:+.1f}"
    reach = 100 * float(stats.t.ppf(0.975, len(gains) - 1) * stats.sem(gains))
    return f"{mean:+.1f} ({mean - reach:+.1f} to {mean + reach:+.1f})"


def main() -> None:
    """Parse, run, write."""

    def further(parser: ArgumentParser) -> None:
        parser.add_argument("--strokes", type=int, default=10)
        parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="random is always among them")

    def measured(given: Namespace) -> None:
        ways = [way for way in WAYS if way in given.ways or way == WAYS[0]]
        run(given.data, given.backbone, given.sessions, given.strokes, given.out, ways=ways)

    command(__doc__, RESULTS, measured, lambda page, result: put(page, "where-next", section(result)), 8, further)


if __name__ == "__main__":
    main()
