"""A feature pyramid for plain vision transformers, whose maps share one stride."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scribbleseg.models.blocks import conv_block, resize_as


class PlainPyramid(nn.Module):
    """Four maps of one stride s become maps of strides s/4, s/2, s and 2s; a convolutional stem sharpens the finest.

    Patches of 14 pixels thus give strides from 3.5 to 28.

    The transformer sees patches only; the stem gives the finest map the image's own edges. Its strides are 2, then 2.

    Reference: the up- and downsampling is that of Li et al., *ViTDet*, arXiv 2203.16527 (there from the last map alone);
    the stem follows the idea of Yao et al., *ViTMatte*, arXiv 2305.15272.

    Args:
        channels: of the incoming maps.
        stride: of the incoming maps.
        detail_channels: width of the stem; 0 for none.
    """

    def __init__(self, channels: Sequence[int], stride: int, detail_channels: int) -> None:
        super().__init__()
        width = channels[0]
        self.norms = nn.ModuleList(nn.GroupNorm(1, c) for c in channels)
        self.up4 = nn.Sequential(
            nn.ConvTranspose2d(channels[0], width // 2, 2, 2),
            nn.GroupNorm(1, width // 2),
            nn.GELU(),
            nn.ConvTranspose2d(width // 2, width // 4, 2, 2),
        )
        self.up2 = nn.ConvTranspose2d(channels[1], width // 2, 2, 2)
        self.down = nn.MaxPool2d(2, ceil_mode=True)
        self.stem: nn.Module | None = None
        if detail_channels:
            self.stem = nn.Sequential(conv_block(3, detail_channels, 3, 2), conv_block(detail_channels, detail_channels, 3, 2))
        self.channels = (width // 4 + detail_channels, width // 2, channels[2], channels[3])
        self.strides = (stride / 4, stride / 2, float(stride), 2.0 * stride)

    def forward(self, image: Float[Tensor, "B 3 H W"], maps: list[Tensor]) -> list[Tensor]:
        """Return the pyramid, finest first."""
        a, b, c, d = (norm(m) for norm, m in zip(self.norms, maps, strict=True))
        fine = self.up4(a)
        if self.stem is not None:
            fine = torch.cat([fine, resize_as(self.stem(image), fine)], 1)
        return [fine, self.up2(b), c, self.down(d)]
