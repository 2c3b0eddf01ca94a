"""Scores as a tree of plain numbers: the JSON file, the table, the comparison of two."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scribbleseg.atomic import write_text
from scribbleseg.errors import ScribblesegError
from scribbleseg.metrics import counts
from scribbleseg.metrics.bootstrap import Replicates, interval
from scribbleseg.metrics.calibration import NUM_BINS, expected_calibration_error
from scribbleseg.provenance import provenance
from scribbleseg.records import Scores
from scribbleseg.trees import from_json


def summary(scores: Scores) -> dict[str, Any]:
    """Return the scores as a tree of plain numbers; an absent class is None.

    ``miou``, ``dice``, ``pixel_accuracy`` pool pixels over the split; ``border_miou`` counts pixels near class borders only,
    and ``boundary_miou`` is the boundary IoU; ``hd95`` and ``assd`` are means over the images that a class is in, in
    ``distance_unit``, with the number of those ``cases`` and how many were ``missed`` (in truth or prediction alone);
    ``volume_dice`` is the mean over volumes of the Dice of stacked slices, per class and over classes 1…C−1.
    ``intervals`` are 95 % intervals of a bootstrap over images (volumes, where there are any), ``replicates`` its values.
    ``calibration`` is there where a network said how sure it was.
    """
    c = scores.confusion
    cases = scores.distances.sums[:, 2]
    means = np.divide(scores.distances.sums[:, :2].T, cases, out=np.full((2, len(cases)), np.nan), where=cases > 0)
    replicates = Replicates.of(scores.replicates)
    resampled = replicates.scores()
    of_class = np.array([interval(v) for v in replicates.iou().T])
    values = {
        "iou": counts.iou(c),
        "dice": counts.dice(c),
        "precision": counts.precision(c),
        "recall": counts.recall(c),
        "border_iou": counts.iou(scores.border_confusion),
        "boundary_iou": counts.ratio(*scores.boundary),
        "hd95": means[0],
        "assd": means[1],
    }
    truth_pixels = c.sum(1)
    tree: dict[str, Any] = {
        "num_images": len(scores.per_image),
        "num_pixels": int(c.sum()),
        "miou": counts.mean_present(values["iou"]),
        "mean_dice": counts.mean_present(values["dice"]),
        "foreground_dice": counts.mean_present(values["dice"][1:]),
        "pixel_accuracy": counts.pixel_accuracy(c),
        "border_miou": counts.mean_present(values["border_iou"]),
        "border_px": scores.border_px,
        "boundary_miou": counts.mean_present(values["boundary_iou"]),
        "hd95": counts.mean_present(means[0, 1:]),
        "assd": counts.mean_present(means[1, 1:]),
        "distance_unit": scores.distances.unit,
        "intervals": {name: list(interval(v)) for name, v in resampled.items()},
        "classes": {
            name: {"pixels": int(truth_pixels[k])}
            | {key: float(v[k]) for key, v in values.items()}
            | {"iou_interval": of_class[k].tolist(), "cases": int(cases[k]), "missed": int(scores.distances.sums[k, 3])}
            for k, name in enumerate(scores.names)
        },
        "confusion": c.tolist(),
        "replicates": {name: v.round(5).tolist() for name, v in resampled.items()},
        "per_image": list(scores.per_image),
    }
    if scores.per_volume:
        by_class = {n: counts.mean_present(np.array([v[n] for v in scores.per_volume])) for n in scores.names}
        tree["volume_dice"] = {
            "num_volumes": len(scores.per_volume),
            "classes": by_class,
            "foreground": counts.mean_present(np.array([by_class[n] for n in scores.names[1:]])),
        }
        tree["per_volume"] = list(scores.per_volume)
    if scores.reliability is not None:
        tree["calibration"] = _calibration(scores.reliability)
    cleaned = _without_nan(tree)
    assert isinstance(cleaned, dict)
    return cleaned


def volume_mean(volume: Mapping[str, Any]) -> float | None:
    """Return the mean Dice of a volume's classes but the first; an absent class has none."""
    present = [value for value in list(volume.values())[2:] if value is not None]
    return sum(present) / len(present) if present else None


