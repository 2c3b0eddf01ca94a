"""Heads: class scores, and deep features that say which pixels belong together."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from scribbleseg.models.blocks import resize_as


class ClassHead(nn.Sequential):
    """Class scores from the decoder's map."""

    def __init__(self, channels: int, num_classes: int, dropout: float) -> None:
        super().__init__(nn.Dropout2d(dropout), nn.Conv2d(channels, num_classes, 1))


class FeatureConsistencyHead(nn.Module):
    """Deep features for the pairwise kernel: a projection of every level, fused, on the unit sphere.

    Each level and the decoder's map are projected to ``width`` channels, brought to the finest grid, concatenated and
    mapped to D numbers of unit length. (Computed in another order: mapping and resizing are linear, so every level is
    mapped to its share of the D numbers first, and only those are resized and added.)

    Reference: named in arXiv 2108.01296 without its layers; the several-stage projection follows A2GNN (TPAMI 2021).
    """

    def __init__(self, inputs: Sequence[int], feature_dim: int, width: int = 24) -> None:
        super().__init__()
        self.project = nn.ModuleList(nn.Sequential(nn.Conv2d(c, width, 1), nn.GELU()) for c in inputs)
        self.fuse = nn.Conv2d(width * len(inputs), feature_dim, 1)

    def forward(self, maps: list[Tensor]) -> Float[Tensor, "B D h w"]:
        """Return unit features on the grid of the first map."""
        shares = self.fuse.weight.chunk(len(maps), 1)
        parts = [F.conv2d(p(m), share) for p, m, share in zip(self.project, maps, shares, strict=True)]
        total = parts[0].float()
        for part in parts[1:]:
            total = total + resize_as(part.float(), total)
        assert self.fuse.bias is not None
        return F.normalize(total + self.fuse.bias.view(1, -1, 1, 1), dim=1)
