"""One image to class probabilities at its own size, through overlapping windows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from scribbleseg.errors import DataError
from scribbleseg.models.folder import TrainedModel
from scribbleseg.refine import refined

#: Share of a window that overlaps the next.
OVERLAP = 0.5

#: Windows that go through the network together.
WINDOW_BATCH = 4


def window_starts(length: int, window: int) -> list[int]:
    """Return evenly spaced starts so that windows cover ``length`` and overlap by at least ``OVERLAP``."""
    if length <= window:
        return [0]
    number = -(-(length - window) // int(window * (1 - OVERLAP))) + 1
    return [round(k * (length - window) / (number - 1)) for k in range(number)]


@torch.inference_mode()
def probabilities(model: TrainedModel, rgb: np.ndarray) -> Tensor:
    """Return class probabilities (C, H, W) of one image (H, W, 3), 8-bit or floats in [0, 1].

    An image larger than the window is covered by overlapping windows whose probabilities are averaged with a smooth
    weight that falls towards the window's border.
    """
    rgb = _as_rgb(rgb)
    network = model.segmenter
    device = network.mean.device
    full = torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))[None].to(device)
    height, width = full.shape[-2:]
    image = full
    if model.longest_px and model.longest_px != max(height, width):
        factor = model.longest_px / max(height, width)
        size = (max(1, round(height * factor)), max(1, round(width * factor)))
        image = F.interpolate(full, size, mode="bilinear", align_corners=False, antialias=factor < 1)
    window = model.window_px
    tops, lefts = window_starts(image.shape[-2], window), window_starts(image.shape[-1], window)
    if len(tops) == len(lefts) == 1:
        probs = network.probabilities(image)
    else:
        probs = _windowed(network.probabilities, image, tops, lefts, window)
    if probs.shape[-2:] != (height, width):
        probs = F.interpolate(probs, (height, width), mode="bilinear", align_corners=False)
    return probs[0]


def _as_rgb(rgb: np.ndarray) -> np.ndarray:
    """Return float32 (H, W, 3) in [0, 1]; 8-bit pictures are scaled."""
    if rgb.dtype == np.uint8:
        rgb = rgb / np.float32(255)
    if rgb.ndim != 3 or rgb.shape[-1] != 3 or rgb.dtype.kind != "f" or rgb.min(initial=0) < -0.01 or rgb.max(initial=0) > 1.01:
        got = f"{rgb.dtype} of shape {rgb.shape} from {rgb.min(initial=0)} to {rgb.max(initial=0)}"
        raise DataError("image", "(H, W, 3), 8-bit or floats in [0, 1]", got, "convert it first; read_rgb does for files")
    return rgb.astype(np.float32, copy=False)


def _windowed(run: Callable[[Tensor], Tensor], image: Tensor, tops: list[int], lefts: list[int], window: int) -> Tensor:
    places = [(top, left) for top in tops for left in lefts]
    weight = weight_of(image, window)
    high, wide = weight.shape
    mass = torch.zeros(image.shape[-2:], device=image.device)
    for t, x in places:
        mass[t : t + high, x : x + wide] += weight
    return weighted_sum(run, image, places, weight) / mass


def weight_of(image: Tensor, window: int) -> Tensor:
    """Return the weight of a window's pixels, as large as the window is in this image."""
    return torch.outer(*(_hill(min(window, side)) for side in image.shape[-2:])).to(image.device)


def weighted_sum(run: Callable[[Tensor], Tensor], image: Tensor, places: list[tuple[int, int]], weight: Tensor) -> Tensor:
    """Return the sum of the windows' probabilities, each times ``weight``, (1, C, H, W) on the image's device."""
    high, wide = weight.shape
    total: Tensor | None = None
    for first in range(0, len(places), WINDOW_BATCH):
        group = places[first : first + WINDOW_BATCH]
        probs = run(torch.cat([image[..., t : t + high, x : x + wide] for t, x in group]))
        if total is None:
            total = torch.zeros(1, probs.shape[1], *image.shape[-2:], device=image.device)
        for (t, x), part in zip(group, probs, strict=True):
            total[0, :, t : t + high, x : x + wide] += part * weight
    assert total is not None
    return total


def _hill(length: int) -> Tensor:
    """A Hann window that never reaches zero."""
    return torch.hann_window(length + 2, periodic=False)[1:-1] + 1e-3


def predict_mask(model: TrainedModel, rgb: np.ndarray, refine: str | None = None) -> np.ndarray:
    """Return the most probable class of every pixel, uint8 (H, W)."""
    return refined_probabilities(model, rgb, refine).argmax(0).to(torch.uint8).cpu().numpy()


@torch.inference_mode()
def refined_probabilities(model: TrainedModel, rgb: np.ndarray, refine: str | None) -> Tensor:
    """Return :func:`probabilities`, refined by the method of that name, if any."""
    probs = probabilities(model, rgb)
    return probs if refine is None else refined(refine, probs, _as_rgb(rgb))
