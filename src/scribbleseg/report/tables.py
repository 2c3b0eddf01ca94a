"""The tables of a report."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from scribbleseg.compare import Difference, compare
from scribbleseg.config import RunConfig
from scribbleseg.report.runs import Run
from scribbleseg.scores import shown

ABSENT = "–"


class Cell(NamedTuple):
    """A number in a table, and whether it is the best of its kind."""

    text: str
    best: bool = False


def number(value: float | None, digits: int = 3) -> str:
    """Return a score with three decimals, or a dash where there is none."""
    return ABSENT if value is None else f"{value:.{digits}f}"


def comparison(runs: Sequence[Run]) -> tuple[list[str], list[list[Cell]]]:
    """Return the head and, a run, the cells of the table that compares runs."""
    px, unit = runs[0].scores["border_px"], runs[0].scores["distance_unit"]
    wanted = {
        "mIoU": "miou",
        "foreground Dice": "foreground_dice",
        "mean Dice": "mean_dice",
        "pixel accuracy": "pixel_accuracy",
        f"border mIoU ({px} px)": "border_miou",
        "boundary mIoU": "boundary_miou",
    }
    columns = {head: mark_best([run.scores[key] for run in runs]) for head, key in wanted.items()}
    if any("volume_dice" in run.scores for run in runs):
        columns["volume Dice"] = mark_best([run.scores.get("volume_dice", {}).get("foreground") for run in runs])
    for head, key in {f"HD95 ({unit})": "hd95", f"ASSD ({unit})": "assd"}.items():
        columns[head] = mark_best([run.scores[key] for run in runs], least=True, digits=2)
    if any("calibration" in run.scores for run in runs):
        columns["calibration error"] = mark_best([run.scores.get("calibration", {}).get("ece") for run in runs], least=True)
    between = [Cell(shown(run.scores["intervals"]["miou"])) for run in runs]
    columns = {"mIoU": columns.pop("mIoU"), "95 % of mIoU": between} | columns
    columns["steps"] = [Cell(f"{run.config.training.max_steps:,}") for run in runs]
    columns["method"] = [Cell(run.config.method) for run in runs]
    columns["trained on"] = [Cell(run.config.data.labels) for run in runs]
    columns["seed"] = [Cell(str(run.config.seed)) for run in runs]
    return list(columns), [list(row) for row in zip(*columns.values(), strict=True)]


def versus(runs: Sequence[Run]) -> list[tuple[Run, list[Difference]]]:
    """Return, of every run but the last, how the last differs from it on the same images."""
    return [(run, compare(run.scores, runs[-1].scores)) for run in runs[:-1]]


def mark_best(values: Sequence[float | None], *, least: bool = False, digits: int = 3) -> list[Cell]:
    """Return numbers as text; where there are two or more, those that print as the highest (lowest) are marked."""
    known = [round(v, digits) for v in values if v is not None]
    top = (min if least else max)(known) if len(known) > 1 else None
    return [Cell(number(v, digits), v is not None and top is not None and round(v, digits) == top) for v in values]


#: Columns of the tables by class: heading, key of the scores, digits, whether less is better.
_CLASS_COLUMNS = (
    ("IoU", "iou", 3, False),
    ("Dice", "dice", 3, False),
    ("precision", "precision", 3, False),
    ("recall", "recall", 3, False),
    ("boundary IoU", "boundary_iou", 3, False),
    ("HD95", "hd95", 2, True),
)
CLASS_HEAD = (*(head for head, *_ in _CLASS_COLUMNS), "95 % of IoU", "missed", "pixels")


def class_tables(runs: Sequence[Run]) -> list[list[list[Cell]]]:
    """Return, a run and a class, the cells under ``CLASS_HEAD``; the best over the runs is marked."""
    rows: list[list[list[Cell]]] = [[] for _ in runs]
    for name in runs[0].scores["classes"]:
        entries = [run.scores["classes"][name] for run in runs]
        columns = [mark_best([e[key] for e in entries], least=least, digits=n) for _, key, n, least in _CLASS_COLUMNS]
        for k, entry in enumerate(entries):
            missed = f"{entry['missed']} of {entry['cases']}" if entry["cases"] else ABSENT
            more = (shown(entry["iou_interval"]), missed, f"{entry['pixels']:,}")
            rows[k].append([*(column[k] for column in columns), *map(Cell, more)])
    return rows


def shares(confusion: Sequence[Sequence[int]]) -> list[list[float | None]]:
    """Return each row of a confusion divided by its sum; None where a class has no pixel."""
    return [[count / sum(row) if sum(row) else None for count in row] for row in confusion]


def differences(configs: Sequence[RunConfig]) -> list[tuple[str, list[str]]]:
    """Return the settings in which the runs differ, with each run's value; of a loss that some lack, the weight only."""
    flat = [dict(_leaves(config.model_dump(mode="json"))) for config in configs]
    keys = dict.fromkeys(key for tree in flat for key in tree)
    rows = [(key, [str(tree.get(key, ABSENT)) for tree in flat]) for key in keys]
    lone = {key for key, values in rows if ABSENT in values and re.match(r"losses\.\w+\.(?!weight$)", key)}
    return [(key, values) for key, values in rows if len(set(values)) > 1 and key not in lone]


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield above + key, value


def origins(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """Return what each run says of its making, a row a fact."""
    trees = [dict(_leaves(run.provenance)) | {"scored": run.scores.get("provenance", {}).get("date")} for run in runs]
    keys = dict.fromkeys(key for tree in trees for key in tree)
    return [(key, [ABSENT if tree.get(key) is None else str(tree[key]) for tree in trees]) for key in keys]
