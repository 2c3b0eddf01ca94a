"""A model folder and its export answer alike, each through its own library."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from scribbleseg.errors import ConfigError, ModelError
from scribbleseg.models.folder import load_model
from scribbleseg.predict import probabilities
from scribbleseg.serve.batching import Batcher, Job
from scribbleseg.serve.opening import open_engine
from tests.serve.serving import NAMES, colours, make_model

SIZES = [(64, 64), (40, 57), (33, 200), (150, 130), (1, 1)]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    from scribbleseg.export.onnx import export_onnx

    root = tmp_path_factory.mktemp("engines")
    make_model(root / "model")
    export_onnx(root / "model", root / "exported")
    return root


def answers(engine, rgbs):
    batcher = Batcher(engine, max_batch=3)
    jobs = [Job(rgb, float("inf")) for rgb in rgbs]
    for job in jobs:
        batcher.submit(job)
    found = [job.future.result(60) for job in jobs]
    batcher.close()
    return found


def test_both_kinds_answer_as_prediction_does(models):
    rgbs = [colours(*size, seed) / np.float32(255) for seed, size in enumerate(SIZES)]
    expected = [probabilities(load_model(models / "model"), rgb).numpy() for rgb in rgbs]
    for folder in ("model", "exported", "exported/model.onnx"):
        engine = open_engine(models / folder, "cpu", 1)
        assert engine.names == NAMES
        assert len(engine.origin["sha256"]) == 64
        for found, truth in zip(answers(engine, rgbs), expected, strict=True):
            np.testing.assert_allclose(found, truth, atol=2e-5)


def test_a_model_that_resizes_does_so_here_too(tmp_path):
    folder = make_model(tmp_path / "model", 64, 48)
    rgbs = [colours(*size, seed) / np.float32(255) for seed, size in enumerate([(40, 57), (96, 33), (20, 20), (48, 10)])]
    model = load_model(folder)
    for found, rgb in zip(answers(open_engine(folder, "cpu"), rgbs), rgbs, strict=True):
        np.testing.assert_allclose(found, probabilities(model, rgb).numpy(), atol=1e-5)


def test_an_exported_model_is_served_without_torch(models):
    code = f"""
import sys
sys.modules.update(torch=None, transformers=None, lightning=None)
from pathlib import Path
from starlette.testclient import TestClient
from scribbleseg.serve.admission import Limits
from scribbleseg.serve.app import create_app
from scribbleseg.serve.fetching import Fetcher
from scribbleseg.serve.opening import open_engine
from scribbleseg.serve.predicting import Predictor
from PIL import Image
import io
import scribbleseg.cli, scribbleseg.serve.server, scribbleseg.serve.client
app = create_app(Predictor(open_engine(Path({str(models / "exported")!r}), threads=1), Limits()), fetcher=Fetcher("http://h"))
file = io.BytesIO()
Image.new("RGB", (70, 50), (9, 200, 30)).save(file, format="PNG")
with TestClient(app, base_url="http://127.0.0.1") as client:
    for output in client.get("/v1/model").json()["outputs"]:
        assert client.post(f"/v1/predict?output={{output}}", content=file.getvalue()).status_code == 200, output
print("served")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout == "served\n", done.stderr


def test_what_is_no_model(tmp_path):
    with pytest.raises(ModelError, match="nothing"):
        open_engine(tmp_path / "none")
    with pytest.raises(ModelError):
        open_engine(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(ModelError, match="export"):
        open_engine(tmp_path)


def test_a_device_that_there_is_not(models):
    with pytest.raises(ConfigError, match="device"):
        open_engine(models / "exported", "mps")
