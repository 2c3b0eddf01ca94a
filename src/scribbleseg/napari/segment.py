"""The widget: a picture of the viewer to its classes, by a server of ours or by a model of this computer."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scribbleseg.data.intensity import natural
from scribbleseg.data.readers.image import Image, Window
from scribbleseg.errors import ConfigError, DataError
from scribbleseg.napari.reader import LayerData, labels_layer
from scribbleseg.serve.batching import Batcher, Job
from scribbleseg.serve.client import Client
from scribbleseg.serve.opening import open_engine

if TYPE_CHECKING:
    import napari.layers
    import napari.types


def segment(image: napari.layers.Image, model: str = "http://127.0.0.1:8421", token: str = "") -> napari.types.LayerDataTuple:
    """Return the classes of an image layer as a labels layer.

    Args:
        image: grey or RGB, 8 or 16 bit, or floats in [0, 1].
        model: address of a server, or a model folder of this computer.
        token: of the server, if it needs one.
    """
    return segmented(np.asarray(image.data), image.name, model, token)


def segmented(pixels: np.ndarray, name: str, model: str, token: str = "") -> LayerData:
    """Return the classes of a picture, (H, W) or (H, W, 3 or 4), as a layer.

    Raises:
        ScribblesegError: no such picture or model, or what the server says.
    """
    rgb = _rgb(pixels, name)
    if model.startswith(("http://", "https://")):
        client = Client(model, token)
        names = tuple(str(each["name"]) for each in client.model()["classes"])
        labels = client.mask((255 * rgb).round().astype(np.uint8))
    elif model:
        names, labels = _local(Path(model), rgb)
    else:
        raise ConfigError("model", "the address of a server, or a model folder", "nothing", "http://127.0.0.1:8421")
    return labels_layer(labels, f"{name} classes", names)


def _local(path: Path, rgb: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    engine = open_engine(path)
    batcher = Batcher(engine)
    job = Job(rgb, math.inf)
    batcher.submit(job)
    try:
        return engine.names, job.future.result().argmax(0).astype(np.uint8)
    finally:
        batcher.close()


def _rgb(pixels: np.ndarray, name: str) -> np.ndarray:
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, -1)
    if pixels.ndim != 3 or pixels.shape[-1] not in (3, 4):
        got = f"shape {pixels.shape}"
        raise DataError(name, "a picture (H, W) or (H, W, 3)", got, "show one slice, and make a layer of it")

    def fetch(index: int, window: Window) -> Any:
        return pixels[window.place]

    shape = (pixels.shape[0], pixels.shape[1], 3)
    return natural(pixels[..., :3], Image(Path(name), shape, pixels.dtype, fetch))
