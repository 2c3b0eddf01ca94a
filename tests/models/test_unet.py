"""The U-Net: its encoder against its drawing, its settings, and the decoder that goes with it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scribbleseg.config import ModelConfig, dump_config, parse_config
from scribbleseg.errors import ConfigError
from scribbleseg.models.backbone import build_backbone
from scribbleseg.models.decoders import UNetDecoder
from scribbleseg.models.segmenter import Segmenter

UNET: dict[str, Any] = {"model_type": "unet", "hidden_sizes": [4, 8, 12]}


def segmenter(**settings: Any) -> Segmenter:
    torch.manual_seed(0)
    settings = {"backbone": UNET, "decoder": "unet", "channels": 8, "feature_dim": 5, "dropout": 0.0} | settings
    return Segmenter(ModelConfig(**settings), 3)


def picture(height: int, width: int, num_images: int = 1) -> Tensor:
    return torch.rand(num_images, 3, height, width, generator=torch.Generator().manual_seed(1))


def convolutions(network: nn.Module) -> list[tuple[int, int, int]]:
    """Channels in, channels out and side of every kernel, in the order of use."""
    return [(m.in_channels, m.out_channels, m.kernel_size[0]) for m in network.modules() if isinstance(m, nn.Conv2d)]


class TestEncoder:
    @pytest.mark.parametrize(
        ("settings", "strides"),
        [
            ({}, (1, 2, 4)),
            ({"stride": 2}, (2, 4, 8)),
            ({"depths": [1, 3, 1]}, (1, 2, 4)),
            ({"stride": 2, "depths": [1, 1, 1]}, (2, 4, 8)),
        ],
    )
    def test_maps(self, settings, strides):
        backbone = build_backbone(UNET | settings, pretrained=True)
        assert (backbone.channels, backbone.strides, backbone.multiple) == ((4, 8, 12), strides, strides[-1])
        maps = backbone(picture(16, 24, 2))
        assert [tuple(m.shape) for m in maps] == [(2, c, 16 // s, 24 // s) for c, s in zip((4, 8, 12), strides, strict=True)]

    def test_two_convolutions_a_level_unless_said(self):
        assert convolutions(build_backbone(UNET, pretrained=False)) == [
            (3, 4, 3), (4, 4, 3), (4, 8, 3), (8, 8, 3), (8, 12, 3), (12, 12, 3),
        ]  # fmt: skip
        assert convolutions(build_backbone(UNET | {"depths": [1, 3, 1]}, pretrained=False)) == [
            (3, 4, 3), (4, 8, 3), (8, 8, 3), (8, 8, 3), (8, 12, 3),
        ]  # fmt: skip

    def test_five_levels_unless_said(self):
        backbone = build_backbone({"model_type": "unet"}, pretrained=False)
        assert backbone.channels == (16, 32, 64, 128, 256)
        assert backbone.strides == (1, 2, 4, 8, 16)

    @pytest.mark.parametrize("stride", [1, 2])
    def test_the_finest_map_sees_its_neighbourhood_alone(self, stride):
        """Two 3×3 convolutions: a pixel reaches two cells far, and what is farther away must not move the map.

        Group norm looks at the whole picture, so it is taken out for this.
        """
        torch.manual_seed(0)
        encoder = build_backbone(UNET | {"stride": stride}, pretrained=False).encoder
        for level in encoder.levels:
            for block in level.modules():
                if isinstance(block, nn.Sequential) and isinstance(block[0], nn.Conv2d):
                    block[1] = nn.Identity()
        one, other = torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 32)
        other[..., 16, 16] = 1
        with torch.no_grad():
            moved = [(a - b).abs().amax((0, 1)) > 0 for a, b in zip(encoder(one), encoder(other), strict=True)]
        rows, columns = torch.where(moved[0])
        reach = {1: (14, 18), 2: (7, 9)}[stride]
        assert (int(rows.min()), int(rows.max())) == (int(columns.min()), int(columns.max())) == reach
        assert bool(moved[-1].any())

    def test_a_coarser_level_starts_from_the_largest_of_four_cells(self):
        torch.manual_seed(0)
        encoder = build_backbone(UNET, pretrained=False).encoder
        fine, coarse, _ = encoder(picture(8, 8))
        largest = fine.unflatten(-1, (4, 2)).unflatten(-3, (4, 2)).amax((-1, -3))
        torch.testing.assert_close(encoder.levels[1](largest), coarse)

    def test_later_convolutions_of_a_level_add_to_what_they_are_given(self):
        torch.manual_seed(0)
        encoder = build_backbone(UNET | {"depths": [3, 1, 1]}, pretrained=False).encoder
        first, *later = encoder.levels[0]
        x = first(picture(8, 8))
        for block in later:
            x = x + block.inner(x)
        torch.testing.assert_close(encoder(picture(8, 8))[0], x)

    def test_settings_build_it_again(self):
        first = build_backbone(UNET | {"stride": 2, "depths": [1, 2, 1]}, pretrained=False)
        again = build_backbone(first.settings, pretrained=False)
        assert first.settings == again.settings == UNET | {"stride": 2, "depths": [1, 2, 1]}
        again.load_state_dict(first.state_dict())
        with torch.no_grad():
            assert all(torch.equal(a, b) for a, b in zip(first(picture(16, 16)), again(picture(16, 16)), strict=True))


class TestDecoder:
    @pytest.mark.parametrize(
        ("inputs", "channels", "expected"),
        [
            # Widths of the levels: the answer's, doubled a level, not more than the map; then what is merged: map + width.
            ((16, 32, 64), 16, [(32, 16, 1), (64, 32, 1), (32, 16, 3), (16, 16, 3), (64, 32, 3), (32, 32, 3)]),
            ((16, 32, 64), 8, [(16, 8, 1), (64, 16, 1), (24, 8, 3), (8, 8, 3), (48, 16, 3), (16, 16, 3)]),
            ((4, 8, 64), 32, [(8, 32, 1), (64, 8, 1), (36, 32, 3), (32, 32, 3), (16, 8, 3), (8, 8, 3)]),
        ],
    )
    def test_widths(self, inputs, channels, expected):
        assert convolutions(UNetDecoder(inputs, channels)) == expected

    def test_the_second_convolution_adds_to_the_first(self):
        torch.manual_seed(0)
        decoder = UNetDecoder((4, 8), 8)
        fine, coarse = torch.randn(1, 4, 6, 6), torch.randn(1, 8, 3, 3)
        first, second = decoder.merge[0]
        above = nn.functional.interpolate(decoder.narrow[0](coarse), (6, 6), mode="bilinear", align_corners=False)
        x = first(torch.cat([fine, above], 1))
        torch.testing.assert_close(decoder([fine, coarse]), x + second.inner(x))

    def test_every_map_matters(self):
        torch.manual_seed(0)
        decoder = UNetDecoder((4, 8, 12), 8)
        maps = [torch.randn(1, c, 16 // s, 16 // s, requires_grad=True) for c, s in ((4, 1), (8, 2), (12, 4))]
        decoder(maps).square().sum().backward()
        assert all(m.grad is not None and float(m.grad.abs().max()) > 0 for m in maps)


class TestWholeNetwork:
    @pytest.mark.parametrize(("stride", "size"), [(1, (32, 48)), (1, (33, 45)), (2, (32, 48)), (2, (33, 45)), (1, (3, 5))])
    def test_sizes(self, stride, size):
        network = segmenter(backbone=UNET | {"stride": stride}).eval()
        grid = tuple(-(-side // stride) for side in size)
        with torch.no_grad():
            output, probs = network(picture(*size, 2)), network.probabilities(picture(*size, 2))
        assert network.stride == stride
        assert output.logits.shape == (2, 3, *grid)
        assert output.features.shape == (2, 5, *grid)
        assert probs.shape == (2, 3, *size)
        if stride == 1:
            torch.testing.assert_close(probs, output.logits.softmax(1))

    @pytest.mark.parametrize(("sizes", "side"), [([1, 1, 1], 32), ([16, 32, 64, 128, 256], 32)])
    def test_the_smallest_crop_trains(self, sizes, side):
        network = segmenter(backbone=UNET | {"hidden_sizes": sizes})
        network(picture(side, side, 2)).logits.square().sum().backward()
        first = next(network.backbone.parameters())
        assert first.grad is not None
        assert bool(torch.isfinite(first.grad).all())


class TestConfiguration:
    def test_a_run_takes_it(self):
        config = parse_config({"model": {"backbone": UNET, "decoder": "unet"}})
        assert "model_type: unet" in dump_config(config)

    @pytest.mark.parametrize(
        ("wrong", "told"),
        [
            ({"hiden_sizes": [4, 8]}, "did you mean 'hidden_sizes'"),
            ({"kernel": [4, 8]}, "use one of: depths, hidden_sizes, model_type, stride"),
            ({"hidden_sizes": [4, 0]}, "greater than or equal to 1"),
            ({"hidden_sizes": [4, 8.5]}, "valid integer"),
            ({"hidden_sizes": [4, True]}, "valid integer"),
            ({"hidden_sizes": [4]}, "at least 2"),
            ({"hidden_sizes": 4}, "valid tuple"),
            ({"depths": [1, 1]}, "one number a level, 3 in all"),
            ({"depths": [1, 1, 0]}, "greater than or equal to 1"),
            ({"stride": 4}, "1 or 2"),
        ],
    )
    def test_wrong_setting(self, wrong, told):
        with pytest.raises(ConfigError, match="backbone unet") as error:
            build_backbone(UNET | wrong, pretrained=False)
        assert told in str(error.value)
