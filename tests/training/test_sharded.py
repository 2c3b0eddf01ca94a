"""Networks in parts, one a process: they learn what one process learns, and their checkpoints fit any number of processes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from scribbleseg.config import load_config
from scribbleseg.errors import TrainingError
from scribbleseg.training.checkpoint_file import LAST, PREVIOUS, read_checkpoint
from scribbleseg.training.parts import ROWS, Parts
from scribbleseg.training.run import train
from tests.fake.datasets import make_dataset
from tests.training.test_ranks import assert_alike, environment, finished, torchrun, write_config


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A configuration; its run by one process; its run by two that have a part each."""
    root = tmp_path_factory.mktemp("sharded")
    make_dataset(root / "data")
    config = write_config(root / "run.yaml", root / "data", max_steps=7)
    train(load_config(config), root / "one")
    finished(torchrun(2, "--config", config, "--out", root / "two", "--training.strategy=fsdp"))
    return config, root / "one", root / "two"


def earlier(run: Path, out: Path) -> Path:
    """Copy a run as it was at the checkpoint before the last one."""
    shutil.copytree(run, out)
    checkpoints = out / "checkpoints"
    for path in (checkpoints / LAST, out / "model", out / "best"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (checkpoints / PREVIOUS).rename(checkpoints / LAST)
    return out


def test_two_processes_with_a_part_each_learn_what_one_learns(runs):
    _, one, two = runs
    assert_alike(one, two)
    assert (two / "best" / "model.safetensors").is_file()
    assert sorted(p.name for p in (two / "checkpoints" / LAST).iterdir()) == ["00000-of-00002.pt", "00001-of-00002.pt"]
    assert not list(two.rglob("*.part"))


def test_each_process_keeps_some_rows_alone(runs):
    *_, two = runs
    parts = [torch.load(p, weights_only=True)["state_dict"] for p in sorted((two / "checkpoints" / LAST).iterdir())]
    whole = read_checkpoint(two / "checkpoints" / LAST)["state_dict"]
    weights = {key for key, value in parts[0].items() if isinstance(value, dict)}
    assert any("class_head" in key for key in weights)
    for key in weights:
        rows = [part[key][ROWS] for part in parts]
        assert len(rows[0]) == -(-len(whole[key]) // 2)
        assert torch.equal(torch.cat(rows), whole[key])


@pytest.mark.parametrize("number", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_another_number_of_processes_goes_on_from_parts(runs, tmp_path, number):
    config, one, two = runs
    out = earlier(two, tmp_path / "run")
    words = ["--config", config, "--out", out, "--resume", "--training.strategy=fsdp"]
    command = torchrun(number, *words) if number > 1 else [sys.executable, "-m", "scribbleseg", "train", *map(str, words)]
    finished(command)
    assert_alike(one, out)


@pytest.mark.slow
def test_processes_with_a_part_each_go_on_from_a_whole_checkpoint(runs, tmp_path):
    config, one, _ = runs
    out = earlier(one, tmp_path / "run")
    finished(torchrun(2, "--config", config, "--out", out, "--resume", "--training.strategy=fsdp"))
    assert_alike(one, out)


@pytest.mark.parametrize("damage", ["missing", "flipped"])
def test_a_damaged_part_gives_way_to_the_checkpoint_before(runs, tmp_path, damage):
    config, one, two = runs
    out = tmp_path / "run"
    shutil.copytree(two, out)
    part = out / "checkpoints" / LAST / "00001-of-00002.pt"
    if damage == "missing":
        part.unlink()
    else:
        data = bytearray(part.read_bytes())
        data[len(data) // 2] ^= 1
        part.write_bytes(data)
    with pytest.raises(TrainingError, match="1 of 2 parts" if damage == "missing" else "checksum"):
        read_checkpoint(out / "checkpoints" / LAST)
    command = [sys.executable, "-m", "scribbleseg", "train", "--config", str(config), "--out", str(out), "--resume"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "going on from the one before, of step 3" in done.stderr
    assert_alike(one, out)


def test_rows_are_those_of_the_whole():
    whole = torch.arange(30.0).reshape(10, 3)
    parts = Parts((whole[:4], whole[4:4], whole[4:8], whole[8:]))
    assert torch.equal(parts.whole(), whole)
    for start, stop in ((0, 10), (3, 5), (4, 8), (9, 10), (10, 10)):
        assert torch.equal(parts.rows(start, stop), whole[start:stop])
