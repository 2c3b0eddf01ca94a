"""How often the intervals of an audit hold the truth, by simulation.

    python -m benchmarks.audit_coverage run [--sessions 400] [--out FILE]
    python -m benchmarks.audit_coverage write

A session: a random picture of C classes (shares of the predictions, and which class is taken for which, drawn at random so that
the overall accuracy is a given one), the points that an audit of k draws from it, and the intervals. ``write`` puts the shares
of sessions that hold the truth into docs/explanation/audit.md.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.ops.page import put, table
from scribbleseg.atomic import write_text
from scribbleseg.audit.estimate import jeffreys, overall, posterior, ratios
from scribbleseg.audit.points import allocate
from scribbleseg.provenance import provenance

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "audit_coverage.json"
PAGE = ROOT / "docs" / "explanation" / "audit.md"

CLASSES, ACCURACIES, NUMBERS = (2, 4, 8), (0.6, 0.8, 0.9, 0.95, 0.99), (50, 100, 200, 400)

#: Pixels that the shares are of.
PIXELS = 10**7

#: Ways to an interval of the accuracy, and of the IoU; the first of each is the one in use.
ACCURACY = ("MOVER, Jeffreys", "MOVER, Wilson", "MOVER, Agresti–Coull", "Wald", "posterior", "bootstrap")
IOU = ("posterior", "bootstrap")

#: Draws of a posterior or bootstrap: fewer than in use, for time's sake.
DRAWS = 1000


def picture(rng: np.random.Generator, num_classes: int, accuracy: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of each predicted class, the largest first, and of the true classes in each, (C,) and (C, C)."""
    while True:
        weights = np.sort(rng.dirichlet(np.ones(num_classes)))[::-1]
        wrong = rng.gamma(2.0, 1.0, num_classes) * np.where(np.arange(num_classes) > 0, 1.5, 0.7)
        wrong *= (1 - accuracy) / (weights * wrong).sum()
        if weights.min() > 0.002 and wrong.max() < 0.95:
            break
    true = np.diag(1 - wrong)
    for label in range(num_classes):
        others = np.arange(num_classes) != label
        true[label, others] = wrong[label] * rng.dirichlet(1 + 2 * weights[others])
    return weights, true


def session(rng: np.random.Generator, num_classes: int, accuracy: float, number: int) -> dict[str, list[tuple[bool, float]]]:
    """Return for each way whether its interval holds the truth, and how wide it is."""
    weights, true = picture(rng, num_classes, accuracy)
    given = allocate((weights * PIXELS).astype(np.int64), number)
    counts = np.array([rng.multinomial(n, shares) for n, shares in zip(given, true, strict=True)], float)
    right, n = np.diag(counts), counts.sum(axis=1)
    truth = ratios(weights[:, None] * true)["iou"]
    found = ratios(weights[:, None] * counts / np.maximum(n, 1)[:, None])["iou"]
    resampled = np.stack([rng.multinomial(int(k), c / max(k, 1), DRAWS) for k, c in zip(n, counts, strict=True)], axis=1)
    joint = weights[:, None] * resampled / np.maximum(n, 1)[:, None]
    accuracies = {"bootstrap": np.trace(joint, axis1=1, axis2=2)}
    ious = {"posterior": posterior(weights, counts, rng, DRAWS)["iou"], "bootstrap": ratios(joint)["iou"]}
    precise = rng.beta(right + 1 / 3, n - right + 1 / 3, (DRAWS, num_classes))
    accuracies["posterior"] = precise @ weights
    outcome: dict[str, list[tuple[bool, float]]] = {}
    point, mine = overall(weights, right, n)
    ends = {name: tuple(np.quantile(draws, [0.025, 0.975])) for name, draws in accuracies.items()}
    ends |= {"MOVER, Jeffreys": mine} | by_hand(weights, right, n, point)
    for name, (low, high) in ends.items():
        outcome[f"accuracy: {name}"] = [(bool(min(low, point) <= accuracy <= max(high, point)), float(high - low))]
    for name, draws in ious.items():
        low, high = np.nanquantile(draws, [0.025, 0.975], axis=0)
        low, high = np.fmin(low, found), np.fmax(high, found)
        outcome[f"IoU: {name}"] = list(zip(((low <= truth) & (truth <= high)).tolist(), (high - low).tolist(), strict=True))
    low, high = jeffreys(right, n)
    held = (low <= np.diag(true)) & (np.diag(true) <= high)
    outcome["precision: Jeffreys"] = list(zip(held.tolist(), (high - low).tolist(), strict=True))
    return outcome


