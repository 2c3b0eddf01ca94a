"""Prediction of pictures that are too large to be held whole: band by band."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from scribbleseg.data.images import Image, Window
from scribbleseg.data.intensity import Ranges, rgb_of
from scribbleseg.errors import DataError
from scribbleseg.models.folder import TrainedModel
from scribbleseg.predict.windows import predict_mask, weight_of, weighted_sum, window_starts

#: A picture of more pixels is read and predicted band by band.
LARGE_PIXELS = 2**25


def predicted_bands(
    model: TrainedModel, image: Image, number: int, ranges: Ranges | None = None, refine: str | None = None
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield the first row, the colours and the classes of one band of a picture after the other.

    A picture of up to ``LARGE_PIXELS`` is one band. A larger one is read and predicted in rows of windows, the same
    windows that :func:`probabilities` lays over it; so a pixel's class does not depend on it.

    Cost: memory for the windows' height times the picture's width, besides what its format reads at once.
    """
    height, width, _ = image.shape
    if height * width <= LARGE_PIXELS or model.longest_px:
        rgb = rgb_of(image, model.reading, index=number, ranges=ranges)
        yield 0, rgb, predict_mask(model, rgb, refine)
        return
    if refine is not None:
        got = f"{width} × {height}"
        raise DataError(image.path, f"at most {LARGE_PIXELS} pixels to refine", got, "predict it without --refine")
    tops, lefts = window_starts(height, model.window_px), window_starts(width, model.window_px)
    high = min(height, model.window_px)
    total = torch.zeros(len(model.names), high, width)
    for top, following in zip(tops, [*tops[1:], height], strict=True):
        rgb = rgb_of(image, model.reading, Window(top, 0, high, width), number, ranges)
        total += _band(model, rgb, lefts)
        done = following - top
        yield top, rgb[:done], total[:, :done].argmax(0).to(torch.uint8).numpy()
        total = F.pad(total[:, done:], (0, 0, 0, done))


def predict_large(
    model: TrainedModel, image: Image, number: int, ranges: Ranges | None = None, refine: str | None = None
) -> np.ndarray:
    """Return the most probable class of every pixel, uint8 (H, W), of a picture that is read and predicted band by band."""
    mask = np.empty(image.shape[:2], np.uint8)
    for top, _, rows in predicted_bands(model, image, number, ranges, refine):
        mask[top : top + len(rows)] = rows
    return mask


@torch.inference_mode()
def _band(model: TrainedModel, rgb: np.ndarray, lefts: list[int]) -> Tensor:
    """Return the weighted sum of the windows' probabilities over one row of windows, (C, h, W)."""
    network = model.segmenter
    image = torch.from_numpy(rgb.transpose(2, 0, 1))[None]  # stays on the CPU, for its sum may be large

    def run(windows: Tensor) -> Tensor:
        return network.probabilities(windows.to(network.mean.device)).float().cpu()

    return weighted_sum(run, image, [(0, x) for x in lefts], weight_of(image, model.window_px))[0]
