"""The report: one self-contained HTML file about one or several runs."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
from markupsafe import Markup

from scribbleseg.atomic import write_text
from scribbleseg.config import RunConfig, dump_config, load_config, without_places
from scribbleseg.data.folder import Dataset, open_dataset
from scribbleseg.data.loader import evenly
from scribbleseg.errors import ConfigError, DataError
from scribbleseg.evaluate import evaluate, fingerprint
from scribbleseg.models.folder import load_model
from scribbleseg.palette import hex_colours
from scribbleseg.predict import pick_device, predict_mask
from scribbleseg.provenance import provenance
from scribbleseg.report_figures import Style, case_tiles, curve_panels, read_history, run_style
from scribbleseg.scores import read_scores, write_scores

ABSENT = "–"
NUM_CASES = 6

#: Moves the overlays' opacity; the page is whole without it.
_SCRIPT = """
const bar = document.getElementById("opacity");
const shown = document.getElementById("opacity-shown");
bar.closest(".control").hidden = false;
bar.addEventListener("input", () => {
  document.documentElement.style.setProperty("--overlay", bar.value / 100);
  shown.textContent = bar.value + " %";
});
"""


@dataclass(frozen=True)
class Run:
    """What a report knows of a run.

    Attributes:
        scores: tree of ``evaluate.summary`` with ``provenance``.
    """

    title: str
    folder: Path
    style: Style
    config: RunConfig
    yaml: str
    provenance: Mapping[str, Any]
    scores: Mapping[str, Any]


class Cell(NamedTuple):
    """A number in a table, and whether it is the best of its kind."""

    text: str
    best: bool = False


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
    """Write one HTML file, without any outside part, that compares runs on a split; return its path.

    Args:
        runs: run folders of ``train``. The last is the primary one, whose scores choose the cases shown.
        out: file to write.
        data: data set folder; that of the first run if None.
        split: name of the split. A run's ``scores_SPLIT.json`` is read, or made anew
            where it is missing or is not of this model, these images and these masks.
        titles: names of the runs in the report; their folders' names if None.
        num_cases: number of worst cases, and of typical ones.
        device: for predictions.

    Raises:
        ConfigError: no run, not one title a run, or no data set.
        DataError: the data set cannot be used, or has other classes than a run.
        ModelError: a run without a whole model.
    """
    folders, out = [Path(r) for r in runs], Path(out)
    if not folders or (titles is not None and len(titles) != len(folders)):
        got = "no run" if not folders else f"{len(titles or ())} titles for {len(folders)} runs"
        raise ConfigError("report", "at least one run folder, and one title a run", got, "name the run folders")
    configs = [load_config(folder / "config.yaml") for folder in folders]
    root = Path(data) if data else configs[0].data.root
    if root is None:
        raise ConfigError(
            folders[0] / "config.yaml", "data.root, the data set's folder", "nothing", "give it with --data DATASET"
        )
    dataset = open_dataset(root)
    names = titles or _folder_titles(folders)
    loaded = [
        Run(
            title,
            folder,
            run_style(k),
            config,
            dump_config(config),
            _read_run_json(folder / "run.json"),
            _scores(folder, dataset, split, device),
        )
        for k, (title, folder, config) in enumerate(zip(names, folders, map(without_places, configs), strict=True))
    ]
    worst, typical = pick_cases(loaded[-1].scores["per_image"], num_cases)
    shown = _cases(loaded, dataset, [*worst, *typical], device)
    command = _command(folders, Path(out), Path(data) if data else None, split, titles, num_cases)
    page = {
        "dataset": dataset.spec.name,
        "split": split,
        "runs": loaded,
        "classes": list(zip(dataset.names, hex_colours(len(dataset.names)), strict=True)),
        "lead": describe(loaded, dataset.spec.name, split),
        "caveats": caveats(loaded, split),
        "comparison": comparison(loaded),
        "border_px": loaded[0].scores["border_px"],
        "class_tables": class_tables(loaded),
        "confusions": [_shares(run.scores["confusion"]) for run in loaded],
        "curves": curve_panels([(run.title, read_history(run.folder / "metrics.csv")) for run in loaded]),
        "case_groups": [("Worst cases", shown[: len(worst)]), ("Typical cases", shown[len(worst) :])],
        "differences": differences([run.config for run in loaded]),
        "origins": _origins(loaded),
        "command": command,
        "made": provenance(),
        "script": Markup(_SCRIPT),
        "script_hash": base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode(),
    }
    loader = jinja2.PackageLoader("scribbleseg", "templates")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = number
    write_text(Path(out), environment.get_template("report.html.j2").render(page))
    return Path(out)


def number(value: float | None) -> str:
    """Return a score with three decimals, or a dash where there is none."""
    return ABSENT if value is None else f"{value:.3f}"


def _folder_titles(folders: Sequence[Path]) -> list[str]:
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) == len(names):
        return names
    return [f"{folder.resolve().parent.name}/{name}" for folder, name in zip(folders, names, strict=True)]


def _read_run_json(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(path, "the JSON file that `train` wrote", str(error), "restore or remove it") from None
    return tree if isinstance(tree, dict) else {}


def _scores(folder: Path, dataset: Dataset, split: str, device: str) -> Mapping[str, Any]:
    """Return the run's scores: those on disk if they are of this very model, split and masks, else new ones."""
    path, now = folder / f"scores_{split}.json", fingerprint(folder, dataset, split)
    if path.is_file():
        scores = read_scores(path)
        if scores.get("fingerprint") == now:
            return scores
    found = evaluate(folder, dataset.root, split=split, device=device)
    names = {"source": folder.resolve().name, "data": dataset.root.resolve().name}
    write_scores(path, found, **names, split=split, fingerprint=now)
    return read_scores(path)


