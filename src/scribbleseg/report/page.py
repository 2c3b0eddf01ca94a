"""The report: one self-contained HTML file about one or several runs."""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from scribbleseg.atomic import write_text
from scribbleseg.data.folder import Dataset
from scribbleseg.data.loader import evenly
from scribbleseg.errors import ConfigError
from scribbleseg.models.folder import load_model
from scribbleseg.palette import hex_colours
from scribbleseg.predict import pick_device, predict_mask
from scribbleseg.provenance import provenance
from scribbleseg.report import tables
from scribbleseg.report.alike import alike_section
from scribbleseg.report.curves import curve_panels, read_history, reliability_panel
from scribbleseg.report.pictures import case_tiles
from scribbleseg.report.plain import as_csv, as_json, as_markdown
from scribbleseg.report.runs import Run, read_runs
from scribbleseg.report.strokes import stroke_table
from scribbleseg.report.words import caveats, describe

NUM_CASES = 6

#: Forms beside HTML, by the suffix of the file.
PLAIN: dict[str, Callable[[Mapping[str, Any]], str]] = {".md": as_markdown, ".csv": as_csv, ".json": as_json}


def report(
    runs: Sequence[Path | str],
    out: Path | str,
    *,
    data: Path | str | None = None,
    split: str = "test",
    titles: Sequence[str] | None = None,
    num_cases: int = NUM_CASES,
    device: str = "auto",
) -> Path:
    """Write one file that compares runs on a split; return its path.

    Args:
        runs: run folders of ``train``. The last is the primary one, whose scores choose the cases shown.
        out: file to write. HTML without any outside part, unless its name ends in .md, .csv or .json: those hold the words
            and tables, a row a run and class, or the whole trees of scores.
        data: data set folder; that of the first run if None.
        split: name of the split. A run's ``scores_SPLIT.json`` is read, or made anew
            where it is missing or is not of this model, these images and these masks.
        titles: names of the runs in the report; their folders' names if None.
        num_cases: number of worst cases, of typical ones and of the best.
        device: for predictions.

    Raises:
        ConfigError: no run, not one title a run, or no data set.
        DataError: the data set cannot be used, or has other classes than a run.
        ModelError: a run without a whole model.
    """
    folders, out = [Path(run) for run in runs], Path(out)
    if not folders or (titles is not None and len(titles) != len(folders)):
        got = "no run" if not folders else f"{len(titles or ())} titles for {len(folders)} runs"
        raise ConfigError("report", "at least one run folder, and one title a run", got, "name the run folders")
    loaded, dataset = read_runs(folders, titles, Path(data) if data else None, split, device)
    again = _command(folders, out, Path(data) if data else None, split, titles, num_cases)
    page = _numbers(loaded, dataset, split) | {"command": again, "made": provenance()}
    written = PLAIN.get(out.suffix.lower())
    write_text(out, written(page) if written else _html(page, dataset, num_cases, device))
    return out


def _numbers(loaded: Sequence[Run], dataset: Dataset, split: str) -> dict[str, Any]:
    """Return what every form of the report tells."""
    return {
        "dataset": dataset.spec.name,
        "split": split,
        "runs": loaded,
        "classes": list(zip(dataset.names, hex_colours(len(dataset.names)), strict=True)),
        "lead": describe(loaded, dataset.spec.name, split),
        "caveats": caveats(loaded, split),
        "comparison": tables.comparison(loaded),
        "versus": tables.versus(loaded),
        "border_px": loaded[0].scores["border_px"],
        "unit": loaded[0].scores["distance_unit"],
        "class_head": tables.CLASS_HEAD,
        "class_tables": tables.class_tables(loaded),
        "strokes": stroke_table(dataset, loaded[-1].config.data.train_split),
        "confusions": [tables.shares(run.scores["confusion"]) for run in loaded],
        "differences": tables.differences([run.config for run in loaded]),
        "origins": tables.origins(loaded),
    }


def _html(page: Mapping[str, Any], dataset: Dataset, num_cases: int, device: str) -> str:
    loaded = page["runs"]
    loader = jinja2.PackageLoader("scribbleseg", "templates")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = tables.number
    script, _, _ = loader.get_source(environment, "report.js")
    groups = pick_cases(loaded[-1].scores["per_image"], num_cases)
    firsts = {f"photo-{n}-1": group[0] for n, group in enumerate(groups.values(), start=1) if group}
    cases = iter(_cases(loaded, dataset, [stem for group in groups.values() for stem in group], device))
    whole = {
        **page,
        "curves": curve_panels([(run.title, read_history(run.folder / "metrics.csv")) for run in loaded]),
        "calibration": reliability_panel([(run.title, run.scores.get("calibration")) for run in loaded]),
        "case_groups": [(heading, [next(cases) for _ in group]) for heading, group in groups.items()],
        "alike": alike_section(loaded[-1], dataset, firsts, device),
        "script": Markup(script),
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }
    return environment.get_template("report.html.j2").render(whole)


def pick_cases(per_image: Sequence[Mapping[str, Any]], num_cases: int) -> dict[str, list[str]]:
    """Return stems by heading: the worst images by mIoU, worst first, the best, best first, and others from between."""
    order = [i["stem"] for i in sorted((i for i in per_image if i["miou"] is not None), key=lambda i: float(i["miou"]))]
    num_worst = min(num_cases, -(-len(order) // 3))
    num_best = min(num_cases, (len(order) - num_worst) // 2)
    between = order[num_worst : len(order) - num_best]
    return {
        "Worst cases": order[:num_worst],
        "Typical cases": list(evenly(between, num_cases)) if num_cases else [],
        "Best cases": order[len(order) - num_best :][::-1],
    }


def _cases(runs: Sequence[Run], dataset: Dataset, stems: Sequence[str], device: str) -> list[dict[str, Any]]:
    predictions: list[dict[str, np.ndarray]] = []
    for run in runs:
        model = load_model(run.folder)
        model.segmenter.to(pick_device(device))
        predictions.append({stem: predict_mask(model, dataset.rgb(stem, model.reading)) for stem in stems})
    scores = [{image["stem"]: image["miou"] for image in run.scores["per_image"]} for run in runs]
    return [
        case_tiles(dataset, stem, [(r.title, p[stem], s[stem]) for r, p, s in zip(runs, predictions, scores, strict=True)])
        for stem in stems
    ]


def _command(folders: Sequence[Path], out: Path, data: Path | None, split: str, titles: Any, num_cases: int) -> str:
    """Return what makes the report again: the command, or Python where it has settings that the command lacks."""
    if titles is None and num_cases == NUM_CASES:
        place = ["--data", str(data)] if data else []
        return shlex.join(["scribbleseg", "report", *map(str, folders), "--out", str(out), *place, "--split", split])
    words = [f"{[str(f) for f in folders]!r}, {str(out)!r}", f"split={split!r}", f"num_cases={num_cases}"]
    words += [f"data={str(data)!r}"] * (data is not None) + [f"titles={list(titles or ())!r}"] * (titles is not None)
    return f"from scribbleseg.report.page import report\n\nreport({', '.join(words)})"
