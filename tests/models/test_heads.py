"""The feature consistency head against its drawing: project, resize, lay side by side, map."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from scribbleseg.models.heads import FeatureConsistencyHead


@pytest.mark.parametrize("sizes", [((8, 12), (8, 12), (4, 6)), ((5, 7), (3, 4), (1, 1))])
def test_features_are_those_of_the_drawing(sizes):
    torch.manual_seed(0)
    channels = (3, 4, 6)
    head = FeatureConsistencyHead(channels, 5, width=4)
    maps = [torch.randn(2, c, *size) for c, size in zip(channels, sizes, strict=True)]
    planes = []
    for project, x in zip(head.project, maps, strict=True):
        planes.append(F.interpolate(project(x), sizes[0], mode="bilinear", align_corners=False))
    expected = torch.einsum("dc,bchw->bdhw", head.fuse.weight[..., 0, 0], torch.cat(planes, 1))
    expected = expected + head.fuse.bias[:, None, None]
    expected = expected / expected.square().sum(1, keepdim=True).sqrt()
    torch.testing.assert_close(head(maps), expected)


def test_half_precision_maps_give_float32_features():
    torch.manual_seed(0)
    head = FeatureConsistencyHead((3, 4), 5)
    maps = [torch.randn(1, 3, 8, 8), torch.randn(1, 4, 4, 4)]
    with torch.autocast("cpu", torch.bfloat16):
        z = head(maps)
    assert z.dtype == torch.float32
    torch.testing.assert_close(z.norm(dim=1), torch.ones(1, 8, 8))
    torch.testing.assert_close(z, head(maps), atol=0.05, rtol=0)