def _calibration(sums: np.ndarray) -> dict[str, Any]:
    """Return the expected calibration error, and its bins."""
    pixels, confidence, right = sums
    columns = {"confidence": counts.ratio(confidence, pixels).tolist(), "accuracy": counts.ratio(right, pixels).tolist()}
    edges = [k / NUM_BINS for k in range(NUM_BINS + 1)]
    return {"ece": expected_calibration_error(sums), "edges": edges, "pixels": [int(n) for n in pixels]} | columns


def _without_nan(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _without_nan(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_without_nan(value) for value in tree]
    return None if isinstance(tree, float) and math.isnan(tree) else tree


def write_scores(
    path: Path, scores: Scores, *, source: str, data: str, split: str, fingerprint: str | None = None, left_out: int = 0
) -> None:
    """Write the summary as JSON, with what was compared, on what machine, and how many images could not be."""
    head: dict[str, Any] = {"source": source, "data": data, "split": split, "fingerprint": fingerprint}
    head |= {"provenance": provenance()} | ({"left_out": left_out} if left_out else {})
    write_text(path, json.dumps(head | summary(scores), indent=1, allow_nan=False) + "\n")


def read_scores(path: Path) -> dict[str, Any]:
    """Read such a file.

    Raises:
        ScribblesegError: it is missing or is not one.
    """
    try:
        tree = from_json(path.read_text(encoding="utf-8"))
        if not isinstance(tree, dict) or "confusion" not in tree:
            raise ValueError("not a file of `evaluate --json`")
    except (OSError, ValueError) as error:
        raise ScribblesegError(path, "the JSON file of `scribbleseg evaluate`", str(error), "evaluate first") from None
    return tree


#: Columns of the table, by their key.
COLUMNS = {
    "iou": "IoU",
    "iou_interval": "95 %",
    "dice": "Dice",
    "precision": "precision",
    "recall": "recall",
    "border_iou": "border IoU",
    "boundary_iou": "boundary IoU",
    "hd95": "HD95",
    "assd": "ASSD",
}


def table(tree: Mapping[str, Any]) -> str:
    """Return a summary as text: one row a class, then the pooled scores."""
    width = max(map(len, [*tree["classes"], "pixel accuracy"])) + 2
    lines = [" " * width + "".join(f"{head:>14}" for head in COLUMNS.values())]
    for name, row in tree["classes"].items():
        lines.append(f"{name:<{width}}" + "".join(f"{shown(row.get(key), key):>14}" for key in COLUMNS))
    intervals, unit = tree["intervals"], tree["distance_unit"]
    lines += [
        "",
        f"mIoU {shown(tree['miou'])} ({shown(intervals['miou'])})   foreground Dice {shown(tree['foreground_dice'])} "
        f"({shown(intervals['foreground_dice'])})   pixel accuracy {shown(tree['pixel_accuracy'])} "
        f"({shown(intervals['pixel_accuracy'])})",
        f"border mIoU ({tree['border_px']} px) {shown(tree['border_miou'])}   boundary mIoU {shown(tree['boundary_miou'])}   "
        f"HD95 {shown(tree['hd95'], 'hd95')} {unit}   ASSD {shown(tree['assd'], 'assd')} {unit}   images {tree['num_images']}",
    ]
    if "calibration" in tree:
        lines.append(f"calibration error {shown(tree['calibration']['ece'])}")
    missed = [f"{name} {row['missed']} of {row['cases']}" for name, row in tree["classes"].items() if row["missed"]]
    if missed:
        lines.append(f"in truth or prediction alone, and so as far off as the image is wide: {', '.join(missed)}")
    if "volume_dice" in tree:
        volume = tree["volume_dice"]
        each = ", ".join(f"{name} {shown(value)}" for name, value in list(volume["classes"].items())[1:])
        lines.append(f"Dice a volume {shown(volume['foreground'])}   over {volume['num_volumes']} volumes: {each}")
    return "\n".join(lines)


def shown(value: float | Sequence[float | None] | None, key: str = "") -> str:
    """Return a score as text: three decimals, distances with two, an interval as ``low–high``, a dash for none."""
    if value is None:
        return "–"
    if isinstance(value, Sequence):
        return "–" if None in value else "–".join(f"{v:.3f}" for v in value)
    return f"{value:.2f}" if key in ("hd95", "assd") else f"{value:.3f}"
