"""ONNX: the graph is what prediction does, and what differs from it is not handed on."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from scribbleseg.errors import ConfigError, ModelError, StorageError
from scribbleseg.export.onnx import export_onnx
from scribbleseg.export.whole import Whole
from scribbleseg.models.folder import TrainedModel, load_model
from scribbleseg.predict import predict_mask, probabilities
from tests.fake.exported import NAMES, make_model, picture


def test_the_runner_predicts_what_the_original_predicts(exported):
    from scribbleseg.runner import Runner

    model, runner = load_model(exported / "model"), Runner(exported / "onnx" / "model.onnx", 1)
    assert runner.names == NAMES
    for seed, size in enumerate([(64, 64), (40, 57), (33, 200), (150, 130), (1, 1)]):  # one window and several
        rgb = picture(seed, size)
        np.testing.assert_allclose(runner.probabilities(rgb), probabilities(model, rgb).numpy(), atol=1e-5)
        assert (runner.mask(rgb) == predict_mask(model, rgb)).mean() > 0.999
    assert len(np.unique(runner.mask(picture(3, (150, 130))))) > 1


@pytest.mark.parametrize("longest_px", [25, 37, 48])
def test_sizes_are_rounded_as_prediction_rounds_them(tmp_path, longest_px):
    whole = Whole(load_model(make_model(tmp_path / "model", 64, longest_px)))
    for length in (1, 2, 36, 38, 50, 64, 73, 74, 75, 500):
        for other in (1, 2, 3, 5, 31, 48, 50, 51):
            expected = [max(1, round(n * (longest_px / max(length, other)))) for n in (length, other)]
            assert list(whole._opaque_size(length, other)) == expected
            assert list(whole._size(length, other)) == expected


def test_parity_is_written_down(exported):
    found = json.loads((exported / "onnx" / "parity.json").read_text())
    assert found["pictures"] == 5
    assert found["difference"] < 1e-4
    assert found["other"] < 1e-4
    assert found["miou"] > 0.999
    assert found["precision"] == "float32"
    assert found["compared"] == "noise"
    assert found["limits"] == {"difference": 1e-3, "other": 1e-4, "miou": 0.99}
    assert found["size_mb"] == round((exported / "onnx" / "model.onnx").stat().st_size / 1e6, 2)
    assert min(found["ms"], found["original_ms"]) > 0


@pytest.mark.parametrize("longest_px", [0, 48])
@pytest.mark.parametrize("size", [(40, 57), (96, 33), (64, 64), (20, 31)])
def test_the_graph_is_what_prediction_does(tmp_path, longest_px, size):
    model = load_model(make_model(tmp_path / "model", 96, longest_px))
    rgb = picture(1, size)
    with torch.inference_mode():
        got = Whole(model)(torch.from_numpy(rgb)[None])[0]
        as_floats = Whole(model)(torch.from_numpy(rgb / np.float32(255))[None])[0]
    torch.testing.assert_close(got, probabilities(model, rgb), atol=2e-5, rtol=0)
    torch.testing.assert_close(as_floats, got, atol=1e-5, rtol=0)


def test_a_model_that_answers_otherwise_is_not_handed_on(exported, tmp_path, monkeypatch):
    import scribbleseg.export.onnx as export

    def other(model: TrainedModel, input: str) -> object:
        class Copy:
            class model:
                metadata_props: dict[str, str] = {}  # noqa: RUF012

            def save(self, path: str) -> None:
                shutil.copyfile(exported / "onnx" / "model.onnx", path)

        return Copy()

    monkeypatch.setattr(export, "_exported", other)
    make_model(tmp_path / "model", seed=1)
    with pytest.raises(ModelError, match="answers as the original") as error:
        export_onnx(tmp_path / "model", tmp_path / "out")
    assert "another class" in str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == ["model"], "nothing is left behind"


def test_what_cannot_be_exported_is_said_at_once(tmp_path, exported):
    with pytest.raises(ConfigError, match="fit its window"):
        export_onnx(make_model(tmp_path / "model", 64, 128), tmp_path / "out")
    with pytest.raises(StorageError):
        export_onnx(exported / "model", exported / "onnx")
    with pytest.raises(ConfigError, match="did you mean 'float16'"):
        export_onnx(exported / "model", tmp_path / "out", precision="float61")
    with pytest.raises(ConfigError, match="pictures to measure the loss on"):
        export_onnx(exported / "model", tmp_path / "out", precision="int8")
    with pytest.raises(ConfigError, match="--precision int8"):
        export_onnx(exported / "model", tmp_path / "out", calibration=tmp_path)
    assert not (tmp_path / "out").exists()
