"""Pixels that stand for all: evenly spread, irregular, the same every time."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

#: The golden ratio's fraction: its multiples are spread most evenly.
GOLDEN = 0.6180339887498949


def spread(weight: Float[Tensor, "B P"], count: int) -> Int[Tensor, "B {count}"]:
    """Return so many pixels of each image, spread evenly (in reading order) over those of weight 1 and none of weight 0.

    One pixel from each of ``count`` equal parts of the image, at an irregular place in it, so that no column or row is
    preferred. All of them, some more than once, where there are no more than ``count``. Padding does not change the choice.

    Cost: linear in the pixels.
    """
    sums = weight.double().cumsum(1)
    total = sums[:, -1:]
    number = torch.arange(count, dtype=torch.float64, device=weight.device)
    place = torch.where(total <= count, 0.5, (number * GOLDEN).frac())
    wanted = (number + place) / count * total
    return torch.searchsorted(sums, wanted, right=True).clamp(max=weight.shape[1] - 1)


def pick(x: Float[Tensor, "B G P"], pixels: Int[Tensor, "B N"]) -> Float[Tensor, "B G N"]:
    """Return every channel at an image's pixels."""
    return x.gather(2, pixels.unsqueeze(1).expand(-1, x.shape[1], -1))
