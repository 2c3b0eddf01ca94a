"""A training from shards is the training from the folder, to the last bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scribbleseg.data.shards.pack import shard_dataset
from scribbleseg.training.module import SegmentationModule
from scribbleseg.training.run import train
from tests.fake.datasets import make_dataset
from tests.training.test_run import small, weights


@pytest.fixture
def roots(tmp_path: Path) -> tuple[Path, Path]:
    plain = make_dataset(tmp_path / "plain", num_images=8, suffix=".jpg")
    shard_dataset(plain, tmp_path / "sharded")
    return plain, tmp_path / "sharded"


@pytest.mark.parametrize("workers", [0, 2])
def test_the_weights_are_the_folders(roots: tuple[Path, Path], tmp_path: Path, workers: int) -> None:
    for name, root in zip(("plain", "sharded"), roots, strict=True):
        train(small(root, data={"num_workers": workers}), tmp_path / f"run_{name}")
    assert weights(tmp_path / "run_sharded") == weights(tmp_path / "run_plain")
    one, other = (tmp_path / f"run_{name}" / "metrics.csv" for name in ("sharded", "plain"))
    assert one.read_text() == other.read_text()


def test_an_interrupted_run_on_shards_ends_as_a_whole_one_on_the_folder(
    roots: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, sharded = roots
    train(small(plain), tmp_path / "whole")
    step = SegmentationModule.training_step

    def die_at_five(self: SegmentationModule, batch: Any, batch_idx: int) -> Any:
        if self.global_step == 5:
            raise RuntimeError("the lights went out")
        return step(self, batch, batch_idx)

    monkeypatch.setattr(SegmentationModule, "training_step", die_at_five)
    config = small(sharded, data={"num_workers": 2})
    with pytest.raises(RuntimeError, match="lights"):
        train(config, tmp_path / "cut")
    monkeypatch.undo()
    train(config, tmp_path / "cut", resume=True)
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")
