"""What a picture's probabilities are handed out as. A new form is a function here and a line in ``OUTPUTS``."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import tifffile
from PIL import Image as Pillow

from scribbleseg.data.formats.qupath import outline
from scribbleseg.palette import blend, class_colours, hex_colours


@dataclass(frozen=True)
class Answer:
    """A picture that has been predicted.

    Attributes:
        rgb: float32 (H, W, 3) in [0, 1].
        probs: float32 (C, H, W).
        names: class names by id.
        seconds: that it kept the model.
    """

    rgb: np.ndarray
    probs: np.ndarray
    names: tuple[str, ...]
    seconds: float

    @cached_property
    def labels(self) -> np.ndarray:
        """The most probable class of every pixel, uint8 (H, W)."""
        return self.probs.argmax(0).astype(np.uint8)

    @property
    def shares(self) -> list[float]:
        """The share of the picture that each class has."""
        return (np.bincount(self.labels.ravel(), minlength=len(self.names)) / self.labels.size).tolist()

    @property
    def confidence(self) -> float:
        """The mean probability of the most probable class."""
        return float(self.probs.max(0).mean())


@dataclass(frozen=True)
class Output:
    """A form of answer.

    Attributes:
        media_type: of the body.
        words: what it is, for the reference.
        write: makes the body.
    """

    media_type: str
    words: str
    write: Callable[[Answer], bytes]


def _mask(answer: Answer) -> bytes:
    picture = Pillow.fromarray(answer.labels)
    picture.putpalette(class_colours(len(answer.names)).tobytes())
    return _png(picture)


def _overlay(answer: Answer) -> bytes:
    return _png(Pillow.fromarray(blend(answer.rgb, answer.labels)))


def _png(picture: Pillow.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, format="PNG", compress_level=3)
    return file.getvalue()


def _npy(answer: Answer) -> bytes:
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(answer.probs), allow_pickle=False)
    return file.getvalue()


def _tiff(answer: Answer) -> bytes:
    file = io.BytesIO()
    about = {"axes": "CYX", "names": list(answer.names)}
    tifffile.imwrite(file, answer.probs, compression="zlib", photometric="minisblack", metadata=about)
    return file.getvalue()


def _geojson(answer: Answer) -> bytes:
    colours = class_colours(len(answer.names)).tolist()
    features = [
        {
            "type": "Feature",
            "geometry": outline(answer.labels == class_id),
            "properties": {
                "objectType": "annotation",
                "classification": {"name": name, "color": colours[class_id]},
                "share": answer.shares[class_id],
            },
        }
        for class_id, name in enumerate(answer.names)
        if (answer.labels == class_id).any()
    ]
    return _json({"type": "FeatureCollection", "features": features})


def _shares(answer: Answer) -> bytes:
    colours, shares = hex_colours(len(answer.names)), answer.shares
    classes = [
        {"id": k, "name": name, "colour": colours[k], "share": shares[k], "pixels": round(shares[k] * answer.labels.size)}
        for k, name in enumerate(answer.names)
    ]
    height, width = answer.labels.shape
    tree = {"width": width, "height": height, "confidence": answer.confidence, "model_s": answer.seconds, "classes": classes}
    return _json(tree)


def _json(tree: Any) -> bytes:
    return json.dumps(tree, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


#: Name to form, the first for a request that does not say; the first of a media type for an ``Accept`` of it.
OUTPUTS: dict[str, Output] = {
    "mask": Output("image/png", "class ids as an 8-bit palette PNG: the values are the ids, the palette their colours", _mask),
    "json": Output("application/json", "width, height and the share of each class", _shares),
    "overlay": Output("image/png", "the picture with the classes in colour", _overlay),
    "npy": Output("application/x-npy", "probabilities, float32 (classes, height, width), as `numpy.load` reads them", _npy),
    "tiff": Output("image/tiff", "the same as a TIFF, one page a class", _tiff),
    "geojson": Output("application/geo+json", "the outlines of each class along its pixels, as QuPath reads them", _geojson),
}
