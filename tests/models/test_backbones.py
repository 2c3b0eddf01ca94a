"""Every backbone with every decoder, through the whole network."""

from __future__ import annotations

import math
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from scribbleseg.config import ModelConfig
from scribbleseg.errors import ConfigError, ModelError
from scribbleseg.models.backbone import build_backbone
from scribbleseg.models.decoders import DECODERS
from scribbleseg.models.segmenter import Segmenter, pad_to
from tests.fake.backbones import BACKBONES, PLAIN, TINY

PAIRS = [pytest.param(b, d, id=f"{b}-{d}") for b in BACKBONES for d in DECODERS]


def segmenter(backbone: dict[str, Any], **settings: Any) -> Segmenter:
    torch.manual_seed(0)
    settings = {"channels": 8, "feature_dim": 5, "detail_channels": 4, "dropout": 0.0} | settings
    return Segmenter(ModelConfig(backbone=backbone, **settings), 3)


def picture(height: int, width: int, num_images: int = 1) -> Tensor:
    return torch.rand(num_images, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", BACKBONES)
def test_channels_and_strides(name):
    settings, channels, strides, _ = BACKBONES[name]
    backbone = build_backbone(settings, pretrained=False)
    assert (backbone.channels, backbone.strides, backbone.multiple) == (channels, strides, max(strides))
    side = 4 * backbone.multiple
    maps = backbone(picture(side, 2 * side))
    assert [tuple(m.shape) for m in maps] == [(1, c, side // s, 2 * side // s) for c, s in zip(channels, strides, strict=True)]


def test_maps_of_a_plain_transformer_are_spread_over_its_blocks():
    backbone = build_backbone(BACKBONES["dinov2, small patches, more blocks"][0], pretrained=False)
    assert backbone.settings["out_features"] == ["stage1", "stage3", "stage4", "stage6"]


@pytest.mark.parametrize(("name", "decoder"), PAIRS)
class TestWholeNetwork:
    @pytest.mark.parametrize("size", [(64, 96), (70, 93)])
    def test_shapes(self, name, decoder, size):
        settings, _, _, stride = BACKBONES[name]
        network = segmenter(settings, decoder=decoder).eval()
        grid = tuple(math.ceil(side / stride) for side in size)
        with torch.no_grad():
            output = network(picture(*size, num_images=2))
            probs = network.probabilities(picture(*size, num_images=2))
        assert network.stride == stride
        assert output.logits.shape == (2, 3, *grid)
        assert output.features.shape == (2, 5, *grid)
        assert probs.shape == (2, 3, *size)
        torch.testing.assert_close(probs.sum(1), torch.ones(2, *size))
        assert float(probs.min()) >= 0
        torch.testing.assert_close(output.features.norm(dim=1), torch.ones(2, *grid))

    def test_gradient_reaches_everything(self, name, decoder):
        network = segmenter(BACKBONES[name][0], decoder=decoder)
        output = network(picture(64, 64, num_images=2))
        weights = torch.randn(output.features.shape, generator=torch.Generator().manual_seed(2))
        (output.logits.square().sum() + (output.features * weights).sum()).backward()
        for part in (network.backbone, network.decoder, network.class_head, network.feature_head):
            grads = [p.grad for p in part.parameters() if p.grad is not None]
            assert grads
            assert all(bool(torch.isfinite(g).all()) for g in grads)
            assert sum(float(g.abs().sum()) for g in grads) > 0
        first = next(p for p in network.backbone.parameters() if p.ndim == 4)
        assert float(first.grad.abs().max()) > 0, "the first convolution learns"

    def test_an_image_does_not_depend_on_the_others_of_the_batch(self, name, decoder):
        network = segmenter(BACKBONES[name][0], decoder=decoder).eval()
        pictures = picture(64, 64, num_images=3)
        with torch.no_grad():
            together = network(pictures).logits
            alone = network(pictures[1:2]).logits
        torch.testing.assert_close(together[1:2], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", BACKBONES)
def test_padding_does_not_move_the_answer(name):
    """An odd size gives what its padded version gives there, but for the last cells, where interpolation ends."""
    network = segmenter(BACKBONES[name][0]).eval()
    image, s = picture(70, 93), BACKBONES[name][3]
    with torch.no_grad():
        odd = network.probabilities(image)
        padded = network.probabilities(pad_to(image, network.multiple))
    torch.testing.assert_close(odd[..., : 70 - s, : 93 - s], padded[..., : 70 - s, : 93 - s], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(56, 70), (70, 93), (98, 98)])
def test_patches_of_14_pixels(size):
    """DINOv2's own patch size, which no power of two divides."""
    settings = PLAIN | {"num_hidden_layers": 4, "patch_size": 14, "image_size": 56}
    network = segmenter(settings).eval()
    with torch.no_grad():
        probs = network.probabilities(picture(*size))
    assert probs.shape == (1, 3, *size)
    torch.testing.assert_close(probs.sum(1), torch.ones(1, *size))


@pytest.mark.parametrize("name", ["convnext", "dinov2"])
def test_a_picture_smaller_than_a_cell(name):
    network = segmenter(BACKBONES[name][0]).eval()
    with torch.no_grad():
        assert network.probabilities(picture(3, 5)).shape == (1, 3, 3, 5)


@pytest.mark.parametrize("name", ["convnext", "dinov2"])
def test_the_backbone_sees_normalised_colours(name):
    """ImageNet's mean and deviation, written out here: pretrained weights depend on them."""
    network = segmenter(BACKBONES[name][0]).eval()
    seen: list[Tensor] = []
    network.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    image = picture(64, 64)
    with torch.no_grad():
        network(image)
    means, deviations = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(seen[0], (image - means.view(1, 3, 1, 1)) / deviations.view(1, 3, 1, 1))


def test_detail_stem_is_optional():
    with_stem, without = (segmenter(BACKBONES["dinov2"][0], detail_channels=d).eval() for d in (4, 0))
    assert with_stem.pyramid is not None
    assert without.pyramid is not None
    assert without.pyramid.stem is None
    with torch.no_grad():
        assert without(picture(64, 64)).logits.shape == with_stem(picture(64, 64)).logits.shape == (1, 3, 16, 16)


def test_same_seed_same_weights():
    a, b = segmenter(TINY), segmenter(TINY)
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


class TestErrors:
    @pytest.mark.parametrize(
        ("kind", "told"), [("convnxt", "did you mean 'convnext'"), ("swim", "did you mean 'swin'"), (None, "use one of")]
    )
    def test_unknown_type_names_the_nearest(self, kind, told):
        with pytest.raises(ModelError, match=told) as error:
            build_backbone({} if kind is None else {"model_type": kind}, pretrained=False)
        assert "model_type, unet or a type of transformers" in str(error.value)

    def test_a_type_that_is_no_image_encoder(self):
        with pytest.raises(ModelError, match="a type that can serve as a backbone"):
            build_backbone({"model_type": "bert"}, pretrained=False)

    @pytest.mark.parametrize(
        "settings",
        [
            {"model_type": "convnext", "hidden_sizes": "wide"},
            {"model_type": "convnext", "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "hidden_act": "gelo"},
            PLAIN | {"num_hidden_layers": 4, "hidden_size": "wide"},
            TINY | {"num_channels": 1},
        ],
    )
    def test_wrong_setting(self, settings):
        with pytest.raises(ModelError, match=f"settings of a {settings['model_type']} backbone"):
            build_backbone(settings, pretrained=False)

    def test_unknown_setting_names_the_nearest(self):
        """A slip of the pen must not end in another, much larger network."""
        with pytest.raises(ModelError, match="did you mean 'hidden_sizes'"):
            build_backbone(TINY | {"hiden_sizes": [4, 4, 8, 8]}, pretrained=False)

    def test_too_few_stages(self):
        with pytest.raises(ModelError, match="at least 4 stages(.|\n)*choose a deeper backbone"):
            build_backbone(PLAIN | {"num_hidden_layers": 3}, pretrained=False)

    @pytest.mark.parametrize("place", ["/no/such/folder", "./no-such-folder"])
    def test_missing_folder(self, place):
        with pytest.raises(ModelError, match="a folder with a backbone(.|\n)*no such folder"):
            build_backbone(place, pretrained=True)

    @pytest.mark.parametrize("content", [None, "{", ""])
    def test_folder_without_a_configuration(self, tmp_path, content):
        if content is not None:
            (tmp_path / "config.json").write_text(content)
        with pytest.raises(ModelError, match="the backbone's configuration(.|\n)*copy the whole folder"):
            build_backbone(str(tmp_path), pretrained=True)

    def test_unknown_decoder_names_the_nearest(self):
        with pytest.raises(ConfigError, match="did you mean 'upernet'"):
            segmenter(TINY, decoder="uppernet")


class TestLocalFolder:
    @pytest.fixture(autouse=True)
    def no_network(self, monkeypatch):
        def refuse(*arguments):
            raise AssertionError("a local folder must not ask the network")

        monkeypatch.setattr(socket.socket, "connect", refuse)
        monkeypatch.setattr(socket, "getaddrinfo", refuse)

    @pytest.fixture
    def saved(self, tmp_path: Path) -> tuple[Path, Any]:
        from transformers import ConvNextBackbone, ConvNextConfig

        torch.manual_seed(5)
        settings = {k: v for k, v in TINY.items() if k != "model_type"}
        encoder = ConvNextBackbone(ConvNextConfig(**settings, out_features=["stage1", "stage2", "stage3", "stage4"]))
        encoder.save_pretrained(tmp_path / "backbone")
        return tmp_path / "backbone", encoder

    def test_weights_of_save_pretrained_are_loaded(self, saved):
        folder, encoder = saved
        torch.manual_seed(0)
        backbone = build_backbone(str(folder), pretrained=True)
        assert backbone.channels == (8, 8, 16, 16)
        loaded = backbone.encoder.state_dict()
        assert loaded.keys() == encoder.state_dict().keys()
        assert all(torch.equal(loaded[key], value) for key, value in encoder.state_dict().items())

    def test_architecture_alone(self, saved):
        folder, encoder = saved
        backbone = build_backbone(str(folder), pretrained=False)
        key = "embeddings.patch_embeddings.weight"
        assert backbone.encoder.state_dict()[key].shape == encoder.state_dict()[key].shape
        assert not torch.equal(backbone.encoder.state_dict()[key], encoder.state_dict()[key])

    def test_no_weights(self, saved):
        folder, _ = saved
        (folder / "model.safetensors").unlink()
        with pytest.raises(ModelError, match=r"weights as \*\.safetensors(.|\n)*none in the folder"):
            build_backbone(str(folder), pretrained=True)

    def test_weights_cut_short(self, saved):
        folder, _ = saved
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-1000])
        with pytest.raises(ModelError, match="weights that fit the configuration"):
            build_backbone(str(folder), pretrained=True)

    def test_weights_of_another_size(self, saved):
        folder, _ = saved
        text = (folder / "config.json").read_text()
        (folder / "config.json").write_text(text.replace('"patch_size": 2', '"patch_size": 4'))
        with pytest.raises(ModelError, match="weights that fit the configuration"):
            build_backbone(str(folder), pretrained=True)
