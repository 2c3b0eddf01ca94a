"""`scribbleseg export` and `push` as they are typed."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from scribbleseg.cli import app
from scribbleseg.errors import ConfigError
from tests.fake.exported import make_model


def call(*words: object) -> str:
    """Return what the program prints; its own errors are raised."""
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return done.output


def test_help_says_what_each_format_is():
    text = call("export", "--help")
    for word in (
        "onnx:",
        "torch:",
        "hub:",
        "--precision",
        "--calibration",
        "--scores",
        "--license",
        "--images",
        "scribbleseg push",
    ):
        assert word in text
    assert "--private" in call("push", "--help")


def test_a_folder_for_the_hub(tmp_path: Path):
    make_model(tmp_path / "model")
    told = call("export", "--model", tmp_path / "model", "--out", tmp_path / "leaves", "--format", "hub", "--license", "mit")
    assert "0.000% of the pixels differ" in told
    assert f"scribbleseg push {tmp_path / 'leaves'} USER/NAME" in told
    assert "license: mit" in (tmp_path / "leaves" / "README.md").read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--format", "onx"], "did you mean 'onnx'"),
        (["--format", "hub", "--precision", "int8"], "--format onnx"),
        (["--license", "mit"], "--format hub"),
        (["--format", "torch", "--scores", "s.json"], "--format hub"),
        (["--format", "torch", "--calibration", "pictures"], "--format onnx"),
        (["--input", "int16"], "uint8 or float32"),
        (["--precision", "float8", "--images", "."], "use one of|did you mean"),
    ],
)
def test_what_does_not_go_together_is_said_before_anything_is_done(tmp_path: Path, words: list[str], told: str):
    with pytest.raises(ConfigError, match=told):
        call("export", "--model", tmp_path / "none", "--out", tmp_path / "out", *words)
    assert not (tmp_path / "out").exists()
