"""The report for programs and for places without a browser: Markdown, CSV, JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from scribbleseg.compare import comparison_table

#: Scores of a class in the CSV file, by their key.
_COLUMNS = ("iou", "dice", "precision", "recall", "border_iou", "boundary_iou", "hd95", "assd", "cases", "missed", "pixels")


def as_markdown(page: Mapping[str, Any]) -> str:
    """Return the words and tables."""
    parts = [f"# Segmentation of {page['dataset']}", page["lead"], "\n".join(f"- {note}" for note in page["caveats"])]
    head, rows = page["comparison"]
    titles = [run.title for run in page["runs"]]
    parts += ["## Scores", _table(["run", *head], ([title, *row] for title, row in zip(titles, _texts(rows), strict=True)))]
    for run, found in page["versus"]:
        parts.append(f"```\n{comparison_table(found, (run.title, titles[-1]))}\n```")
    names = [name for name, _ in page["classes"]]
    for title, table in zip(titles, page["class_tables"], strict=True):
        rows_ = ([name, *row] for name, row in zip(names, _texts(table), strict=True))
        parts += [f"## Classes, {title}", _table(["class", *page["class_head"]], rows_)]
    parts.append(f"Distances in {page['unit']}. Made again by:\n\n```\n{page['command']}\n```")
    return "\n\n".join(part for part in parts if part) + "\n"


def as_csv(page: Mapping[str, Any]) -> str:
    """Return a row a run and class, and one a run for all classes."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["run", "split", "class", *_COLUMNS, "iou_low", "iou_high", "distance_unit"])
    for run in page["runs"]:
        scores = run.scores
        for name, row in scores["classes"].items():
            values = [row[key] for key in _COLUMNS] + row["iou_interval"]
            writer.writerow([run.title, page["split"], name, *_blank(values), scores["distance_unit"]])
        means = {"iou": "miou", "dice": "mean_dice", "border_iou": "border_miou", "boundary_iou": "boundary_miou"}
        values = [scores.get(means.get(key, key)) for key in _COLUMNS] + scores["intervals"]["miou"]
        writer.writerow([run.title, page["split"], "", *_blank(values), scores["distance_unit"]])
    return buffer.getvalue()


def as_json(page: Mapping[str, Any]) -> str:
    """Return everything that is known of the runs."""
    runs = [{"title": run.title, "config": run.config.model_dump(mode="json"), "scores": run.scores} for run in page["runs"]]
    versus = [{"run": run.title, "differences": [vars(d) for d in found]} for run, found in page["versus"]]
    known = {key: page[key] for key in ("dataset", "split", "lead", "caveats", "command", "made")}
    return json.dumps(known | {"runs": runs, "versus": versus}, indent=1, allow_nan=False, default=str) + "\n"


def _texts(rows: Iterable[Iterable[Any]]) -> list[list[str]]:
    return [[f"**{cell.text}**" if cell.best else cell.text for cell in row] for row in rows]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _blank(values: Iterable[Any]) -> list[Any]:
    return ["" if value is None else value for value in values]
