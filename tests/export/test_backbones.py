"""Which backbones can be exported with open sizes, and what is said of the others. The page docs/how-to/export.md tells of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from scribbleseg.errors import ModelError
from scribbleseg.export.onnx import export_onnx
from scribbleseg.export.program import export_program
from tests.fake.backbones import BACKBONES
from tests.fake.exported import make_model

EXPORTS = {"onnx": export_onnx, "torch": export_program}

#: What cannot be exported, and a word of the message.
REFUSED = {("swin", "torch"): "export it as ONNX"}

#: Swin that resizes inside is left out of ONNX: expressions of sizes in its windows keep the exporter busy for many minutes.
CASES = [
    (name, format, longest_px)
    for name in BACKBONES
    for format in EXPORTS
    for longest_px in (0, 48)
    if (name, format, longest_px) != ("swin", "onnx", 48)
]

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("name", "format", "longest_px"), CASES)
def test_with_open_sizes(tmp_path: Path, name: str, format: str, longest_px: int):
    settings = {"backbone": BACKBONES[name][0], "channels": 8, "feature_dim": 4, "detail_channels": 4}
    make_model(tmp_path / "model", 64, longest_px, settings=settings)
    if (name, format) in REFUSED:
        with pytest.raises(ModelError, match=REFUSED[name, format]):
            EXPORTS[format](tmp_path / "model", tmp_path / "out")
        assert [p.name for p in tmp_path.iterdir()] == ["model"]
    else:
        found = EXPORTS[format](tmp_path / "model", tmp_path / "out")
        assert found.kept
        assert found.difference < 1e-4


def test_every_refusal_is_of_a_backbone_that_there_is():
    assert {name for name, _ in REFUSED} <= set(BACKBONES)
