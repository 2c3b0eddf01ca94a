"""Maps are brought to each other's size, and left alone where they have it."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from packaging.version import Version
from torch import nn

from scribbleseg.models.blocks import resize_as


def test_a_map_of_the_size_is_taken_as_it_is():
    x = torch.rand(2, 5, 6, 7)
    assert resize_as(x, torch.rand(2, 3, 6, 7)) is x
    assert torch.equal(nn.functional.interpolate(x, (6, 7), mode="bilinear", align_corners=False), x)


def test_another_size_is_bilinear():
    x, like = torch.rand(1, 2, 3, 4), torch.rand(1, 9, 6, 5)
    expected = nn.functional.interpolate(x, (6, 5), mode="bilinear", align_corners=False)
    assert torch.equal(resize_as(x, like), expected)


@pytest.mark.skipif(Version(torch.__version__) < Version("2.13"), reason="torch.export of before guards on the parity of sizes")
def test_an_exporter_gets_no_shortcut_for_a_size_that_may_change():
    """With a cell a side both maps are equally large, with more they are not: the program has to resize either way."""

    class Net(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return resize_as(nn.functional.max_pool2d(image, 2, ceil_mode=True), image)

    free = torch.export.Dim.DYNAMIC
    with mock.patch.object(torch.jit, "is_tracing", return_value=True):
        program = torch.export.export(Net(), (torch.rand(1, 1, 6, 8),), dynamic_shapes=({2: free, 3: free},))
    kinds = [str(node.target) for node in program.graph.nodes]
    assert any("upsample_bilinear2d" in kind for kind in kinds)
    image = torch.rand(1, 1, 9, 4)
    torch.testing.assert_close(program.module()(image), Net()(image))
