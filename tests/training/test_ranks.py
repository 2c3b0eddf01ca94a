"""Trainings of several processes: what one process learns, written once, over torchrun, SLURM's variables and faults."""

from __future__ import annotations

import csv
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from scribbleseg.config import dump_config, load_config, parse_config
from scribbleseg.data.loader import EveryNth, rows_of
from scribbleseg.errors import ConfigError
from scribbleseg.training.ranks import places
from scribbleseg.training.run import train
from scribbleseg.trees import merge
from tests.fake.datasets import make_dataset
from tests.test_report import MODEL
from tests.training.test_run import SMALL

#: SGD, for Adam makes much of the last bits of a gradient that is nearly zero. Layer norm, for batch norm counts a rank alone on CPUs.
SETTINGS: dict[str, Any] = {
    "model": {**MODEL, "dropout": 0.0},
    "losses": {**SMALL["losses"], "partial_dice": {"weight": 0.5}},
    "training": {**SMALL["training"], "optimizer": "sgd", "lr": 0.05, "batch_size": 5, "val_every": 3, "ema_decay": 0.5},
}


def write_config(place: Path, data: Path, **training: Any) -> Path:
    tree = merge(SETTINGS, {"data": {**SMALL["data"], "root": str(data)}, "training": training})
    place.write_text(dump_config(parse_config(tree)), encoding="utf-8")
    return place


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""} | more


def torchrun(number: int, *words: str | Path, restarts: int = 0) -> list[str]:
    started = ["--standalone", "--nproc-per-node", str(number), "--max-restarts", str(restarts), "-m", "scribbleseg", "train"]
    return [sys.executable, "-m", "torch.distributed.run", *started, *map(str, words)]


def finished(command: list[str], **more: str) -> str:
    done = subprocess.run(command, env=environment(**more), capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def assert_alike(one: Path, other: Path) -> None:
    ours, theirs = (load_file(run / "model" / "model.safetensors") for run in (one, other))
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        torch.testing.assert_close(theirs[key], value, rtol=1e-4, atol=1e-5, msg=lambda text, key=key: f"{key}: {text}")
    rows = [list(csv.DictReader((run / "metrics.csv").read_text().splitlines())) for run in (one, other)]
    assert [row["step"] for row in rows[0]] == [row["step"] for row in rows[1]]
    for mine, their in zip(*rows, strict=True):
        for key, text in mine.items():
            if text and key != "epoch":
                assert float(their[key]) == pytest.approx(float(text), rel=1e-3, abs=2e-4), key


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A configuration, and its run by one process."""
    root = tmp_path_factory.mktemp("ranks")
    make_dataset(root / "data")
    config = write_config(root / "run.yaml", root / "data")
    train(load_config(config), root / "one")
    return config, root / "one"


@pytest.mark.parametrize("number", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_several_processes_learn_what_one_learns_and_write_it_once(whole, tmp_path, number):
    config, one = whole
    said = finished(torchrun(number, "--config", config, "--out", tmp_path / "run"))
    assert said.count("model: ") == 1
    assert_alike(one, tmp_path / "run")
    assert (tmp_path / "run" / "best" / "model.safetensors").is_file()


@pytest.mark.slow
def test_lightning_starts_the_processes_itself_when_nobody_else_does(whole, tmp_path):
    config, one = whole
    command = [sys.executable, "-m", "scribbleseg", "train", "--config", str(config), "--out", str(tmp_path / "run")]
    said = finished([*command, "--training.devices=2"])
    assert said.count("model: ") == 1
    assert_alike(one, tmp_path / "run")


@pytest.mark.slow
def test_under_slurm(whole, tmp_path):
    config, one = whole
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "scribbleseg", "train", "--config", str(config), "--out", str(tmp_path / "run")]
    job = {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "1", "SLURM_NODEID": "0", "SLURM_JOB_ID": "12345"}
    job |= {"SLURM_JOB_NAME": "train", "SLURM_NODELIST": "127.0.0.1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    places = [environment(**job, SLURM_PROCID=rank, SLURM_LOCALID=rank) for rank in "01"]
    running = [subprocess.Popen(command, env=place, stdout=subprocess.PIPE, text=True) for place in places]
    said = [process.communicate(timeout=600)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert [text.count("model: ") for text in said] == [1, 0]
    assert_alike(one, tmp_path / "run")


@pytest.mark.slow
def test_a_killed_worker_is_started_again_and_the_run_goes_on(dataset_root, tmp_path):
    config = write_config(tmp_path / "run.yaml", dataset_root, max_steps=40, val_every=5)
    finished(torchrun(2, "--config", config, "--out", tmp_path / "whole"))
    out = tmp_path / "cut"
    command = torchrun(2, "--config", config, "--out", out, restarts=2)
    running = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        while not (out / "checkpoints" / "last.ckpt").is_file():
            assert running.poll() is None
            time.sleep(0.05)
        workers = subprocess.run(
            ["pgrep", "-f", f"scribbleseg train --config {config} --out {out}", "-P", str(running.pid)],
            capture_output=True,
            text=True,
            check=True,
        )
        os.kill(int(workers.stdout.split()[-1]), signal.SIGKILL)
        text = running.communicate(timeout=600)[0]
    finally:
        running.kill()
    assert running.returncode == 0, text
    assert_alike(tmp_path / "whole", out)


@pytest.mark.slow
def test_sigterm_stops_all_ranks_after_the_same_step_with_one_checkpoint(dataset_root, tmp_path):
    config = write_config(tmp_path / "run.yaml", dataset_root, max_steps=60, val_every=25)
    finished(torchrun(2, "--config", config, "--out", tmp_path / "whole"))
    out = tmp_path / "cut"
    command = torchrun(2, "--config", config, "--out", out)
    running = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        while not (out / "metrics.csv").is_file():
            assert running.poll() is None
            time.sleep(0.05)
        running.send_signal(signal.SIGTERM)  # torchrun tells its workers, at two moments
        text = running.communicate(timeout=600)[0]
    finally:
        running.kill()
    step = torch.load(out / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert step % 25, "of its own, not that of a validation"
    assert text.count(f"SIGTERM after step {step}, which is kept") >= 1, text
    finished(torchrun(2, "--config", config, "--out", out, "--resume"))
    assert_alike(tmp_path / "whole", out)


def test_what_the_first_rank_refuses_ends_all(whole, tmp_path):
    config, one = whole
    command = torchrun(2, "--config", config, "--out", one)
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode != 0
    assert "a run is in it" in done.stderr


def test_more_processes_than_images_are_refused():
    config = parse_config({"training": {"batch_size": 3, "devices": 2, "num_nodes": 2}}).training
    with pytest.raises(ConfigError, match="3 images for 4 processes"):
        places(config)


@pytest.mark.parametrize(("size", "number"), [(8, 1), (8, 3), (5, 5), (7, 4)])
def test_the_rows_of_all_ranks_are_the_batch(size, number):
    rows = [list(range(*rows_of(size, rank, number))) for rank in range(number)]
    assert [n for mine in rows for n in mine] == list(range(size))
    assert max(map(len, rows)) - min(map(len, rows)) <= 1


@pytest.mark.parametrize(("length", "number"), [(7, 2), (2, 4), (1, 1)])
def test_every_item_is_validated_once_and_no_rank_stands_aside(length, number):
    shares = [list(EveryNth(length, lambda rank=rank: (rank, number))) for rank in range(number)]
    assert all(shares)
    assert sorted(n for share in shares for n in share if n is not None) == list(range(length))
