"""Memory that runs out in a prediction: once, half as much is done at once; twice, it ends with a word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scribbleseg.data.images import read_index
from scribbleseg.errors import OutOfMemoryError
from scribbleseg.models.segmenter import Segmenter
from scribbleseg.predict import predict_inputs
from tests.fake.models import make_model, make_pictures


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("memory")
    make_model(root / "model", window_px=64)
    make_pictures(root / "images", 10, (90, 130))  # several windows each
    make_pictures(root / "small", 8)  # several in a batch
    list(predict_inputs(root / "model", root / "images", root / "images-out", device="cpu"))
    list(predict_inputs(root / "model", root / "small", root / "small-out", device="cpu"))
    return root


def running_out(monkeypatch: pytest.MonkeyPatch, most: int) -> list[int]:
    scores, sizes = Segmenter.scores, []

    def limited(self: Segmenter, image: torch.Tensor) -> Any:
        sizes.append(len(image))
        if len(image) > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return scores(self, image)

    monkeypatch.setattr(Segmenter, "scores", limited)
    return sizes


@pytest.mark.parametrize(("images", "most"), [("images", 2), ("small", 1)])
def test_half_as_many_windows_at_once_from_then_on(places, tmp_path, monkeypatch, capsys, images, most):
    sizes = running_out(monkeypatch, most)
    outcomes = list(predict_inputs(places / "model", places / images, tmp_path, device="cpu"))
    assert all(outcome.error is None for outcome in outcomes)
    assert sizes.count(2 * most) == 1, "tried with a whole batch once"
    assert capsys.readouterr().err.count("memory ran out") == 1
    for path in (places / f"{images}-out").glob("*.png"):
        ours, before = read_index(tmp_path / path.name), read_index(path)
        assert np.mean(ours != before) < 1e-3, "rounding alone"


def test_out_of_memory_again_is_one_clear_error_and_what_is_done_stays(places, tmp_path, monkeypatch):
    outcomes = predict_inputs(places / "model", places / "images", tmp_path, device="cpu")
    done = next(outcomes)
    running_out(monkeypatch, 0)
    with pytest.raises(OutOfMemoryError, match="2 × 64 × 64 px at once"):
        list(outcomes)
    monkeypatch.undo()
    again = list(predict_inputs(places / "model", places / "images", tmp_path, device="cpu"))
    assert again[0].path == done.path
    assert again[0].kept
    assert all(outcome.error is None for outcome in again)
