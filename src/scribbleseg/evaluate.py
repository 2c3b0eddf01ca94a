"""Evaluation: predictions against dense masks, pooled over a split."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from scribbleseg.data.folder import Dataset, open_dataset
from scribbleseg.data.images import open_image, read_index
from scribbleseg.data.shards.files import File
from scribbleseg.errors import DataError
from scribbleseg.metrics.gather import gather
from scribbleseg.metrics.image import ImageScores, Prediction, measure
from scribbleseg.metrics.surfaces import Spacing
from scribbleseg.models.folder import CONFIG, PREPROCESSOR, WEIGHTS, TrainedModel, find_model, load_model
from scribbleseg.predict import LARGE_PIXELS, Views, pick_device, predict_large, refined_probabilities
from scribbleseg.predict.views import ONCE
from scribbleseg.reading import PLAIN
from scribbleseg.records import Scores

#: Counts up when scores of the same predictions change, or new ones are added.
VERSION = 2


def evaluate(
    source: Path | str,
    data: Path | str,
    *,
    split: str = "test",
    device: str = "auto",
    refine: str | None = None,
    views: Views = ONCE,
    progress: Callable[[int, int], None] | None = None,
) -> Scores:
    """Score a model, or a folder of index masks, against a split's dense masks.

    Args:
        source: a model or run folder, or a folder with one index mask a stem.
        data: data set folder.
        split: name of the split.
        device: for a model.
        refine: a name of :data:`scribbleseg.refine.REFINEMENTS`, for a model.
        views: how often the model looks, see :class:`~scribbleseg.predict.views.Views`.
        progress: called with (done, total) after each image.

    Raises:
        DataError: no masks, a missing or wrong prediction, or classes that differ from the model's.
        ModelError: the model folder is not whole.
    """
    source, (dataset, stems) = Path(source), opened(data, split)
    if not is_model(source):
        return score(dataset, stems, from_folder(source, dataset), progress)
    model = model_of(source, dataset)
    model.segmenter.to(pick_device(device))
    return score(dataset, stems, from_model(model, dataset, refine, views), progress)


def opened(data: Path | str, split: str) -> tuple[Dataset, tuple[str, ...]]:
    """Return a data set that has masks, and the stems of a split.

    Raises:
        DataError: it has none, or no such split.
    """
    dataset = open_dataset(data)
    stems = dataset.stems(split)
    if not dataset.has_masks():
        raise DataError(dataset.root, "a folder of dense `masks` to compare with", "none", "evaluate on a data set with masks")
    return dataset, stems


def score(
    dataset: Dataset,
    stems: Iterable[str],
    predict: Callable[[str], Prediction],
    progress: Callable[[int, int], None] | None = None,
) -> Scores:
    """Compare ``predict(stem)`` with the masks.

    Cost: linear in the images; beside one row of numbers an image (0.3 kB) memory does not grow with them.
    """
    stems = tuple(stems)

    def measured() -> Iterator[ImageScores]:
        for n, stem in enumerate(stems):
            yield score_image(dataset, stem, predict)
            if progress is not None:
                progress(n + 1, len(stems))

    return gather(dataset.names, measured())


def score_image(dataset: Dataset, stem: str, predict: Callable[[str], Prediction]) -> ImageScores:
    """Compare ``predict(stem)`` with the mask.

    Raises:
        DataError: the mask is missing or wrong, or the prediction has another size.
    """
    truth = dataset.labels(stem, "masks")
    prediction = predict(stem)
    if prediction.labels.shape != truth.shape:
        got = str(prediction.labels.shape)
        raise DataError(stem, f"a prediction of {truth.shape}, as the mask", got, "predict at the image's size")
    about: Any = {"spacing_mm": _spacing_mm(dataset, stem), "volume": dataset.volume_of(stem)}
    return measure(stem, truth, prediction, len(dataset.names), **about)


def _spacing_mm(dataset: Dataset, stem: str) -> Spacing | None:
    """Return the spacing of an image's pixels where its file says it; masks can be compared without the image."""
    with contextlib.suppress(DataError):
        return dataset.spacing_mm(stem)
    return None


def is_model(folder: Path) -> bool:
    """Say whether a folder is a model's or a run's, rather than one of masks."""
    return any((place / name).is_file() for place in (folder, folder / "model") for name in (CONFIG, WEIGHTS))


def model_of(folder: Path, dataset: Dataset) -> TrainedModel:
    """Return a model whose classes are the data set's.

    Raises:
        DataError: they are others.
        ModelError: the folder is not whole.
    """
    model = load_model(folder)
    if model.names != dataset.names:
        expected, got = f"a model of the data set's classes: {', '.join(dataset.names)}", ", ".join(model.names)
        raise DataError(folder, expected, got, "use the data it was trained for")
    return model


def from_model(model: TrainedModel, dataset: Dataset, refine: str | None, views: Views) -> Callable[[str], Prediction]:
    """Return what a model says of a stem."""
    reading = dataset.reading(model.reading)

    def predict(stem: str) -> Prediction:
        height, width = dataset.size(stem)
        if height * width > LARGE_PIXELS and not model.longest_px:
            path, number = dataset.image_source(stem)
            with open_image(path, reading) as image:
                return Prediction(
                    predict_large(replace(model, reading=reading), image, number or 0, dataset.ranges, refine, views)
                )
        confidence, labels = refined_probabilities(model, dataset.rgb(stem, model.reading), refine, views).max(0)
        return Prediction(labels.to(torch.uint8).cpu().numpy(), confidence.float().cpu().numpy())

    return predict


def from_folder(folder: Path, dataset: Dataset) -> Callable[[str], Prediction]:
    """Return what the index mask of a stem says.

    Raises:
        DataError: no such folder.
    """
    if not folder.is_dir():
        raise DataError(folder, "a model folder, or a folder of masks", "no such folder", "check the path")

    def predict(stem: str) -> Prediction:
        path, number = dataset.listing.find(folder, stem)
        labels = read_index(path, number)
        if labels.max(initial=0) >= len(dataset.names):
            got = f"id {labels.max()}"
            raise DataError(path, f"class ids below {len(dataset.names)}, every pixel decided", got, "export class ids")
        return Prediction(labels)

    return predict


def fingerprint(model_folder: Path | str, dataset: Dataset, split: str) -> str:
    """Return a hash of all that scores depend on: this code's version, weights, settings, class names, images and masks."""
    folder = find_model(model_folder)
    spec = dataset.spec
    digest = hashlib.sha256(repr((VERSION, spec.names, spec.unlabelled, spec.volume)).encode())
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
