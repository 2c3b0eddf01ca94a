"""From napari's layers to our files: labels as an index PNG, paths as strokes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from scribbleseg.data.images import write_png
from scribbleseg.data.vector import write_strokes as write_file
from scribbleseg.errors import DataError
from scribbleseg.records import UNLABELLED, Stroke

#: Kinds of shapes that are lines.
LINES = ("path", "line")


def write_labels(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write a labels layer (H, W) as 8-bit class ids: napari's 0 becomes 255, "not annotated", and 1 class 0.

    Raises:
        DataError: more than two axes, or labels beyond 255.
        StorageError: it cannot be written.
    """
    labels = np.asarray(data)
    name = str(meta.get("name", path))
    if labels.ndim != 2:
        do = "save one slice at a time, or `scribbleseg convert --from napari`"
        raise DataError(name, "labels of two axes", f"{labels.ndim}", do)
    if labels.dtype.kind not in "iub" or labels.min(initial=0) < 0 or labels.max(initial=0) > UNLABELLED:
        got = f"{labels.dtype} from {labels.min(initial=0)} to {labels.max(initial=0)}"
        raise DataError(name, f"labels from 0 to {UNLABELLED}", got, "use label 1 for the first class, 2 for the second")
    ids = labels.astype(np.int32) - 1
    write_png(Path(path), np.where(ids < 0, UNLABELLED, ids).astype(np.uint8))
    return [path]


def write_strokes(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write the paths of a shapes layer as strokes. A path's class is its feature ``class``, its width that of its edge.

    Raises:
        DataError: shapes that are no lines, without a class, or of an image whose size is not known.
        StorageError: it cannot be written.
    """
    name, about = str(meta.get("name", path)), meta.get("metadata", {}).get("scribbleseg", {})
    features = meta.get("features", meta.get("properties", {}))
    number = len(data)
    kinds = _each(meta.get("shape_type", "path"), number)
    wrong = next((str(kind) for kind in kinds if kind not in LINES), None)
    if wrong is not None:
        raise DataError(name, "paths and lines", wrong, "draw with the path tool; fill areas in a labels layer")
    if number and "class" not in features:
        do = "give the layer a feature `class` with the class id of each path, or open a strokes file of ours and add to it"
        raise DataError(name, "a feature `class`", f"{', '.join(map(str, features)) or 'none'}"[:100], do)
    size = about.get("size")
    if size is None:
        do = "open the strokes or labels of the image with scribbleseg's reader, and add to that layer"
        raise DataError(name, "metadata that know the image's size", "none", do)
    widths = _each(meta.get("edge_width", 1.0), number)
    tools = _each(features.get("tool", "brush"), number)
    single = _each(features.get("single", False), number)
    classes = _each(features["class"] if number else [], number)
    strokes = []
    for k, points in enumerate(data):
        places = np.asarray(points, np.float64)
        if places.ndim != 2 or places.shape[1] != 2 or not _is_id(classes[k]):
            got = f"path {k} of class {classes[k]} with points of shape {places.shape}"
            raise DataError(name, "paths in two axes, each with a class id", got, "mend the path's feature `class`")
        places = places[:1] if bool(single[k]) and (places == places[0]).all() else places
        tool: Literal["brush", "eraser"] = "eraser" if tools[k] == "eraser" else "brush"
        strokes.append(Stroke(int(classes[k]), float(widths[k]), places[:, ::-1] + 0.5, tool))
    write_file(Path(path), strokes, (int(size[0]), int(size[1])))
    return [path]


def _each(value: Any, number: int) -> list[Any]:
    """Return one value a shape, where there may be one for all."""
    if isinstance(value, str) or np.ndim(value) == 0:
        return [value] * number
    return list(value)


def _is_id(value: Any) -> bool:
    try:
        return 0 <= int(value) < UNLABELLED and float(value) == int(value)
    except (TypeError, ValueError):
        return False
