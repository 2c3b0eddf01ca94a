"""The pieces the decoders and the U-Net are made of."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv_block(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, group norm, GELU. Group norm: the batch is small and its size must not change the result.

    Eight groups, fewer where they would hold less than four channels.
    """
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.GroupNorm(math.gcd(outputs, max(1, min(8, outputs // 4))), outputs),
        nn.GELU(),
    )


class Residual(nn.Module):
    """A block that adds to what it is given: x + inner(x)."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum."""
        return x + self.inner(x)


def resize_as(x: Tensor, like: Tensor) -> Tensor:
    """Bilinear resize to the size of another map.

    An exporter leaves sizes open: there only what has the same size in every picture is taken as it is.
    """
    sizes = zip(x.shape[-2:], like.shape[-2:], strict=True)
    if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        from torch.fx.experimental.symbolic_shapes import statically_known_true

        same = all(statically_known_true(a == b) for a, b in sizes)
    else:
        same = all(a == b for a, b in sizes)
    return x if same else F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)