def pick_cases(per_image: Sequence[Mapping[str, Any]], num_cases: int) -> tuple[list[str], list[str]]:
    """Return the stems of the worst images by mIoU, worst first, and of others evenly spaced over the rest of that order."""
    order = [i["stem"] for i in sorted((i for i in per_image if i["miou"] is not None), key=lambda i: float(i["miou"]))]
    num_worst = min(num_cases, -(-len(order) // 2))
    return order[:num_worst], list(evenly(order[num_worst:], num_cases)) if num_cases else []


def describe(runs: Sequence[Run], dataset: str, split: str) -> str:
    """Return the outcome in a few sentences, with the numbers as they are printed."""
    ranked = sorted(runs, key=lambda run: -1.0 if run.scores["miou"] is None else float(run.scores["miou"]), reverse=True)
    best, s = ranked[0], ranked[0].scores
    text = f"On the {s['num_images']:,} images of the split “{split}” of {dataset} ({len(s['classes'])} classes, "
    text += f"{s['num_pixels']:,} pixels with a known class), "
    if len(runs) == 1:
        text += f"the run “{best.title}” reaches a mean IoU of {number(s['miou'])}, "
        text += f"and a mean Dice of {number(s['foreground_dice'])} over all classes but the first. "
    elif number(s["miou"]) == number(ranked[1].scores["miou"]):
        text += f"“{best.title}” and “{ranked[1].title}” are level in mean IoU, at {number(s['miou'])}. "
    else:
        text += f"“{best.title}” has the highest mean IoU, {number(s['miou'])}. {_lead(best, ranked[1])}"
    known = {name: c["iou"] for name, c in s["classes"].items() if c["iou"] is not None}
    if len(known) > 1:
        low, high = min(known, key=known.__getitem__), max(known, key=known.__getitem__)
        text += f"The best class of “{best.title}” is {high} (IoU {number(known[high])}), "
        text += f"its weakest {low} ({number(known[low])}). "
    rivals = [run for run in ranked if run.config.data.labels != "masks"]
    if best.config.data.labels == "masks" and rivals:
        text += f"“{best.title}” was trained on dense masks, so it is an upper bound; the best run trained on scribbles is "
        text += f"“{rivals[0].title}” with {number(rivals[0].scores['miou'])}."
    return text.strip()


def _lead(best: Run, second: Run) -> str:
    mine, its = best.scores["miou"], second.scores["miou"]
    if its is None:
        return ""
    theirs = {i["stem"]: i["miou"] for i in second.scores["per_image"]}
    pairs = [(i["miou"], theirs[i["stem"]]) for i in best.scores["per_image"]]
    pairs = [(a, b) for a, b in pairs if a is not None and b is not None]
    lead = f"That is {round(mine, 3) - round(its, 3):.3f} more than “{second.title}” ({number(its)}); image by image "
    return lead + f"it scores higher on {sum(a > b for a, b in pairs)} of {len(pairs)}. "


def caveats(runs: Sequence[Run], split: str) -> list[str]:
    """Return what a reader must know before trusting the numbers."""
    first, notes = runs[0].scores, []
    if split in {run.config.data.train_split for run in runs}:
        notes.append(f"The split “{split}” was trained on: its scores say nothing about new images.")
    if first["num_images"] < 20:
        notes.append(f"{first['num_images']} images are few: on other images of the same kind the numbers may well differ.")
    if len(runs) > 1:
        notes.append(
            "Each run is one training; how much of a difference is chance shows only when runs are repeated with other seeds."
        )
        if len({run.config.data.labels for run in runs}) > 1:
            notes.append("Runs trained on masks have seen every pixel's class; runs trained on scribbles only the strokes.")
        if len({run.config.training.max_steps for run in runs}) > 1:
            notes.append("The runs were trained for different numbers of steps.")
    missing = [name for name, c in first["classes"].items() if not c["pixels"]]
    if missing:
        notes.append(
            f"No pixel of the truth is {', '.join(missing)}: a run that predicts it has an IoU of 0 there, "
            "and one that does not leaves it out of its means."
        )
    return notes


def comparison(runs: Sequence[Run]) -> tuple[list[str], list[list[Cell]]]:
    """Return the head and, a run, the cells of the table that compares runs."""
    px = runs[0].scores["border_px"]
    wanted = {
        "mIoU": "miou",
        "foreground Dice": "foreground_dice",
        "mean Dice": "mean_dice",
        "pixel accuracy": "pixel_accuracy",
    }
    columns = {head: [run.scores.get(key) for run in runs] for head, key in wanted.items()}
    columns[f"border mIoU ({px} px)"] = [run.scores.get("border_miou") for run in runs]
    if any("volume_dice" in run.scores for run in runs):
        columns["volume Dice"] = [run.scores.get("volume_dice", {}).get("foreground") for run in runs]
    table = {head: mark_best(values) for head, values in columns.items()}
    table["steps"] = [Cell(f"{run.config.training.max_steps:,}") for run in runs]
    table["method"] = [Cell(run.config.method) for run in runs]
    table["trained on"] = [Cell(run.config.data.labels) for run in runs]
    table["seed"] = [Cell(str(run.config.seed)) for run in runs]
    return list(table), [list(row) for row in zip(*table.values(), strict=True)]


def mark_best(values: Sequence[float | None]) -> list[Cell]:
    """Return numbers as text; where there are two or more, those that print as the highest are marked."""
    known = [round(v, 3) for v in values if v is not None]
    top = max(known) if len(known) > 1 else None
    return [Cell(number(v), v is not None and top is not None and round(v, 3) == top) for v in values]


def class_tables(runs: Sequence[Run]) -> list[list[list[Cell]]]:
    """Return, a run and a class, the cells IoU, Dice, precision, recall and pixels; the best over the runs is marked."""
    tables: list[list[list[Cell]]] = [[] for _ in runs]
    for name in runs[0].scores["classes"]:
        entries = [run.scores["classes"][name] for run in runs]
        columns = [mark_best([entry[key] for entry in entries]) for key in ("iou", "dice", "precision", "recall")]
        for k, entry in enumerate(entries):
            tables[k].append([*(column[k] for column in columns), Cell(f"{entry['pixels']:,}")])
    return tables


def _shares(confusion: Sequence[Sequence[int]]) -> list[list[float | None]]:
    return [[count / sum(row) if sum(row) else None for count in row] for row in confusion]


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


def _origins(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """Return what each run says of its making, a row a fact."""
    trees = [dict(_leaves(run.provenance)) | {"scored": run.scores.get("provenance", {}).get("date")} for run in runs]
    keys = dict.fromkeys(key for tree in trees for key in tree)
    return [(key, [ABSENT if tree.get(key) is None else str(tree[key]) for tree in trees]) for key in keys]


def _command(folders: Sequence[Path], out: Path, data: Path | None, split: str, titles: Any, num_cases: int) -> str:
    """Return what makes the report again: the command, or Python where it has settings that the command lacks."""
    if titles is None and num_cases == NUM_CASES:
        place = ["--data", str(data)] if data else []
        return shlex.join(["scribbleseg", "report", *map(str, folders), "--out", str(out), *place, "--split", split])
    words = [f"{[str(f) for f in folders]!r}, {str(out)!r}", f"split={split!r}", f"num_cases={num_cases}"]
    words += [f"data={str(data)!r}"] * (data is not None) + [f"titles={list(titles or ())!r}"] * (titles is not None)
    return f"from scribbleseg.report import report\n\nreport({', '.join(words)})"
