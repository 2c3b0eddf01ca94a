"""`scribbleseg predict --engine ray` as a user types it; most of it without Ray."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fake.models import make_model, make_pictures
from tests.test_cli import run


@pytest.fixture
def predict(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    make_model(tmp_path / "model")
    make_pictures(tmp_path / "images")
    own = ("predict", "--model", tmp_path / "model", "--input", tmp_path / "images", "--out", tmp_path / "out")
    return lambda *words: run(capsys, monkeypatch, *own, *words)


@pytest.mark.parametrize("missing", ["pyarrow.fs", "ray"])
def test_what_is_not_installed_is_named(predict: Any, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    if missing == "ray":
        pytest.importorskip("pyarrow", reason="needs the extra ray")
    monkeypatch.setitem(sys.modules, missing, None)
    code, _, err = predict("--engine", "ray")
    assert code == 2
    assert 'pip install "scribbleseg[ray]"' in err
    assert f"the library {missing.partition('.')[0]}" in err


def test_an_engine_that_is_not_known(predict: Any) -> None:
    code, _, err = predict("--engine", "rya")
    assert code == 2
    assert "did you mean 'ray'" in err


class TestSaid:
    @pytest.fixture(autouse=True)
    def _without_ray(self, without_ray: None) -> None:
        pytest.importorskip("pyarrow", reason="needs the extra ray")

    def test_how_much_was_done_and_kept(self, predict: Any) -> None:
        assert predict("--engine", "ray", "--block", "2")[:2] == (0, f"5 images: {self.out(predict)}\n")
        code, said, _ = predict("--engine", "ray", "--block", "2")
        assert (code, "5 images (5 were done before)" in said) == (0, True)

    def test_what_was_left_out(self, predict: Any, tmp_path: Path) -> None:
        (tmp_path / "images" / "picture_01.png").write_bytes(b"no picture")
        code, said, err = predict("--engine", "ray")
        assert code == 1
        assert "4 images: " in said
        assert "left out: picture_01.png" in err
        assert "1 of 5 images were left out" in err
        (tmp_path / "images" / "picture_01.png").write_bytes((tmp_path / "images" / "picture_02.png").read_bytes())
        assert predict("--engine", "ray")[0] == 1, "told again, and not tried again"
        assert predict("--engine", "ray", "--retry-failed")[0] == 0

    def test_strict_stops(self, predict: Any, tmp_path: Path) -> None:
        (tmp_path / "images" / "picture_01.png").write_bytes(b"no picture")
        code, _, err = predict("--engine", "ray", "--strict")
        assert code == 2
        assert "picture_01.png" in err

    @staticmethod
    def out(predict: Any) -> str:
        own = next(cell.cell_contents for cell in predict.__closure__ if isinstance(cell.cell_contents, tuple))
        return str(own[-1])
