"""Evaluation: predictions against dense masks, pooled counts, one JSON."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from scribbleseg import metrics
from scribbleseg.atomic import write_text
from scribbleseg.data.folder import Dataset, open_dataset
from scribbleseg.data.images import read_index
from scribbleseg.data.shards.files import File
from scribbleseg.errors import DataError, ScribblesegError
from scribbleseg.models.folder import CONFIG, PREPROCESSOR, WEIGHTS, find_model, load_model
from scribbleseg.predict import pick_device, predict_mask
from scribbleseg.provenance import provenance
from scribbleseg.reading import PLAIN
from scribbleseg.records import UNLABELLED, Scores

#: Distance from a class border within which the border scores count, in pixels.
BORDER_PX = 5


def evaluate(
    source: Path | str,
    data: Path | str,
    *,
    split: str = "test",
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Scores:
    """Score a model, or a folder of index masks, against a split's dense masks.

    Args:
        source: a model or run folder, or a folder with one index mask a stem.
        data: data set folder.
        split: name of the split.
        device: for a model.
        progress: called with (done, total) after each image.

    Raises:
        DataError: no masks, a missing or wrong prediction, or classes that differ from the model's.
        ModelError: the model folder is not whole.
    """
    dataset, source = open_dataset(data), Path(source)
    stems = dataset.stems(split)
    if not dataset.has_masks():
        raise DataError(dataset.root, "a folder of dense `masks` to compare with", "none", "evaluate on a data set with masks")
    predict = _from_model(source, dataset, device) if _is_model(source) else _from_folder(source, dataset)
    return score(dataset, stems, predict, progress)


def score(
    dataset: Dataset,
    stems: Iterable[str],
    predict: Callable[[str], np.ndarray],
    progress: Callable[[int, int], None] | None = None,
) -> Scores:
    """Compare ``predict(stem)`` with the masks; memory does not grow with the number of images."""
    stems = tuple(stems)
    num_classes = len(dataset.names)
    confusion = np.zeros((num_classes, num_classes), dtype=np.int64)
    border = np.zeros_like(confusion)
    per_image: list[dict[str, Any]] = []
    volumes: dict[str, np.ndarray] = {}
    for n, stem in enumerate(stems):
        truth = dataset.labels(stem, "masks")
        prediction = predict(stem)
        if prediction.shape != truth.shape:
            raise DataError(
                stem, f"a prediction of {truth.shape}, as the mask", str(prediction.shape), "predict at the image's size"
            )
        counts = metrics.confusion_matrix(truth, prediction, num_classes)
        confusion += counts
        inside = np.where(metrics.near_border(truth, BORDER_PX), truth, UNLABELLED)
        border += metrics.confusion_matrix(inside, prediction, num_classes)
        per_image.append(
            {"stem": stem, "miou": metrics.mean_present(metrics.iou(counts)), "pixel_accuracy": metrics.pixel_accuracy(counts)}
            | _spacing(dataset, stem)
        )
        volume = dataset.volume_of(stem)
        if volume is not None:
            volumes[volume] = volumes.get(volume, 0) + counts
        if progress is not None:
            progress(n + 1, len(stems))
    per_volume = tuple(
        {"volume": v} | dict(zip(dataset.names, metrics.dice(c).tolist(), strict=True)) for v, c in volumes.items()
    )
    return Scores(dataset.names, confusion, border, BORDER_PX, tuple(per_image), per_volume)


def _spacing(dataset: Dataset, stem: str) -> dict[str, Any]:
    """Return the spacing of an image's pixels where its file says it; masks can be compared without the image."""
    with contextlib.suppress(DataError):
        spacing = dataset.spacing_mm(stem)
        return {"spacing_mm": list(spacing)} if spacing is not None else {}
    return {}


def _is_model(folder: Path) -> bool:
    return any((place / name).is_file() for place in (folder, folder / "model") for name in (CONFIG, WEIGHTS))


def _from_model(folder: Path, dataset: Dataset, device: str) -> Callable[[str], np.ndarray]:
    model = load_model(folder)
    if model.names != dataset.names:
        got = ", ".join(model.names)
        raise DataError(
            folder, f"a model of the data set's classes: {', '.join(dataset.names)}", got, "use the data it was trained for"
        )
    model.segmenter.to(pick_device(device))
    return lambda stem: predict_mask(model, dataset.rgb(stem, model.reading))


def _from_folder(folder: Path, dataset: Dataset) -> Callable[[str], np.ndarray]:
    if not folder.is_dir():
        raise DataError(folder, "a model folder, or a folder of masks", "no such folder", "check the path")

    def predict(stem: str) -> np.ndarray:
        path, number = dataset.listing.find(folder, stem)
        labels = read_index(path, number)
        if labels.max(initial=0) >= len(dataset.names):
            got = f"id {labels.max()}"
            raise DataError(path, f"class ids below {len(dataset.names)}, every pixel decided", got, "export class ids")
        return labels

    return predict


