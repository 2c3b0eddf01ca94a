"""Every format that can be written: what was written is read back, and a training sees the same labels."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from scribbleseg.config import parse_config
from scribbleseg.data.convert import convert
from scribbleseg.data.folder import open_dataset
from scribbleseg.data.formats import FORMATS
from scribbleseg.data.formats.contents import Options
from scribbleseg.data.loader import training_loader
from scribbleseg.data.vector import write_strokes
from scribbleseg.records import Batch, Stroke
from tests.fake.datasets import make_dataset, write_lines

WRITTEN = [name for name, each in FORMATS.items() if each.writes]

#: Formats whose files do not say what they are.
NAMED = {"napari"}

#: Formats that hold two classes.
BINARY = {"rootpainter"}

#: Formats that hold lines alone, and which ones.
LINES: dict[str, dict[str, Any]] = {
    "strokes": {"width_px": 3.5, "erased": True},
    "scribblesup": {"width_px": 3.0, "erased": False},
}


def labels_of(root: Path) -> dict[str, np.ndarray]:
    """The labels a training would read, by stem."""
    dataset = open_dataset(root)
    stems = {stem for split in dataset.spec.splits for stem in dataset.stems(split)}
    return {stem: dataset.labels(stem, "scribbles") for stem in stems}


def draw_lines(root: Path, size: tuple[int, int] = (37, 53), num_classes: int = 3, *, width_px: float, erased: bool) -> None:
    """Replace the scribbles of a data set by strokes as lines, perhaps erased in part."""
    for place, stem in enumerate(sorted(labels_of(root))):
        lines = [
            Stroke(
                k,
                width_px,
                np.array([[5.25 + 15 * k, 4.0], [9.0 + 15 * k, 30.5 - place]]),
                "brush",
                "2026-01-02T03:04:05Z",
                "ann",
            )
            for k in range(num_classes)
        ]
        if erased:
            lines.append(Stroke(0, 4.0, np.array([[0.0, 20.0], [53.0, 20.0]]), "eraser"))
        write_strokes(root / "strokes" / f"{stem}.json", lines, size)
    shutil.rmtree(root / "scribbles")
    spec = yaml.safe_load((root / "dataset.yaml").read_text(encoding="utf-8")) | {"strokes": "strokes"}
    (root / "dataset.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")


def there_and_back(name: str, root: Path, out: Path) -> Path:
    """Convert a data set to a format and back; all its images, with the names of its classes."""
    options = Options(names=("background", "stone") if name in BINARY else None)  # all others keep the names
    for source, made, target, told in ((root, "there", name, None), (out / "there", "back", "dataset", options)):
        summary = convert(source, out / made, told, source=name if source != root and name in NAMED else None, target=target)
        assert summary.converted == 4
        assert not summary.failed
    return out / "back"


def sources(name: str, out: Path) -> Path:
    """A data set that a format can hold."""
    classes = 2 if name in BINARY else 3
    names = dict(enumerate(("background", "stone", "leaf")[:classes]))  # not in the order of the alphabet
    spec = {"names": names, "splits": {"train": "train.txt"}}
    root = make_dataset(out, num_images=4, size=(37, 53), num_classes=classes, spec=spec)
    write_lines(root / "train.txt", [f"image_{k:03d}" for k in range(4)])
    if name in LINES:
        draw_lines(root, **LINES[name])
    return root


@pytest.mark.parametrize("name", WRITTEN)
def test_read_write_read_is_identical(name, tmp_path):
    root = sources(name, tmp_path / "data")
    back = there_and_back(name, root, tmp_path)
    before, after = labels_of(root), labels_of(back)
    assert before.keys() == after.keys()
    for stem in before:
        np.testing.assert_array_equal(after[stem], before[stem])
    assert open_dataset(back).names == open_dataset(root).names


def batches(root: Path) -> list[Batch]:
    """Return what the steps of a training are given."""
    config = parse_config({"data": {"root": root, "crop_px": 32}, "training": {"max_steps": 4, "batch_size": 2}})
    return list(training_loader(open_dataset(root), config, lambda: 0))


@pytest.mark.parametrize("name", WRITTEN)
def test_a_training_sees_the_same_tensors(name, tmp_path):
    """Crops, flips and scales drawn from one seed, image and labels alike, in the batches of the loader."""
    root = sources(name, tmp_path / "data")
    back = there_and_back(name, root, tmp_path)
    before, after = (batches(folder) for folder in (root, back))
    assert len(before) == len(after) == 4
    for one, other in zip(before, after, strict=True):
        assert (one.labels != 255).any()
        assert torch.equal(one.labels, other.labels)
        assert torch.equal(one.image, other.image)