def by_hand(weights: np.ndarray, right: np.ndarray, number: np.ndarray, point: float) -> dict[str, tuple[float, float]]:
    """Return the intervals of other ways."""
    z, share = stats.norm.ppf(0.975), right / np.maximum(number, 1)
    spread = float(np.sqrt((weights**2 * share * (1 - share) / np.maximum(number - 1, 1)).sum()))
    found = {"Wald": (point - z * spread, point + z * spread)}
    middle = (right + z * z / 2) / (number + z * z)
    half = {
        "MOVER, Wilson": z * np.sqrt(number * share * (1 - share) + z * z / 4) / (number + z * z),
        "MOVER, Agresti–Coull": z * np.sqrt(middle * (1 - middle) / (number + z * z)),
    }
    for name, width in half.items():
        low, high = np.maximum(middle - width, 0), np.minimum(middle + width, 1)
        below, above = (float(np.sqrt((weights**2 * (share - end) ** 2).sum())) for end in (low, high))
        found[name] = (point - below, point + above)
    return found


def run(sessions: int, seed: int = 0) -> dict[str, Any]:
    """Simulate ``sessions`` of every kind."""
    made, start = provenance(seed), time.monotonic()
    rows = []
    for num_classes in CLASSES:
        for accuracy in ACCURACIES:
            for number in NUMBERS:
                rng = np.random.default_rng([seed, num_classes, round(1000 * accuracy), number])
                all_: dict[str, list[tuple[bool, float]]] = defaultdict(list)
                for _ in range(sessions):
                    for name, values in session(rng, num_classes, accuracy, number).items():
                        all_[name] += values
                held = {name: round(float(np.mean([v[0] for v in values])), 4) for name, values in all_.items()}
                wide = {name: round(float(np.mean([v[1] for v in values])), 4) for name, values in all_.items()}
                rows.append({"classes": num_classes, "accuracy": accuracy, "number": number, "held": held, "width": wide})
    return {"provenance": made, "sessions": sessions, "seconds": round(time.monotonic() - start), "rows": rows}


def section(result: Mapping[str, Any]) -> list[str]:
    """Return the tables: all ways over all sessions, then those in use by what they are asked."""
    rows, made = result["rows"], result["provenance"]

    def mean(name: str, key: str, value: float, what: str = "held") -> float:
        return float(np.mean([row[what][name] for row in rows if key == "" or row[key] == value]))

    def outside(name: str) -> str:
        kinds = [row["held"][name] for row in rows]
        return f"{100 * min(kinds):.0f} to {100 * max(kinds):.0f}"

    ways = [*(f"accuracy: {w}" for w in ACCURACY), *(f"IoU: {w}" for w in IOU), "precision: Jeffreys"]
    used = {"accuracy: MOVER, Jeffreys", "IoU: posterior", "precision: Jeffreys"}
    heads = ["interval", "held the truth, %", "least and most of a kind, %", "mean width, points"]
    lines = table(
        heads,
        [
            [
                f"**{w}**" if w in used else w,
                f"{100 * mean(w, '', 0):.1f}",
                outside(w),
                f"{100 * mean(w, '', 0, 'width'):.1f}",
            ]
            for w in ways
        ],
    )
    lines += ["", "Those in use (bold above), in % of sessions, by accuracy, by number of points and by number of classes:", ""]
    order = [("accuracy", a, f"accuracy {a:g}") for a in ACCURACIES]
    order += [("number", n, f"{n} points") for n in NUMBERS] + [("classes", c, f"{c} classes") for c in CLASSES]
    ours = ["accuracy: MOVER, Jeffreys", "IoU: posterior", "precision: Jeffreys"]
    heads = ["", "accuracy", "IoU", "precision"]
    lines += table(heads, [[title, *(f"{100 * mean(w, key, value):.1f}" for w in ours)] for key, value, title in order])
    worst = sorted(rows, key=lambda row: row["held"][ours[0]])[:3]
    kinds = [row["held"][w] for row in rows for w in ours[:2]]
    inside = sum(0.93 <= round(k, 3) <= 0.97 for k in kinds)
    told = "; ".join(
        f"{row['classes']} classes, accuracy {row['accuracy']:g}, {row['number']} points: {100 * row['held'][ours[0]]:.0f} %"
        for row in worst
    )
    error = 100 * (0.95 * 0.05 / result["sessions"]) ** 0.5
    lines += [
        "",
        f"{inside} of {len(kinds)} (kind of session, accuracy or IoU) lie between 93 and 97 %. Of one kind the share itself "
        f"is known to ± {2 * error:.1f} points (accuracy). The accuracy's interval does worst with: {told}.",
        "",
        f"{result['sessions']} sessions of each of {len(rows)} kinds; {made['machine']['processor']}, one thread, "
        f"{result['seconds']} s beside other work; commit {made['commit']}, {made['date'][:10]}; "
        "`python -m benchmarks.audit_coverage`.",
    ]
    return lines


def main() -> None:
    """Parse, run, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "write"])
    parser.add_argument("--sessions", type=int, default=400)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    if given.what == "run":
        write_text(given.out, json.dumps(run(given.sessions), indent=1) + "\n")
    else:
        result = json.loads(given.out.read_text(encoding="utf-8"))
        write_text(PAGE, put(PAGE.read_text(encoding="utf-8"), "coverage", section(result)))


if __name__ == "__main__":
    main()
