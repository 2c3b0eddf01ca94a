"""Decoders: maps, finest first, become one map on the finest grid."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from scribbleseg.models.blocks import Residual, conv_block, resize_as


class FPNDecoder(nn.Module):
    """Light top-down decoder: project, add the coarser map, one 3×3 convolution a level.

    Reference: Lin et al., *Feature Pyramid Networks*, arXiv 1612.03144; here the finest level alone is kept.
    """

    def __init__(self, inputs: Sequence[int], channels: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in inputs)
        self.smooth = nn.ModuleList(conv_block(channels, channels) for _ in inputs)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Return (B, channels, h, w) on the grid of the first map."""
        x: Tensor | None = None
        for level in reversed(range(len(maps))):
            side = self.lateral[level](maps[level])
            x = self.smooth[level](side if x is None else side + resize_as(x, side))
        assert x is not None
        return x


class UPerNetDecoder(nn.Module):
    """Pyramid pooling on the coarsest map, top-down additions, and a fusion of all levels.

    Reference: Xiao et al., *Unified Perceptual Parsing*, arXiv 1807.10221; group norm and GELU in place of batch norm and ReLU.
    """

    pool_sizes = (1, 2, 3, 6)

    def __init__(self, inputs: Sequence[int], channels: int) -> None:
        super().__init__()
        *finer, coarsest = inputs
        self.pooled = nn.ModuleList(nn.Sequential(nn.Conv2d(coarsest, channels, 1), nn.GELU()) for _ in self.pool_sizes)
        self.bottleneck = conv_block(coarsest + channels * len(self.pool_sizes), channels)
        self.lateral = nn.ModuleList(conv_block(c, channels, 1) for c in finer)
        self.smooth = nn.ModuleList(conv_block(channels, channels) for _ in finer)
        self.fuse = conv_block(channels * len(inputs), channels)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Return (B, channels, h, w) on the grid of the first map."""
        *finer, coarsest = maps
        pools = [
            resize_as(project(nn.functional.adaptive_avg_pool2d(coarsest, size)), coarsest)
            for size, project in zip(self.pool_sizes, self.pooled, strict=True)
        ]
        levels = [self.bottleneck(torch.cat([coarsest, *pools], 1))]
        for lateral, fine in zip(reversed(self.lateral), reversed(finer), strict=True):
            side = lateral(fine)
            levels.append(side + resize_as(levels[-1], side))
        coarse, *rest = levels
        smoothed = [smooth(x) for smooth, x in zip(reversed(self.smooth), rest, strict=True)]
        return self.fuse(torch.cat([resize_as(x, smoothed[-1]) for x in [coarse, *smoothed]], 1))


class UNetDecoder(nn.Module):
    """Top-down decoder that lays each finer map beside the coarser answer: resize, concatenate, two 3×3 convolutions,
    the second of which adds to the first.

    Level k has channels·2^k channels, but no more than its map; the coarsest map is taken as it is.

    Reference: Ronneberger, Fischer, Brox, *U-Net*, arXiv 1505.04597; bilinear resizing in place of the transposed convolution.
    """

    def __init__(self, inputs: Sequence[int], channels: int) -> None:
        super().__init__()
        *finer, coarsest = inputs
        widths = [channels, *(min(channels * 2**k, c) for k, c in enumerate(finer) if k), coarsest]
        self.narrow = nn.ModuleList(nn.Conv2d(below, w, 1) for w, below in pairwise(widths))
        self.merge = nn.ModuleList(
            nn.Sequential(conv_block(w + c, w), Residual(conv_block(w, w))) for w, c in zip(widths, finer, strict=False)
        )

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Return (B, channels, h, w) on the grid of the first map."""
        x = maps[-1]
        for level in reversed(range(len(maps) - 1)):
            side = maps[level]
            x = self.merge[level](torch.cat([side, resize_as(self.narrow[level](x), side)], 1))
        return x


DECODERS: dict[str, type[nn.Module]] = {"fpn": FPNDecoder, "upernet": UPerNetDecoder, "unet": UNetDecoder}