def summary(scores: Scores) -> dict[str, Any]:
    """Return the scores as a tree of plain numbers; an absent class is None.

    ``miou``, ``dice``, ``pixel_accuracy`` pool pixels over the split; ``border_miou`` counts pixels near class borders only;
    ``volume_dice`` is the mean over volumes of the Dice of stacked slices, per class and over classes 1…C−1.
    """
    c = scores.confusion
    values = {
        "iou": metrics.iou(c),
        "dice": metrics.dice(c),
        "precision": metrics.precision(c),
        "recall": metrics.recall(c),
        "border_iou": metrics.iou(scores.border_confusion),
    }
    truth_pixels = c.sum(1)
    tree: dict[str, Any] = {
        "num_images": len(scores.per_image),
        "num_pixels": int(c.sum()),
        "miou": metrics.mean_present(values["iou"]),
        "mean_dice": metrics.mean_present(values["dice"]),
        "foreground_dice": metrics.mean_present(values["dice"][1:]),
        "pixel_accuracy": metrics.pixel_accuracy(c),
        "border_miou": metrics.mean_present(values["border_iou"]),
        "border_px": scores.border_px,
        "classes": {
            name: {"pixels": int(truth_pixels[k])} | {key: float(v[k]) for key, v in values.items()}
            for k, name in enumerate(scores.names)
        },
        "confusion": c.tolist(),
        "per_image": list(scores.per_image),
    }
    if scores.per_volume:
        by_class = {n: metrics.mean_present(np.array([v[n] for v in scores.per_volume])) for n in scores.names}
        tree["volume_dice"] = {
            "num_volumes": len(scores.per_volume),
            "classes": by_class,
            "foreground": metrics.mean_present(np.array([by_class[n] for n in scores.names[1:]])),
        }
        tree["per_volume"] = list(scores.per_volume)
    cleaned = _without_nan(tree)
    assert isinstance(cleaned, dict)
    return cleaned


def _without_nan(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _without_nan(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_without_nan(value) for value in tree]
    return None if isinstance(tree, float) and math.isnan(tree) else tree


def fingerprint(model_folder: Path | str, dataset: Dataset, split: str) -> str:
    """Return a hash of everything scores depend on: weights, configuration, class names, images and masks of the split."""
    folder = find_model(model_folder)
    spec = dataset.spec
    digest = hashlib.sha256(repr((spec.names, spec.unlabelled, spec.volume)).encode())
    if spec.reading != PLAIN or spec.arrays:
        digest.update(repr((spec.reading, sorted(spec.arrays.items()))).encode())
    paths: list[File] = [folder / name for name in (WEIGHTS, CONFIG, PREPROCESSOR)]
    for stem in dataset.stems(split):
        paths += [dataset.image_path(stem), dataset.listing.find(dataset.folder("masks"), stem).path]
    for path in dict.fromkeys(paths):  # slices share their file
        for part in sorted(path.rglob("*")) if isinstance(path, Path) and path.is_dir() else [path]:
            if part.is_file():
                with part.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def write_scores(path: Path, scores: Scores, *, source: str, data: str, split: str, fingerprint: str | None = None) -> None:
    """Write the summary as JSON, with what was compared and on what machine."""
    head = {"source": source, "data": data, "split": split, "fingerprint": fingerprint, "provenance": provenance()}
    write_text(path, json.dumps(head | summary(scores), indent=1, allow_nan=False) + "\n")


def read_scores(path: Path) -> dict[str, Any]:
    """Read such a file.

    Raises:
        ScribblesegError: it is missing or is not one.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(tree, dict) or "confusion" not in tree:
            raise ValueError("not a file of `evaluate --json`")
    except (OSError, ValueError) as error:
        raise ScribblesegError(path, "the JSON file of `scribbleseg evaluate`", str(error), "evaluate first") from None
    return tree


def table(tree: dict[str, Any]) -> str:
    """Return a summary as text: one row a class, then the pooled scores."""

    def show(value: float | None) -> str:
        return f"{'–':>12}" if value is None else f"{value:>12.3f}"

    columns = ("iou", "dice", "precision", "recall", "border_iou")
    width = max(map(len, [*tree["classes"], "pixel accuracy"])) + 2
    lines = [" " * width + "".join(f"{c.replace('_', ' '):>12}" for c in columns)]
    for name, row in tree["classes"].items():
        lines.append(f"{name:<{width}}" + "".join(show(row[c]) for c in columns))
    lines += [
        "",
        f"mIoU {show(tree['miou']).strip()}   pixel accuracy {show(tree['pixel_accuracy']).strip()}   "
        f"border mIoU ({tree['border_px']} px) {show(tree['border_miou']).strip()}   images {tree['num_images']}",
    ]
    if "volume_dice" in tree:
        volume = tree["volume_dice"]
        each = ", ".join(f"{name} {show(value).strip()}" for name, value in list(volume["classes"].items())[1:])
        lines.append(f"Dice a volume {show(volume['foreground']).strip()}   over {volume['num_volumes']} volumes: {each}")
    return "\n".join(lines)
