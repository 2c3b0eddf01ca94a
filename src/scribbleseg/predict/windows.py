"""Images to class probabilities at their own size, through overlapping windows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from scribbleseg.errors import DataError
from scribbleseg.models.folder import TrainedModel
from scribbleseg.predict.views import ONCE, Run, Views, averaged
from scribbleseg.refine import refined

#: Share of a window that overlaps the next.
OVERLAP = 0.5

#: Windows that go through the network together, at most.
WINDOW_BATCH = 4

#: Pixels that go through the network together on a processor. With more, its caches are too small: windows of 512 px take 1.4
#: to 1.8 times as long by fours as one by one (ResNet-50, DeiT-tiny, U-Net), windows of 128 px two thirds of the time.
CPU_PIXELS = 120_000


def window_starts(length: int, window: int) -> list[int]:
    """Return evenly spaced starts so that windows cover ``length`` and overlap by at least ``OVERLAP``."""
    if length <= window:
        return [0]
    number = -(-(length - window) // int(window * (1 - OVERLAP))) + 1
    return [round(k * (length - window) / (number - 1)) for k in range(number)]


def probabilities(model: TrainedModel, rgb: np.ndarray, views: Views = ONCE) -> Tensor:
    """Return class probabilities (C, H, W) of one image (H, W, 3), 8-bit or floats in [0, 1].

    An image larger than the window is covered by overlapping windows whose probabilities are averaged with a smooth
    weight that falls towards the window's border.
    """
    return batch_probabilities(model, [rgb], views)[0]


@torch.inference_mode()
def batch_probabilities(model: TrainedModel, pictures: Sequence[np.ndarray], views: Views = ONCE) -> Tensor:
    """Return :func:`probabilities` of several images of one size, (B, C, H, W); their windows share batches."""
    network = model.segmenter
    device = network.mean.device
    full = torch.stack([torch.from_numpy(np.ascontiguousarray(as_rgb(p).transpose(2, 0, 1))) for p in pictures]).to(device)
    height, width = full.shape[-2:]
    image = full
    if (size := seen_size(model, height, width)) != (height, width):
        image = F.interpolate(full, size, mode="bilinear", align_corners=False, antialias=model.longest_px < max(height, width))

    def seen(x: Tensor) -> Tensor:
        return network.probabilities(x.contiguous(memory_format=torch.channels_last))  # a quarter faster on processors

    run = averaged(seen, views)
    window = model.window_px
    tops, lefts = window_starts(image.shape[-2], window), window_starts(image.shape[-1], window)
    probs = run(image) if len(tops) == len(lefts) == 1 else _windowed(run, image, tops, lefts, window)
    if probs.shape[-2:] != (height, width):
        probs = F.interpolate(probs, (height, width), mode="bilinear", align_corners=False)
    return probs


def window_batch(device: torch.device, pixels: int) -> int:
    """Return how many windows of so many pixels go through the network together: 4, 2 or 1, so that fours are never broken."""
    if device.type != "cpu":
        return WINDOW_BATCH
    return next(n for n in (WINDOW_BATCH, 2, 1) if n == 1 or n * pixels <= CPU_PIXELS)


def seen_size(model: TrainedModel, height: int, width: int) -> tuple[int, int]:
    """Return the size at which the network sees an image."""
    if not model.longest_px:
        return height, width
    factor = model.longest_px / max(height, width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def images_together(model: TrainedModel, height: int, width: int) -> int:
    """Return how many images of a size fill a batch with their windows; 0 if those of one do not fit."""
    sides = seen_size(model, height, width)
    rows, columns = (len(window_starts(n, model.window_px)) for n in sides)
    high, wide = (min(n, model.window_px) for n in sides)
    return window_batch(model.segmenter.mean.device, high * wide) // (rows * columns)


def as_rgb(rgb: np.ndarray) -> np.ndarray:
    """Return float32 (H, W, 3) in [0, 1]; 8-bit pictures are scaled."""
    if rgb.dtype == np.uint8:
        rgb = rgb / np.float32(255)
    if rgb.ndim != 3 or rgb.shape[-1] != 3 or rgb.dtype.kind != "f" or rgb.min(initial=0) < -0.01 or rgb.max(initial=0) > 1.01:
        got = f"{rgb.dtype} of shape {rgb.shape} from {rgb.min(initial=0)} to {rgb.max(initial=0)}"
        raise DataError("image", "(H, W, 3), 8-bit or floats in [0, 1]", got, "convert it first; read_rgb does for files")
    return rgb.astype(np.float32, copy=False)


def _windowed(run: Run, image: Tensor, tops: list[int], lefts: list[int], window: int) -> Tensor:
    places = [(top, left) for top in tops for left in lefts]
    weight = weight_of(image, window)
    high, wide = weight.shape
    mass = torch.zeros(image.shape[-2:], device=image.device)
    for t, x in places:
        mass[t : t + high, x : x + wide] += weight
    total = weighted_sum(run, image, places, weight)
    total /= mass
    return total


def weight_of(image: Tensor, window: int) -> Tensor:
    """Return the weight of a window's pixels, as large as the window is in this image."""
    return torch.outer(*(hill(min(window, side)) for side in image.shape[-2:])).to(image.device)


def weighted_sum(run: Run, image: Tensor, places: list[tuple[int, int]], weight: Tensor, total: Tensor | None = None) -> Tensor:
    """Return the sum of the windows' probabilities, each times ``weight``, (B, C, H, W) on the image's device.

    Args:
        run: the network.
        image: (B, 3, H, W).
        places: top and left of the windows.
        weight: of a window's pixels.
        total: what is added to, in place; zeros if None.
    """
    high, wide = weight.shape
    every = [(b, t, x) for b in range(len(image)) for t, x in places]
    batch = window_batch(image.device, high * wide)
    for first in range(0, len(every), batch):
        group = every[first : first + batch]
        probs = run(torch.stack([image[b, :, t : t + high, x : x + wide] for b, t, x in group]))
        if total is None:
            total = torch.zeros(len(image), probs.shape[1], *image.shape[-2:], device=image.device)
        for (b, t, x), part in zip(group, probs, strict=True):
            total[b, :, t : t + high, x : x + wide] += part * weight
    assert total is not None
    return total


def hill(length: int) -> Tensor:
    """A Hann window that never reaches zero."""
    return torch.hann_window(length + 2, periodic=False)[1:-1] + 1e-3


def predict_mask(model: TrainedModel, rgb: np.ndarray, refine: str | None = None, views: Views = ONCE) -> np.ndarray:
    """Return the most probable class of every pixel, uint8 (H, W)."""
    return refined_probabilities(model, rgb, refine, views).argmax(0).to(torch.uint8).cpu().numpy()


@torch.inference_mode()
def refined_probabilities(model: TrainedModel, rgb: np.ndarray, refine: str | None, views: Views = ONCE) -> Tensor:
    """Return :func:`probabilities`, refined by the method of that name, if any."""
    probs = probabilities(model, rgb, views)
    return probs if refine is None else refined(refine, probs, as_rgb(rgb))
