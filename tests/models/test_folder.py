from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from scribbleseg.config import ModelConfig
from scribbleseg.errors import ModelError, StorageError
from scribbleseg.models.decoders import DECODERS
from scribbleseg.models.folder import CONFIG, PREPROCESSOR, WEIGHTS, TrainedModel, load_model, save_model
from scribbleseg.models.segmenter import IMAGE_MEAN, IMAGE_STD, Segmenter
from tests.fake.backbones import BACKBONES, TINY

NAMES = ("background", "föld", "a class, with: signs")


def trained(backbone=TINY, **settings) -> TrainedModel:
    torch.manual_seed(3)
    config = ModelConfig(backbone=backbone, channels=8, feature_dim=4, detail_channels=4, **settings)
    return TrainedModel(Segmenter(config, 3).eval(), NAMES, window_px=96, longest_px=200)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(tmp_path / "model", trained())
    return tmp_path / "model"


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("decoder", DECODERS)
def test_what_is_saved_is_what_is_loaded(tmp_path, name, decoder):
    model = trained(BACKBONES[name][0], decoder=decoder)
    save_model(tmp_path, model)
    torch.manual_seed(99)
    again = load_model(tmp_path)
    image = torch.rand(1, 3, 50, 61)
    with torch.no_grad():
        before, after = model.segmenter(image), again.segmenter(image)
        assert torch.equal(before.logits, after.logits)
        assert torch.equal(before.features, after.features)
    assert (again.names, again.window_px, again.longest_px) == (NAMES, 96, 200)
    assert not again.segmenter.training


def test_trained_batch_statistics_are_kept(tmp_path):
    """A ResNet's running means are no parameters, but decide its predictions."""
    model = trained(BACKBONES["resnet"][0])
    model.segmenter.train()
    model.segmenter(torch.rand(4, 3, 64, 64))
    model.segmenter.eval()
    save_model(tmp_path, model)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model.segmenter(image).logits, load_model(tmp_path).segmenter(image).logits)


def test_saved_twice_is_the_same_model(folder, tmp_path):
    save_model(tmp_path / "again", load_model(folder))
    for name in (CONFIG, PREPROCESSOR, WEIGHTS):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_a_run_folder_holds_its_model(folder):
    assert load_model(folder.parent).names == NAMES
    assert load_model(str(folder)).names == NAMES


def test_files_are_safetensors_and_json(folder):
    assert {p.name for p in folder.iterdir()} == {CONFIG, PREPROCESSOR, WEIGHTS}
    assert {p.suffix for p in folder.iterdir()} == {".json", ".safetensors"}


def test_class_names_and_normalisation_stand_in_the_json(folder):
    config, preprocessor = (json.loads((folder / n).read_text(encoding="utf-8")) for n in (CONFIG, PREPROCESSOR))
    assert config["id2label"] == {str(k): name for k, name in enumerate(NAMES)}
    assert config["label2id"] == {name: k for k, name in enumerate(NAMES)}
    assert config["model_type"] == "scribbleseg"
    assert config["num_parameters"] == sum(p.numel() for p in trained().segmenter.parameters())
    assert (preprocessor["image_mean"], preprocessor["image_std"]) == (list(IMAGE_MEAN), list(IMAGE_STD))


def test_loading_does_not_need_the_backbones_own_weights(tmp_path):
    """A model made from a local backbone folder still loads when that folder is gone."""
    from transformers import ConvNextBackbone, ConvNextConfig

    settings = {k: v for k, v in TINY.items() if k != "model_type"}
    ConvNextBackbone(ConvNextConfig(**settings, out_features=["stage1", "stage2", "stage3", "stage4"])).save_pretrained(
        tmp_path / "backbone"
    )
    model = trained(str(tmp_path / "backbone"))
    save_model(tmp_path / "model", model)
    (tmp_path / "backbone").rename(tmp_path / "gone")
    image = torch.rand(1, 3, 40, 40)
    with torch.no_grad():
        assert torch.equal(load_model(tmp_path / "model").segmenter(image).logits, model.segmenter(image).logits)
    assert str(tmp_path) not in (tmp_path / "model" / CONFIG).read_text()


class TestErrors:
    @pytest.mark.parametrize("name", [CONFIG, PREPROCESSOR, WEIGHTS])
    def test_missing_file(self, folder, name):
        (folder / name).unlink()
        with pytest.raises(ModelError, match="no such file") as error:
            load_model(folder)
        assert str(folder / name) in str(error.value)

    def test_missing_folder(self, tmp_path):
        with pytest.raises(ModelError, match="give the folder that `train` wrote"):
            load_model(tmp_path / "nowhere")

    @pytest.mark.parametrize("kept", [0, 4, 200, -100])
    def test_weights_cut_short(self, folder, kept):
        (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:kept])
        with pytest.raises(
            ModelError, match="weights and configuration of one scribbleseg model(.|\n)*copy the whole folder again"
        ):
            load_model(folder)

    @pytest.mark.parametrize("name", [CONFIG, PREPROCESSOR])
    @pytest.mark.parametrize(
        ("content", "told"),
        [(b"{", "a JSON file"), (b"", "a JSON file"), (b"\xff\xfe", "a JSON file"), (b"[1]", "a JSON object")],
    )
    def test_broken_json(self, folder, name, content, told):
        (folder / name).write_bytes(content)
        with pytest.raises(ModelError, match=told) as error:
            load_model(folder)
        assert name in str(error.value)

    @pytest.mark.parametrize(
        "foreign",
        [
            {},
            {"model_type": "convnext", "id2label": {"0": "cat"}},
            {"segmenter": 3, "id2label": {"0": "a", "1": "b"}},
            {"segmenter": {}, "id2label": {"0": "a", "2": "b"}},
            {"segmenter": {"strange": 1}, "id2label": {"0": "a", "1": "b"}},
        ],
    )
    def test_foreign_configuration(self, folder, foreign):
        (folder / CONFIG).write_text(json.dumps(foreign))
        with pytest.raises(ModelError, match="weights and configuration of one scribbleseg model"):
            load_model(folder)

    @pytest.mark.parametrize("change", [{"channels": 16}, {"decoder": "upernet"}])
    def test_weights_that_do_not_fit(self, folder, change):
        config = json.loads((folder / CONFIG).read_text())
        config["segmenter"] |= change
        (folder / CONFIG).write_text(json.dumps(config))
        with pytest.raises(ModelError, match="weights and configuration of one scribbleseg model"):
            load_model(folder)

    def test_another_number_of_classes(self, folder):
        config = json.loads((folder / CONFIG).read_text())
        config["id2label"]["3"] = "more"
        (folder / CONFIG).write_text(json.dumps(config))
        with pytest.raises(ModelError, match="size mismatch|RuntimeError"):
            load_model(folder)

    def test_a_place_that_cannot_be_written(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(StorageError, match="a place where a file"):
            save_model(tmp_path / "file" / "model", trained())
