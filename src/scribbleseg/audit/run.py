"""An audit without the drawing page: a sheet of points, a table to fill in, and what the answers say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from scribbleseg.atomic import write_text
from scribbleseg.audit.estimate import Estimate, estimate
from scribbleseg.audit.points import Item, Plan, Pool, Unit, majority
from scribbleseg.audit.sheet import TABLE, read_answers, read_plan, write_sheet
from scribbleseg.data.folder import Dataset, open_dataset
from scribbleseg.data.images import open_image, read_rgb
from scribbleseg.data.readers.image import stem_of
from scribbleseg.errors import ConfigError, DataError
from scribbleseg.models.folder import TrainedModel, load_model
from scribbleseg.predict import LARGE_PIXELS, list_images, pick_device, predicted_bands, probabilities
from scribbleseg.provenance import provenance
from scribbleseg.records import UNLABELLED

RESULT = "audit.json"


def make_audit(
    model_folder: Path | str,
    data: Path | str,
    out: Path,
    *,
    number: int,
    unit: Unit = "pixel",
    split: str | None = None,
    seed: int = 0,
    device: str = "auto",
    truth: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Plan, Estimate | None]:
    """Choose points of a model's predictions, and write what a person needs to answer; or answer from masks.

    Args:
        model_folder: model or run folder.
        data: data set, or a folder of images.
        out: folder for sheet, plan and table.
        number: of points.
        unit: pixels, or patches of 16 × 16.
        split: of the data set; all its images by default.
        seed: of the points.
        device: for the model.
        truth: answer from the data set's dense masks, and write no sheet.
        progress: called with (done, total) after each image.

    Raises:
        ConfigError: ``out`` holds an audit.
        DataError: no images, or classes that differ from the model's.
        ModelError: the model folder is not whole.
    """
    if (out / TABLE).exists():
        raise ConfigError(
            out, "a new folder", "an audit is in it", f"finish it with --answers {out / TABLE}, or choose another --out"
        )
    model = load_model(model_folder)
    model.segmenter.to(pick_device(device))
    images, dataset = _images(Path(data), split)
    if dataset is not None and model.names != dataset.names:
        got = ", ".join(model.names)
        raise DataError(model_folder, f"a model of the data set's classes: {', '.join(dataset.names)}", got, "use its own data")
    if truth and (dataset is None or not dataset.has_masks()):
        raise DataError(data, "a data set with dense `masks`", "none", "answer by hand: leave --truth out")
    pool = Pool(model.names, number, unit, np.random.default_rng(seed))
    for done, (stem, path) in enumerate(images.items(), 1):
        pool.add(stem, *_predict(model, path, dataset, stem))
        if progress is not None:
            progress(done, len(images))
    plan = pool.plan()
    if truth:
        assert dataset is not None
        return plan, _written(out, plan, estimate(plan, true_answers(plan, dataset)))

    def rgb(stem: str) -> np.ndarray:
        return dataset.rgb(stem, model.reading) if dataset is not None else read_rgb(images[stem], model.reading)

    write_sheet(out, plan, rgb)
    return plan, None


def finish_audit(out: Path, answers: Path) -> tuple[Estimate, Unit]:
    """Read a filled table and conclude; ``audit.json`` in the folder keeps it.

    Raises:
        DataError: the plan or the table cannot be used, or nothing is answered.
    """
    plan = read_plan(out)
    given = read_answers(answers, plan)
    if not any(answer is not None for answer in given.values()):
        raise DataError(answers, "at least one answer", "none", "write classes into the column `class`")
    return _written(out, plan, estimate(plan, given)), plan.unit


def true_answers(plan: Plan, dataset: Dataset) -> dict[int, int | None]:
    """Return what the data set's dense masks say; None where they say nothing."""
    answers: dict[int, int | None] = {}
    for stem in sorted({item.image for item in plan.items}):
        mask = dataset.labels(stem, "masks")
        judged = majority(mask, len(plan.names)) if plan.unit == "patch" else mask
        for item in plan.items:
            if item.image == stem:
                answers[item.number] = _answer(judged, item, plan.unit)
    return answers


def _answer(judged: np.ndarray, item: Item, unit: Unit) -> int | None:
    side = 2 * item.radius if unit == "patch" else 1
    label = int(judged[item.y // side, item.x // side])
    return None if label == UNLABELLED else label


def _images(data: Path, split: str | None) -> tuple[dict[str, Path], Dataset | None]:
    """Return the image files by stem, and the data set if it is one."""
    if not (data / "dataset.yaml").is_file():
        return {stem_of(path): path for path in list_images(data)}, None
    dataset = open_dataset(data)
    splits = [split] if split is not None else list(dataset.spec.splits)
    stems = dict.fromkeys(stem for name in splits for stem in dataset.stems(name))
    return {stem: dataset.image_path(stem) for stem in stems}, dataset


def _predict(model: TrainedModel, path: Path, dataset: Dataset | None, stem: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Return an image's classes and how sure the model was; a very large image is read in bands, and says only classes."""
    with open_image(path, model.reading) as image:
        height, width, _ = image.shape
        if height * width > LARGE_PIXELS:
            labels = np.empty((height, width), np.uint8)
            for top, _, rows in predicted_bands(model, image, 0):
                labels[top : top + len(rows)] = rows
            return labels, None
    rgb = dataset.rgb(stem, model.reading) if dataset is not None else read_rgb(path, model.reading)
    sure, found = probabilities(model, rgb).max(0)
    return found.cpu().numpy().astype(np.uint8), sure.float().cpu().numpy()


def _written(out: Path, plan: Plan, found: Estimate) -> Estimate:
    head = {"unit": plan.unit, "names": list(plan.names), "sizes": list(plan.sizes), "provenance": provenance()}
    write_text(out / RESULT, json.dumps(head | found.tree(), indent=1, allow_nan=False) + "\n")
    return found


def table(found: Estimate, unit: Unit) -> str:
    """Return what was found as text."""

    def show(value: float, interval: tuple[float, float]) -> str:
        if value != value:  # NaN
            return "–"
        return f"{100 * value:.1f} % ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})"

    width = max(len(row["name"]) for row in found.classes) + 2
    lines = [
        f"accuracy {show(found.accuracy, found.interval)} of {unit}{'es' if unit == 'patch' else 's'}, {found.answered} answers"
    ]
    if found.unanswered:
        lines[0] += f", {found.unanswered} that nobody can tell"
    lines += ["", f"{'':<{width}}{'answers':>8}  {'precision':<24}{'recall':<24}IoU"]
    for row in found.classes:
        cells = [
            show(row[key], row[f"{key}_interval"] if key != "precision" else row["interval"])
            for key in ("precision", "recall", "iou")
        ]
        lines.append(f"{row['name']:<{width}}{row['number']:>8}  {cells[0]:<24}{cells[1]:<24}{cells[2]}")
    if found.reliability:
        lines += ["", "where the model was sure by     it was right in"]
        for row in found.reliability:
            where = f"{100 * row['low']:.0f} to {100 * row['high']:.0f} %"
            lines.append(f"{where:<32}{show(row['accuracy'], row['interval'])}   {row['n']} answers")
    lines += ["", "in brackets: 95 % intervals (docs/explanation/audit.md)"]
    return "\n".join(lines)
