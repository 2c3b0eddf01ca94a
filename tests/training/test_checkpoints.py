"""Checkpoints that a disk has damaged: found, named, and made good by the one before."""

from __future__ import annotations

import os
import random
import shutil
import zipfile
from pathlib import Path

import pytest
import torch

from scribbleseg.errors import TrainingError
from scribbleseg.training import checkpoints
from scribbleseg.training.checkpoint_file import read_checkpoint
from scribbleseg.training.run import train
from tests.fake.datasets import make_dataset
from tests.training.test_run import small, weights


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A data set, and a run of six steps with a checkpoint every other."""
    root = tmp_path_factory.mktemp("checkpoints")
    train(small(make_dataset(root / "data")), root / "run")
    shutil.copytree(root / "run", root / "undisturbed")
    return root / "data", root / "undisturbed"


@pytest.fixture
def run(whole: tuple[Path, Path]) -> Path:
    """That run in the place where it was made, which its checkpoints know."""
    place = whole[0].parent / "run"
    shutil.rmtree(place)
    return Path(shutil.copytree(whole[1], place))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def flip(path: Path) -> None:
    with zipfile.ZipFile(path) as file:
        largest = max(file.infolist(), key=lambda part: part.file_size)
    held = bytearray(path.read_bytes())
    held[largest.header_offset + largest.file_size // 2] ^= 4
    path.write_bytes(bytes(held))


DAMAGES = {
    "cut": cut,
    "one bit": flip,
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_last_checkpoint_falls_back_to_the_one_before_and_says_so(whole, run, tmp_path, capsys, damage):
    (data, undisturbed), out = whole, run
    for name in ("model", "best"):
        (out / name).rename(tmp_path / name)
    DAMAGES[damage](out / "checkpoints" / "last.ckpt")
    train(small(data), out, resume=True)
    said = [line for line in capsys.readouterr().err.splitlines() if "last.ckpt" in line]
    assert len(said) == 1
    assert "going on from the one before, of step 4" in said[0]
    assert weights(out) == weights(undisturbed)
    assert (out / "metrics.csv").read_text() == (undisturbed / "metrics.csv").read_text()
    steps = [read_checkpoint(out / "checkpoints" / name)["global_step"] for name in ("last.ckpt", "previous.ckpt")]
    assert steps == [6, 4], "the damaged one is not kept as the previous one"


def test_two_damaged_checkpoints_are_one_clear_error(whole, run):
    for name in ("last.ckpt", "previous.ckpt"):
        cut(run / "checkpoints" / name)
    with pytest.raises(TrainingError, match="a whole checkpoint"):
        train(small(whole[0]), run, resume=True)


def test_any_flipped_bit_is_found_or_changes_nothing(whole, tmp_path):
    run = whole[1]
    held = (run / "checkpoints" / "last.ckpt").read_bytes()
    state, rng, found = read_checkpoint(run / "checkpoints" / "last.ckpt"), random.Random(0), 0
    for _ in range(60):
        damaged = bytearray(held)
        damaged[rng.randrange(len(held))] ^= 1 << rng.randrange(8)
        (tmp_path / "x.ckpt").write_bytes(bytes(damaged))
        try:
            again = read_checkpoint(tmp_path / "x.ckpt")["state_dict"]
        except TrainingError:
            found += 1
        else:
            assert all(torch.equal(again[key], value) for key, value in state["state_dict"].items())
    assert found > 10


def test_what_is_no_checkpoint_is_named(tmp_path):
    torch.save({"x": 1}, tmp_path / "x.ckpt")
    with pytest.raises(TrainingError, match="not a checkpoint of a run"):
        read_checkpoint(tmp_path / "x.ckpt")


def test_a_file_system_without_links_keeps_two_as_well(tmp_path, monkeypatch):
    def none(*words):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", none)
    plugin = checkpoints.AtomicCheckpointIO()
    for step in (1, 2, 3):
        plugin.save_checkpoint({"state_dict": {}, "global_step": step}, tmp_path / "last.ckpt")
    kept = {path.name: read_checkpoint(path)["global_step"] for path in tmp_path.iterdir()}
    assert kept == {"last.ckpt": 3, "previous.ckpt": 2}
