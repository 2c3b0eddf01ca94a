"""Each exported file in an environment of its own that has never heard of PyTorch. Needs a package index."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from scribbleseg.export.onnx import export_onnx
from scribbleseg.predict import predict_folder
from tests.export.test_runner import write
from tests.fake.exported import make_model, picture

#: Share of pixels that may get another class than from `scribbleseg predict`: where two are as probable to the last digits.
#: Of a 16-bit picture a model of 8-bit pictures sees 8 bits; of a model of eight bits the limits of the export hold.
TOLERATED = {"float32": 1e-3, "float16": 5e-3, "int8": 3e-2}

KINDS = ["RGB", "L", "P", "RGBA", "16 bit", "16 bit tiff", "turned"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment with what the runner says that it needs."""
    root = tmp_path_factory.mktemp("bare") / "env"
    venv.create(root, with_pip=True)
    python = root / "bin" / "python"
    words = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "numpy", "onnxruntime", "pillow"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no package index: {done.stderr.strip()[-200:]}")
    told = subprocess.run([python, "-c", "import torch"], capture_output=True, text=True, check=False)
    assert "No module named 'torch'" in told.stderr
    return python


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for kind in KINDS:
        write(folder / f"{kind.replace(' ', '_')}.png", kind)
    Image.fromarray(picture(9, (300, 210))).save(folder / "several_windows.png")
    tifffile.imwrite(folder / "rgb16.tif", picture(4, (50, 60)).astype(np.uint16) * 257, photometric="rgb")
    return folder


@pytest.mark.parametrize(
    ("precision", "input", "longest_px"),
    [
        ("float32", "uint8", 0),
        ("float32", "uint8", 48),
        ("float32", "float32", 0),
        ("float32", "float32", 48),
        ("float16", "uint8", 0),
        ("int8", "uint8", 0),
    ],
)
def test_masks_of_predict(bare, pictures, tmp_path, precision, input, longest_px):
    make_model(tmp_path / "model", 64, longest_px)
    export_onnx(tmp_path / "model", tmp_path / "onnx", images=pictures, precision=precision, input=input)
    expected = {
        path.stem: np.asarray(Image.open(path)) for path in predict_folder(tmp_path / "model", pictures, tmp_path / "ours")
    }
    onnx = tmp_path / "onnx"
    words = [bare, "-I", onnx / "runner.py", onnx / "model.onnx", pictures, tmp_path / "theirs"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = {path.stem: np.asarray(Image.open(path)) for path in (tmp_path / "theirs").iterdir()}
    assert found.keys() == expected.keys()
    shares = {stem: float((mask != expected[stem]).mean()) for stem, mask in found.items()}
    sys.stderr.write(f"{precision}, {input}, {longest_px}: {json.dumps(shares)}\n")
    allowed = {stem: TOLERATED[precision] + (5e-3 if "16" in stem and input == "uint8" else 0) for stem in shares}
    assert all(shares[stem] <= allowed[stem] for stem in shares), shares
    assert all(len(np.unique(mask)) > 1 for mask in expected.values())
