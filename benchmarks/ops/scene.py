"""Pictures for ops whose time and error depend on what is in them: shaded patches of colour, with noise."""

from __future__ import annotations

import torch
from torch import Tensor


def scene(batch: int, classes: int, size: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return scores (softmax; they follow the patches, unsurely) and colours in [0, 1].

    Twelve patches around random points, each of one colour, shaded from side to side by a fifth of the range, with
    noise of 3 % in the colours: about what a lattice or a tree meets in a photograph, from a seed.
    """
    rng = torch.Generator().manual_seed(seed)
    points, colours = torch.rand(batch, 12, 2, generator=rng), torch.rand(batch, 12, 3, generator=rng)
    y, x = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")
    distance = (y - points[:, :, 0, None, None]) ** 2 + (x - points[:, :, 1, None, None]) ** 2
    patch = distance.argmin(1)  # B H W
    flat = torch.stack([own[at] for own, at in zip(colours, patch, strict=True)]).movedim(-1, 1)
    shade = 0.2 * torch.stack([x, y, 1 - x])
    rgb = 0.8 * flat + shade + 0.03 * torch.randn(batch, 3, size, size, generator=rng)
    hint = torch.nn.functional.one_hot(patch % classes, classes).movedim(-1, 1)
    scores = (2 * hint + torch.randn(batch, classes, size, size, generator=rng)).softmax(1)
    return scores.contiguous(), rgb.clamp(0, 1).contiguous()
