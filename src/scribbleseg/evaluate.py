"""Evaluation: predictions against dense masks, pooled over a split."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from scribbleseg.data.folder import Dataset, open_dataset
from scribbleseg.data.images import open_image, read_index
from scribbleseg.data.shards.files import File
from scribbleseg.errors import DataError
from scribbleseg.metrics import counts
from scribbleseg.metrics.bootstrap import Replicates
from scribbleseg.metrics.boundary import boundary_counts
from scribbleseg.metrics.calibration import NUM_BINS, reliability_counts
from scribbleseg.metrics.surfaces import Spacing, surface_distances
from scribbleseg.models.folder import CONFIG, PREPROCESSOR, WEIGHTS, find_model, load_model
from scribbleseg.predict import LARGE_PIXELS, Views, pick_device, predict_large, refined_probabilities
from scribbleseg.predict.views import ONCE
from scribbleseg.reading import PLAIN
from scribbleseg.records import UNLABELLED, DistanceSums, Scores

#: Distance from a class border within which the border scores count, in pixels.
BORDER_PX = 5


#: Counts up when scores of the same predictions change, or new ones are added.
VERSION = 2


class Prediction(NamedTuple):
    """What is compared with a mask.

    Attributes:
        labels: class ids (H, W).
        confidence: probability of each pixel's class (H, W), where a network says it.
    """

    labels: np.ndarray
    confidence: np.ndarray | None = None


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
    dataset, source = open_dataset(data), Path(source)
    stems = dataset.stems(split)
    if not dataset.has_masks():
        raise DataError(dataset.root, "a folder of dense `masks` to compare with", "none", "evaluate on a data set with masks")
    predict = _from_model(source, dataset, device, refine, views) if _is_model(source) else _from_folder(source, dataset)
    return score(dataset, stems, predict, progress)


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
    num_classes = len(dataset.names)
    confusion = np.zeros((num_classes, num_classes), dtype=np.int64)
    border, boundary = np.zeros_like(confusion), np.zeros((2, num_classes), np.int64)
    reliability = np.zeros((3, NUM_BINS))
    replicates = Replicates(num_classes)
    distances = _Distances(num_classes)
    per_image: list[dict[str, Any]] = []
    volumes: dict[str, np.ndarray] = {}
    for n, stem in enumerate(stems):
        truth = dataset.labels(stem, "masks")
        prediction, confidence = predict(stem)
        if prediction.shape != truth.shape:
            raise DataError(
                stem, f"a prediction of {truth.shape}, as the mask", str(prediction.shape), "predict at the image's size"
            )
        found = counts.confusion_matrix(truth, prediction, num_classes)
        confusion += found
        inside = np.where(counts.near_border(truth, BORDER_PX), truth, UNLABELLED)
        border += counts.confusion_matrix(inside, prediction, num_classes)
        boundary += boundary_counts(truth, prediction, num_classes)
        if confidence is not None:
            reliability += reliability_counts(truth, prediction, confidence)
        spacing = _spacing_mm(dataset, stem)
        hd95 = distances.add(truth, prediction, spacing)
        row = {"stem": stem, "miou": counts.mean_present(counts.iou(found)), "pixel_accuracy": counts.pixel_accuracy(found)}
        per_image.append(row | {"hd95": hd95} | ({} if spacing is None else {"spacing_mm": list(spacing)}))
        volume = dataset.volume_of(stem)
        replicates.add(stem if volume is None else volume, found)
        if volume is not None:
            volumes[volume] = volumes.get(volume, 0) + found
        if progress is not None:
            progress(n + 1, len(stems))
    per_volume = tuple(
        {"volume": v} | dict(zip(dataset.names, counts.dice(c).tolist(), strict=True)) for v, c in volumes.items()
    )
    return Scores(
        names=dataset.names,
        confusion=confusion,
        border_confusion=border,
        border_px=BORDER_PX,
        boundary=boundary,
        distances=distances.sums,
        reliability=reliability if reliability[0].any() else None,
        replicates=replicates.confusion,
        per_image=tuple(per_image),
        per_volume=per_volume,
    )


class _Distances:
    """Gathers the distances between contours, in millimetres as long as every image has said its spacing."""

    def __init__(self, num_classes: int) -> None:
        self._px, self._mm = np.zeros((num_classes, 4)), np.zeros((num_classes, 4))
        self._all_mm = True

    def add(self, truth: np.ndarray, prediction: np.ndarray, spacing: Spacing | None) -> float:
        """Add an image, and return the mean HD95 in pixels of its classes but the first; NaN where it has none."""
        self._all_mm &= spacing is not None
        of_image = np.full(len(self._px), np.nan)
        for c in range(len(self._px)):
            found = surface_distances(truth, prediction, c)
            of_image[c] = found.hd95
            if np.isnan(found.hd95):
                continue
            self._px[c] += (found.hd95, found.assd, 1, found.missed)
            if spacing is not None and self._all_mm:
                found = surface_distances(truth, prediction, c, spacing)
                self._mm[c] += (found.hd95, found.assd, 1, found.missed)
        return counts.mean_present(of_image[1:])

    @property
    def sums(self) -> DistanceSums:
        return DistanceSums("mm", self._mm) if self._all_mm and self._mm.any() else DistanceSums("px", self._px)


def _spacing_mm(dataset: Dataset, stem: str) -> Spacing | None:
    """Return the spacing of an image's pixels where its file says it; masks can be compared without the image."""
    with contextlib.suppress(DataError):
        return dataset.spacing_mm(stem)
    return None


def _is_model(folder: Path) -> bool:
    return any((place / name).is_file() for place in (folder, folder / "model") for name in (CONFIG, WEIGHTS))


def _from_model(folder: Path, dataset: Dataset, device: str, refine: str | None, views: Views) -> Callable[[str], Prediction]:
    model = load_model(folder)
    if model.names != dataset.names:
        got = ", ".join(model.names)
        raise DataError(
            folder, f"a model of the data set's classes: {', '.join(dataset.names)}", got, "use the data it was trained for"
        )
    model.segmenter.to(pick_device(device))

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


def _from_folder(folder: Path, dataset: Dataset) -> Callable[[str], Prediction]:
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
