"""From our files to napari's layers: a data set's images with their labels, a label file, a file of strokes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scribbleseg.data.folder import Dataset, open_dataset
from scribbleseg.data.images import read_index
from scribbleseg.data.vector import read_strokes
from scribbleseg.errors import ScribblesegError
from scribbleseg.palette import hex_colours
from scribbleseg.records import UNLABELLED, Stroke

#: A layer as napari takes it from a reader: data, what it is called and how it looks, its type.
LayerData = tuple[Any, dict[str, Any], str]

#: So many images of a data set are opened; each has up to two layers.
MAX_IMAGES = 20

#: What the folders of a data set are called where no ``dataset.yaml`` names them otherwise.
KINDS = ("scribbles", "masks", "strokes")


def get_reader(path: str | Sequence[str]) -> Callable[[str | Sequence[str]], list[LayerData]] | None:
    """Return what reads these paths, or None if one of them is not ours: other pictures are left to other readers."""
    paths = [Path(each) for each in ([path] if isinstance(path, str) else path)]
    return _read if paths and all(_is_ours(each) for each in paths) else None


def _is_ours(path: Path) -> bool:
    if path.is_dir() or path.name == "dataset.yaml":
        return (path / "dataset.yaml" if path.is_dir() else path).is_file()
    return path.suffix.lower() in (".png", ".json") and _kind(path) is not None


def _read(path: str | Sequence[str]) -> list[LayerData]:
    layers: list[LayerData] = []
    for each in map(Path, [path] if isinstance(path, str) else path):
        if each.is_dir() or each.name == "dataset.yaml":
            layers += _dataset_layers(open_dataset(each if each.is_dir() else each.parent))
        elif each.suffix.lower() == ".json":
            layers.append(shapes_layer(*read_strokes(each), each.stem, _names(each)))
        else:
            layers.append(labels_layer(read_index(each), each.stem, _names(each), _unlabelled(each)))
    return layers


def _dataset_layers(dataset: Dataset) -> list[LayerData]:
    layers: list[LayerData] = []
    stems = dict.fromkeys(stem for split in dataset.spec.splits for stem in dataset.stems(split))
    for stem in list(stems)[:MAX_IMAGES]:
        layers.append((dataset.rgb(stem), {"name": stem, "rgb": True}, "image"))
        layers.append(labels_layer(dataset.labels(stem, "scribbles"), f"{stem} scribbles", dataset.names))
    return layers


def labels_layer(labels: np.ndarray, name: str, names: Sequence[str] = (), unlabelled: int = UNLABELLED) -> LayerData:
    """Return class ids (H, W) as a layer: napari's 0 is "not annotated", and class 0 becomes 1.

    Args:
        labels: as they are stored.
        name: of the layer.
        names: class names by id.
        unlabelled: the value that means "not annotated".
    """
    shown = np.where(labels == unlabelled, 0, labels.astype(np.int32) + 1)
    number = max(int(shown.max(initial=0)), len(names), 1)
    colours: dict[int | None, str] = {0: "#00000000", None: "#00000000"}
    colours |= {k + 1: colour for k, colour in enumerate(hex_colours(number))}
    about = {"name": name, "metadata": {"scribbleseg": {"names": list(names), "size": list(labels.shape)}}}
    return shown, about | {"colormap": colours}, "labels"


def shapes_layer(strokes: Sequence[Stroke], size: tuple[int, int], name: str, names: Sequence[str] = ()) -> LayerData:
    """Return strokes as paths: rows and columns as napari has them, whose whole numbers are centres of pixels."""
    number = max([stroke.label + 1 for stroke in strokes] + [len(names), 1])
    colours = hex_colours(number)
    features = {
        "class": [stroke.label for stroke in strokes],
        "tool": [stroke.tool for stroke in strokes],
        "single": [len(stroke.points) == 1 for stroke in strokes],
    }
    about: dict[str, Any] = {
        "name": name,
        "shape_type": "path",
        "edge_width": [stroke.width_px for stroke in strokes],
        "edge_color": ["#000000" if stroke.tool == "eraser" else colours[stroke.label] for stroke in strokes],
        "features": features,
        "feature_defaults": {"class": 0, "tool": "brush", "single": False},  # else a new path is as the last one: an eraser
        "metadata": {"scribbleseg": {"names": list(names), "size": list(size)}},
    }
    paths = [np.repeat(s.points, 2, 0) if len(s.points) == 1 else s.points for s in strokes]  # napari wants two points
    return [points[:, ::-1] - 0.5 for points in paths], about, "shapes"


def _kind(path: Path) -> str | None:
    """Return which folder of a data set a file lies in, or None."""
    for root in (path.parent.parent, *path.parents[2:4]):
        if (root / "dataset.yaml").is_file():
            folders = {kind: kind for kind in KINDS}
            try:
                spec = open_dataset(root).spec
                folders |= {kind: str(getattr(spec, kind)) for kind in KINDS if getattr(spec, kind)}
            except ScribblesegError:
                return None
            found = (kind for kind in KINDS if (root / folders[kind]) in path.parents)
            return next(found, None)
    return None


def _dataset(path: Path) -> Dataset:
    return open_dataset(next(root for root in path.parents if (root / "dataset.yaml").is_file()))


def _names(path: Path) -> tuple[str, ...]:
    return _dataset(path).names


def _unlabelled(path: Path) -> int:
    return _dataset(path).spec.unlabelled
