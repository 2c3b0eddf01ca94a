"""Our own data set folder: ``dataset.yaml``, images, scribbles, perhaps masks, lists of stems."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import yaml

from scribbleseg.atomic import write_text
from scribbleseg.data.folder import Dataset, DatasetSpec, open_dataset
from scribbleseg.data.formats.contents import About, Add, Annotated, Format, Options, Source, each
from scribbleseg.data.formats.nifti import SUFFIXES, affine_of
from scribbleseg.data.formats.pictures import write_labels, write_picture
from scribbleseg.data.formats.volumes import moved
from scribbleseg.data.vector import rasterise, read_strokes, write_strokes
from scribbleseg.errors import DataError
from scribbleseg.reading import PLAIN
from scribbleseg.records import UNLABELLED, Stroke


class DatasetFolder(Format):
    """Read and write a folder that ``train`` takes."""

    title = "scribbleseg data set"
    unlabelled = "the value that `dataset.yaml` names; 255 if none"
    holds = "scribbles, strokes, masks, split lists"
    writes = "the folder"
    source = "docs/reference/dataset.md"

    def recognise(self, path: Path) -> str | None:
        """See the base class."""
        return "a folder with a dataset.yaml" if (path / "dataset.yaml").is_file() else None

    def read(self, path: Path, options: Options) -> Source:
        """See the base class."""
        dataset = open_dataset(path)
        if dataset.shards is not None:
            raise DataError(path, "a plain folder", "a data set in shards", "convert the folder that it was made of")
        spec = dataset.spec
        names = options.names or dataset.names
        splits: dict[str, list[str]] = {}
        for split in spec.splits:
            for stem in dataset.stems(split):
                splits.setdefault(stem, []).append(split)

        def load(stem: str) -> Annotated:
            source, size = dataset.image_source(stem), dataset.size(stem)
            plain = source.path if source.number is None and spec.reading == PLAIN else None
            image = plain if isinstance(plain, Path) else (255 * dataset.rgb(stem)).round().astype(np.uint8)
            mask = _mask(dataset, stem, size)
            try:
                labels = dataset.labels(stem, "scribbles", size)
            except DataError as error:
                if mask is None or error.got != "no such file":
                    raise
                labels = np.full(size, UNLABELLED, np.uint8)  # an image for evaluation alone
            file = source.path
            affine = affine_of(file) if isinstance(file, Path) and file.name.lower().endswith(SUFFIXES) else None
            strokes = _strokes(path, spec, stem, labels)
            return Annotated(stem, labels, image, strokes, tuple(splits[stem]), mask, moved(affine, source.number or 0))

        decided = f"{spec.unlabelled} means not annotated (dataset.yaml)"
        return Source(names, decided, each(splits, load), spec.volume)

    @contextlib.contextmanager
    def writer(self, out: Path, about: About) -> Iterator[Add]:
        """See the base class. The lists and ``dataset.yaml`` are written at the end."""
        if len(about.names) < 2:
            got = f"only '{about.names[0]}'" if about.names else "none"
            raise DataError(about.name, "strokes of at least two classes", got, "draw background too, or name it: --names a,b")
        splits: dict[str, list[str]] = {}
        masks = lines = False

        def add(image: Annotated) -> None:
            nonlocal masks, lines
            write_picture(image, out / "images")
            write_labels(out / "scribbles" / f"{image.stem}.png", image.labels)
            if image.strokes:
                write_strokes(out / "strokes" / f"{image.stem}.json", image.strokes, image.labels.shape)
                lines = True
            if image.mask is not None:
                write_labels(out / "masks" / f"{image.stem}.png", image.mask)
                masks = True
            for split in image.splits:
                splits.setdefault(split, []).append(image.stem)

        yield add
        if not splits:
            return
        for split, stems in splits.items():
            write_text(out / f"{split}.txt", "\n".join(stems) + "\n")
        tree = {
            "name": about.name,
            "names": dict(enumerate(about.names)),
            "strokes": "strokes" if lines else None,
            "masks": "masks" if masks else None,
            "unlabelled": UNLABELLED,
            "splits": {split: f"{split}.txt" for split in splits},
            "volume": about.volume,
        }
        tree = {key: value for key, value in tree.items() if value is not None}
        DatasetSpec.model_validate(tree)
        write_text(out / "dataset.yaml", yaml.safe_dump(tree, sort_keys=False, allow_unicode=True))


def _mask(dataset: Dataset, stem: str, size: tuple[int, int]) -> np.ndarray | None:
    """Return the dense truth of an image, None where there is none."""
    try:
        return dataset.labels(stem, "masks", size) if dataset.has_masks() else None
    except DataError as error:
        if error.got != "no such file":
            raise
        return None


def _strokes(path: Path, spec: DatasetSpec, stem: str, labels: np.ndarray) -> tuple[Stroke, ...]:
    """Return the strokes of an image, if they draw what its label file holds."""
    file = path / (spec.strokes or "") / f"{stem}.json"
    if spec.strokes is None or not file.is_file():
        return ()
    strokes, size = read_strokes(file)
    return strokes if size == labels.shape and (rasterise(strokes, size) == labels).all() else ()
