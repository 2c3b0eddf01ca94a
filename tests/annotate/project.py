"""A project in a folder without a server: what the learner needs of one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from scribbleseg.data.folder import Dataset, open_dataset
from scribbleseg.data.vector import rasterise
from scribbleseg.records import Stroke
from tests.fake.datasets import make_dataset


@dataclass(frozen=True)
class Row:
    id: int
    stem: str
    num_strokes: int = 0
    has_base: bool = False
    version: int = 0


class FakeProject:
    """A data set of fake pictures; strokes are kept in memory."""

    def __init__(self, root: Path, num_images: int = 4, size: tuple[int, int] = (64, 96), num_classes: int = 2) -> None:
        self.root, self.state = root, root / ".scribbleseg"
        make_dataset(root, num_images, size, num_classes)
        self._dataset = open_dataset(root)
        self.names = self._dataset.names
        stems = sorted(path.stem for path in (root / "images").iterdir())
        self.rows = [Row(n, stem) for n, stem in enumerate(stems, 1)]
        self.shape = size
        self.drawn: dict[int, tuple[Stroke, ...]] = {}
        self.versions: dict[int, int] = {}

    def images(self) -> list[Row]:
        return [replace(row, num_strokes=len(self.drawn.get(row.id, ())), version=self.version(row.id)) for row in self.rows]

    def stem(self, image: int) -> str:
        return next(row.stem for row in self.rows if row.id == image)

    def size(self, image: int) -> tuple[int, int]:
        return self.shape

    def resized(self, image: int) -> bool:
        return False

    def rgb(self, image: int) -> np.ndarray:
        return self._dataset.rgb(self.stem(image))

    def truth(self, image: int) -> np.ndarray:
        return self._dataset.labels(self.stem(image), "masks")

    def strokes(self, image: int) -> tuple[Stroke, ...]:
        return self.drawn.get(image, ())

    def labels(self, image: int) -> np.ndarray:
        return rasterise(self.strokes(image), self.shape)

    def version(self, image: int) -> int:
        return self.versions.get(image, 0)

    def dataset(self) -> Dataset:
        return self._dataset

    def draw(self, image: int, *strokes: Stroke) -> None:
        self.drawn[image] = (*self.drawn.get(image, ()), *strokes)
        self.versions[image] = self.version(image) + 1


def right_stroke(project: FakeProject, image: int, label: int, row: int, width_px: float = 3.0) -> Stroke:
    """A horizontal stroke in a row, over the middle half of a class's columns."""
    columns = np.flatnonzero(project.truth(image)[row] == label)
    inner = columns[len(columns) // 4 : len(columns) - len(columns) // 4]
    return Stroke(label, width_px, np.array([[inner[0] + 0.5, row + 0.5], [inner[-1] + 0.5, row + 0.5]]))
