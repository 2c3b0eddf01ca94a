"""The pictures of a report: photographs and class overlays as data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from scribbleseg.data.folder import Dataset
from scribbleseg.errors import DataError
from scribbleseg.palette import class_colours
from scribbleseg.records import UNLABELLED
from scribbleseg.report.curves import run_style

#: Largest width and height of a picture in the report, in pixels.
TILE_PX = (320, 480)


def tile_size(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return (width, height) at which an image of shape (H, W, …) is shown; never larger than it is."""
    height, width = shape[:2]
    factor = min(1.0, TILE_PX[0] / width, TILE_PX[1] / height)
    return max(1, round(width * factor)), max(1, round(height * factor))


def photo_uri(rgb: np.ndarray) -> str:
    """Return a picture, float (H, W, 3) in [0, 1], as a JPEG data URI."""
    picture = Image.fromarray((255 * rgb).round().clip(0, 255).astype(np.uint8))
    if (rgb[..., :1] == rgb).all():
        picture = picture.convert("L")
    buffer = io.BytesIO()
    picture.resize(tile_size(rgb.shape), Image.Resampling.LANCZOS).save(buffer, format="JPEG", quality=85, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def overlay_uri(labels: np.ndarray, num_classes: int, *, grow_px: int = 0) -> str:
    """Return labels (H, W) in class colours as a PNG data URI, see-through where they are 255.

    Args:
        labels: class ids and 255.
        num_classes: C, for the palette.
        grow_px: of the shown picture, by which labelled places grow into unlabelled ones, so that thin strokes are seen.
    """
    size = tile_size(labels.shape)
    if grow_px:
        labels = _grown(labels, grow_px * labels.shape[1] / size[0])
    picture = Image.fromarray(labels).resize(size, Image.Resampling.NEAREST)
    palette = np.zeros((256, 3), dtype=np.uint8)
    palette[:num_classes] = class_colours(num_classes)
    picture.putpalette(palette.tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", transparency=UNLABELLED, optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _grown(labels: np.ndarray, radius_px: float) -> np.ndarray:
    known = labels != UNLABELLED
    if not known.any():
        return labels
    distance, (rows, columns) = ndimage.distance_transform_edt(~known, return_indices=True)
    return np.where(distance <= radius_px, labels[rows, columns], labels).astype(np.uint8)


def case_tiles(dataset: Dataset, stem: str, predictions: Sequence[tuple[str, np.ndarray, float | None]]) -> dict[str, Any]:
    """Return an image and the tiles laid over it: scribbles where there are any, each run's prediction, truth.

    Args:
        dataset: with masks.
        stem: of the image.
        predictions: of each run its title, its mask and its score on this image.
    """
    rgb = dataset.rgb(stem)
    size = (rgb.shape[0], rgb.shape[1])
    truth, scribbles = dataset.labels(stem, "masks", size), _scribbles(dataset, stem, size)
    tiles = [] if scribbles is None else [_tile(dataset, stem, "scribbles", scribbles, strokes=True)]
    for k, (title, mask, score) in enumerate(predictions):
        tiles.append(_tile(dataset, stem, title, mask) | {"style": run_style(k), "score": score})
    tiles.append(_tile(dataset, stem, "truth", truth))
    width, height = tile_size(rgb.shape)
    return {"stem": stem, "photo": photo_uri(rgb), "width": width, "height": height, "tiles": tiles}


def _tile(dataset: Dataset, stem: str, caption: str, labels: np.ndarray, *, strokes: bool = False) -> dict[str, Any]:
    alt = f"{caption} of {stem}: {coverage(labels, dataset.names)}"
    uri = overlay_uri(labels, len(dataset.names), grow_px=int(strokes))
    return {"caption": caption, "alt": alt, "uri": uri, "strokes": strokes, "style": None, "score": None}


def _scribbles(dataset: Dataset, stem: str, size: tuple[int, int]) -> np.ndarray | None:
    """Return the strokes, or None where the image has no file of them."""
    try:
        dataset.listing.find(dataset.folder("scribbles"), stem)
    except DataError:
        return None
    return dataset.labels(stem, "scribbles", size)


def coverage(labels: np.ndarray, names: Sequence[str]) -> str:
    """Say in words which share of the labelled pixels the largest three classes take."""
    counts = np.bincount(labels.ravel(), minlength=256)[: len(names)]
    order = [k for k in np.argsort(-counts, kind="stable")[:3] if counts[k]]
    return ", ".join(f"{names[k]} {100 * counts[k] / counts.sum():.0f} %" for k in order) or "nothing labelled"
