"""Every format that can be written: what was written is read back, and a training sees the same labels."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from scribbleseg.data.convert import convert
from scribbleseg.data.folder import open_dataset
from scribbleseg.data.formats import FORMATS
from scribbleseg.data.formats.contents import Options
from scribbleseg.data.vector import write_strokes
from scribbleseg.records import Stroke
from tests.fake.datasets import make_dataset

WRITTEN = [name for name, each in FORMATS.items() if each.writes]

#: Formats whose files do not say what they are.
NAMED = {"napari"}

#: Formats that hold two classes.
BINARY = {"rootpainter"}


def labels_of(root: Path) -> dict[str, np.ndarray]:
    """The labels a training would read, by stem."""
    dataset = open_dataset(root)
    stems = {stem for split in dataset.spec.splits for stem in dataset.stems(split)}
    return {stem: dataset.labels(stem, "scribbles") for stem in stems}


def draw_lines(root: Path, size: tuple[int, int] = (37, 53), num_classes: int = 3) -> None:
    """Replace the scribbles of a data set by strokes as lines, one of them erased in part."""
    for place, stem in enumerate(sorted(labels_of(root))):
        lines = [
            Stroke(
                k, 3.5, np.array([[5.25 + 15 * k, 4.0], [9.0 + 15 * k, 30.5 - place]]), "brush", "2026-01-02T03:04:05Z", "ann"
            )
            for k in range(num_classes)
        ]
        lines.append(Stroke(0, 4.0, np.array([[0.0, 20.0], [53.0, 20.0]]), "eraser"))
        write_strokes(root / "strokes" / f"{stem}.json", lines, size)
    shutil.rmtree(root / "scribbles")
    spec = yaml.safe_load((root / "dataset.yaml").read_text(encoding="utf-8")) | {"strokes": "strokes"}
    (root / "dataset.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")


@pytest.mark.parametrize("name", WRITTEN)
def test_read_write_read_is_identical(name, tmp_path):
    classes = 2 if name in BINARY else 3
    names = dict(enumerate(("background", "stone", "leaf")[:classes]))  # not in the order of the alphabet
    root = make_dataset(tmp_path / "data", num_images=4, size=(37, 53), num_classes=classes, spec={"names": names})
    if name == "strokes":
        draw_lines(root)
    there, back = tmp_path / "there", tmp_path / "back"
    source = name if name in NAMED else None
    options = Options(names=("background", "stone") if name in BINARY else None)  # all others keep the names
    convert(root, there, target=name)
    summary = convert(there, back, options, source=source)
    assert summary.converted == 4
    assert not summary.failed
    before, after = labels_of(root), labels_of(back)
    assert before.keys() == after.keys()
    for stem in before:
        np.testing.assert_array_equal(after[stem], before[stem])
    assert open_dataset(back).names == open_dataset(root).names
