"""One exported model for all tests that only use it: the exporter takes its time."""

from __future__ import annotations

from pathlib import Path

import pytest

from scribbleseg.export.onnx import export_onnx
from tests.fake.exported import make_model


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``model`` and, exported from it, ``onnx``."""
    root = tmp_path_factory.mktemp("export")
    make_model(root / "model")
    export_onnx(root / "model", root / "onnx")
    return root
