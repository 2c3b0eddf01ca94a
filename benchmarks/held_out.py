"""How far the score on held-out strokes, by which the page chooses between its two models, is from the truth.

    python -m benchmarks.held_out run DATA --backbone FOLDER [--sessions 4] [--out FILE]
    python -m benchmarks.held_out write

The scheme is the page's (scribbleseg/annotate/holdout.py): of each class that has at least four strokes a random quarter is
held out, whole strokes; the instant classifier is scored on them in five groups, each predicted by one that learnt from all
others. As a network would be, a classifier that learnt from none of those held out is scored on them too. The truth of each is
the share of all pixels of a class that are right, mean over the classes drawn, in all images of the session, of the classifier
that learnt from all strokes (from all but those held out). A session takes four images after four until it has 80 strokes.
"""

from __future__ import annotations

from argparse import Namespace
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ops.page import put, table
from benchmarks.sessions import ROOT, SETS, Session, command, measure, origin
from scribbleseg.annotate.features import Encoder
from scribbleseg.annotate.holdout import choose, instant_shares, score
from scribbleseg.annotate.instant import Samples, fit
from scribbleseg.data.folder import open_dataset
from scribbleseg.metrics import counts as metrics

RESULTS = ROOT / "benchmarks" / "results" / "held_out.json"

STROKES = (20, 40, 80)
IMAGES = 4

#: What is scored, and the columns of its score and its truth.
MODELS = {"instant, learns from all others": ("held", "true"), "learns from none of them": ("rest_held", "rest_true")}


def run(
    data: Path, backbone: Path | None, sessions: int, out: Path | None = None, sets: tuple[str, ...] = SETS
) -> dict[str, Any]:
    """Measure some sessions of each set."""

    def one(name: str, seed: int, encoder: Encoder | None) -> list[dict[str, Any]]:
        session = Session(open_dataset(data / name), 200 + seed, encoder, IMAGES, max(STROKES))
        rows = (judged(session, number, seed) for number in STROKES if len(session.strokes) >= number)
        return [row for row in rows if row is not None]

    return measure({"images": IMAGES, "numbers": list(STROKES)}, data, backbone, sessions, out, one, sets)


def judged(session: Session, number: int, seed: int) -> dict[str, Any] | None:
    """Return both scores and both truths after so many strokes; None while there is but one class."""
    samples = session.samples(number)
    held = choose([(key, each.label) for key, each in samples.items()], np.random.default_rng([seed, number]))
    row: dict[str, Any] = {"strokes": number, "judged": len(held), "held": None, "rest_held": None}
    if not held:
        return row
    shares = instant_shares(samples, sorted(held))
    row["held"] = score([(samples[key].label, share) for key, share in shares.items()]).value
    row["true"], row["pixel"] = truth(session, samples)
    rest = {key: each for key, each in samples.items() if key not in held}
    classifier = fit(list(rest.values()))
    if classifier is None:
        return None
    right = {
        key: float((classifier.classes[classifier.at(samples[key].features).argmax(axis=1)] == samples[key].label).mean())
        for key in sorted(held)
    }
    row["rest_held"] = score([(samples[key].label, share) for key, share in right.items()]).value
    row["rest_true"], _ = truth(session, rest)
    return row


def truth(session: Session, samples: Mapping[str, Samples]) -> tuple[float, float]:
    """Return the share of pixels that are right: mean over the classes drawn, and all together."""
    classifier = fit(list(samples.values()))
    assert classifier is not None
    counts = session.counts(classifier)
    drawn = sorted({each.label for each in samples.values()})
    return float(metrics.mean_present(metrics.recall(counts)[drawn])), float(metrics.pixel_accuracy(counts))


def section(result: Mapping[str, Any]) -> list[str]:
    """Return the table: a row a model, number of strokes and set, then the mean over the sets."""
    cells: dict[tuple[str, int, str], list[tuple[float, float]]] = defaultdict(list)
    silent: dict[int, int] = defaultdict(int)
    for row in result["rows"]:
        silent[row["strokes"]] += row["held"] is None
        for model, (held, true) in MODELS.items():
            if row["held"] is not None:
                cells[model, row["strokes"], row["set"]].append((row[held], row[true]))
    sets = [name for name in SETS if any(key[2] == name for key in cells)]
    body, said = [], []
    for model in MODELS:
        for number in result["numbers"]:
            shown = [shares(cells[model, number, name]) for name in sets]
            gaps = [100 * (held - true) for name in sets for held, true in cells[model, number, name]]
            mean = f"{np.mean(gaps):+.0f}, spread {np.std(gaps):.0f} ({len(gaps)})" if gaps else "–"
            body.append([model if number == result["numbers"][0] else "", str(number), *shown, mean])
    for number, times in silent.items():
        if times:
            said.append(f"after {number} strokes nothing could be said in {times} of the sessions: too few to hold out")
    heads = ["", "strokes", *(f"{name}: held out / all pixels, %" for name in sets), "difference, points (sessions)"]
    note = [f"{'; '.join(said)[0].upper()}{'; '.join(said)[1:]}.", ""] if said else []
    return [*table(heads, body), "", *note, origin(result, "held_out")]


def shares(pairs: list[tuple[float, float]]) -> str:
    """Return the means of score and truth, in %."""
    return " / ".join(f"{100 * value:.0f}" for value in np.mean(pairs, axis=0)) if pairs else "–"


def main() -> None:
    """Parse, run, write."""

    def measured(given: Namespace) -> None:
        run(given.data, given.backbone, given.sessions, given.out)

    command(__doc__, RESULTS, measured, lambda page, result: put(page, "held-out", section(result)), sessions=4)


if __name__ == "__main__":
    main()
