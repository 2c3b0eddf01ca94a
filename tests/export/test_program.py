"""``torch.export``: a program that PyTorch loads without scribbleseg."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from scribbleseg.errors import ConfigError, ModelError
from scribbleseg.export import program as module
from scribbleseg.export.program import export_program, load_program
from scribbleseg.export.whole import Whole
from scribbleseg.models.folder import load_model
from scribbleseg.predict import probabilities
from tests.fake.exported import NAMES, make_model, picture


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("programs")
    make_model(root / "model")
    export_program(root / "model", root / "torch")
    return root


@pytest.mark.parametrize("size", [(64, 64), (33, 57), (16, 64), (1, 1), (64, 32)])
def test_it_answers_as_the_original_at_any_size(programs, size):
    run, _ = load_program(programs / "torch" / "model.pt2")
    rgb = picture(1, size)
    with torch.inference_mode():
        got = run(torch.from_numpy(rgb)[None])[0]
        two = run(torch.from_numpy(np.stack([rgb, rgb])))
    torch.testing.assert_close(got, probabilities(load_model(programs / "model"), rgb), atol=1e-5, rtol=0)
    torch.testing.assert_close(two[1], got, atol=1e-5, rtol=0)


def test_what_it_says_of_itself(programs):
    _, said = load_program(programs / "torch" / "model.pt2")
    assert json.loads(said["names"]) == list(NAMES)
    assert said["window_px"] == "64"
    found = json.loads((programs / "torch" / "parity.json").read_text())
    assert found["pictures"] == 5
    assert found["difference"] < 1e-4


def test_its_weights_are_no_pickle(programs):
    with zipfile.ZipFile(programs / "torch" / "model.pt2") as archive:
        tables = [json.loads(archive.read(n)) for n in archive.namelist() if n.endswith("_config.json")]
    entries = [entry for table in tables for entry in table["config"].values()]
    assert len(entries) > 10
    assert not any(entry["use_pickle"] for entry in entries)


def test_a_program_that_answers_otherwise_is_not_handed_on(programs, tmp_path, monkeypatch):
    class Wrong(Whole):
        def forward(self, image):
            return super().forward(image).flip(1)

    monkeypatch.setattr(module, "Whole", Wrong)
    make_model(tmp_path / "model")
    with pytest.raises(ModelError, match="torch.export that answers as the original"):
        export_program(tmp_path / "model", tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_errors(programs, tmp_path):
    with pytest.raises(ConfigError, match="fit its window"):
        export_program(make_model(tmp_path / "model", 64, 128), tmp_path / "out")
    (tmp_path / "model.pt2").write_bytes(b"no zip")
    for path in (tmp_path / "model.pt2", tmp_path / "nothing.pt2"):
        with pytest.raises(ModelError, match="a program of"):
            load_program(path)
