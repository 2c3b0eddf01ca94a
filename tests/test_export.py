from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scribbleseg.config import ModelConfig
from scribbleseg.errors import ConfigError, ModelError, StorageError
from scribbleseg.export import _rounded, _Whole, export_onnx
from scribbleseg.models.folder import TrainedModel, load_model, save_model
from scribbleseg.models.segmenter import Segmenter
from scribbleseg.predict import predict_mask, probabilities

NAMES = ("background", "leaf", "rust on leaf")
RESNET = {
    "backbone": {
        "model_type": "resnet",
        "embedding_size": 8,
        "hidden_sizes": [8, 8, 8, 8],
        "depths": [1, 1, 1, 1],
        "layer_type": "basic",
    },
    "decoder": "fpn",
    "channels": 8,
    "feature_dim": 4,
}


def make_model(folder: Path, window_px: int = 64, longest_px: int = 0) -> Path:
    torch.manual_seed(0)
    segmenter = Segmenter(ModelConfig.model_validate(RESNET), len(NAMES)).eval()
    for parameter in segmenter.class_head.parameters():
        parameter.data *= 20  # answers that differ from place to place
    save_model(folder, TrainedModel(segmenter, NAMES, window_px, longest_px))
    return folder


def picture(seed: int, size: tuple[int, int]) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.random((size[0] // 8 + 1, size[1] // 8 + 1, 3))
    return (255 * np.kron(coarse, np.ones((8, 8, 1)))[: size[0], : size[1]]).astype(np.uint8)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("export")
    make_model(root / "model")
    export_onnx(root / "model", root / "onnx")
    return root


def test_the_runner_predicts_what_the_original_predicts(exported):
    from scribbleseg.runner import Runner

    model, runner = load_model(exported / "model"), Runner(exported / "onnx" / "model.onnx", 1)
    assert runner.names == NAMES
    for seed, size in enumerate([(64, 64), (40, 57), (33, 200), (150, 130), (1, 1)]):  # one window and several
        rgb = picture(seed, size)
        np.testing.assert_allclose(runner.probabilities(rgb), probabilities(model, rgb).numpy(), atol=1e-5)
        assert (runner.mask(rgb) == predict_mask(model, rgb)).mean() > 0.999
    assert len(np.unique(runner.mask(picture(3, (150, 130))))) > 1


def test_it_runs_where_there_is_no_torch_and_no_scribbleseg(exported, tmp_path):
    Image.fromarray(picture(5, (90, 70))).save(tmp_path / "photo.png")
    script = str(exported / "onnx" / "runner.py")
    guard = (
        f"import sys, runpy; sys.modules.update(torch=None, scribbleseg=None); runpy.run_path({script!r}, run_name='__main__')"
    )
    arguments = [str(exported / "onnx" / "model.onnx"), str(tmp_path / "photo.png"), str(tmp_path / "mask.png")]
    done = subprocess.run([sys.executable, "-c", guard, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "rust on leaf" in done.stdout
    expected = predict_mask(load_model(exported / "model"), picture(5, (90, 70)))
    assert (np.asarray(Image.open(tmp_path / "mask.png")) == expected).mean() > 0.999


def test_sizes_are_rounded_as_prediction_rounds_them():
    for below in range(1, 60):
        assert [_rounded(above, below) for above in range(200)] == [round(above / below) for above in range(200)]


def test_parity_is_written_down(exported):
    found = json.loads((exported / "onnx" / "parity.json").read_text())
    assert found["pictures"] == 4
    assert found["difference"] < 1e-4
    assert found["other"] < 1e-4


@pytest.mark.parametrize("longest_px", [0, 48])
@pytest.mark.parametrize("size", [(40, 57), (96, 33), (64, 64), (20, 31)])
def test_the_graph_is_what_prediction_does(tmp_path, longest_px, size):
    model = load_model(make_model(tmp_path / "model", 96, longest_px))
    rgb = picture(1, size)
    with torch.inference_mode():
        got = _Whole(model)(torch.from_numpy(rgb)[None])[0]
        as_floats = _Whole(model)(torch.from_numpy(rgb / np.float32(255))[None])[0]
    torch.testing.assert_close(got, probabilities(model, rgb), atol=2e-5, rtol=0)
    torch.testing.assert_close(as_floats, got, atol=1e-5, rtol=0)


def test_wrong_pictures_are_refused(exported):
    from scribbleseg.runner import Runner

    runner = Runner(exported / "onnx" / "model.onnx")
    with pytest.raises(ValueError, match=r"\(H, W, 3\)"):
        runner.probabilities(np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match="uint8"):
        runner.probabilities(np.zeros((4, 4, 3), np.float32))


def test_a_model_that_answers_otherwise_is_not_handed_on(exported, tmp_path, monkeypatch):
    import scribbleseg.export as export

    def other(model: TrainedModel, input: str) -> object:
        class Copy:
            class model:
                metadata_props: dict[str, str] = {}  # noqa: RUF012

            def save(self, path: str) -> None:
                shutil.copyfile(exported / "onnx" / "model.onnx", path)

        return Copy()

    monkeypatch.setattr(export, "_exported", other)
    torch.manual_seed(1)
    segmenter = Segmenter(ModelConfig.model_validate(RESNET), len(NAMES)).eval()
    save_model(tmp_path / "model", TrainedModel(segmenter, NAMES, 64))
    with pytest.raises(ModelError, match="answers as the original"):
        export_onnx(tmp_path / "model", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_what_cannot_be_exported_is_said_at_once(tmp_path, exported):
    with pytest.raises(ConfigError, match="fit its window"):
        export_onnx(make_model(tmp_path / "model", 64, 128), tmp_path / "out")
    with pytest.raises(StorageError):
        export_onnx(exported / "model", exported / "onnx")
