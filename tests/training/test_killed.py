"""Trainings in processes of their own that are killed or told to stop, and end as one that nobody disturbed."""

from __future__ import annotations

import csv
import multiprocessing
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from scribbleseg import cli
from scribbleseg.config import RunConfig, dump_config
from scribbleseg.training.checkpoint_file import has_checkpoint
from scribbleseg.training.run import train
from tests.fake.datasets import make_dataset
from tests.training.test_run import small, weights

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no signals")

START = multiprocessing.get_context("forkserver")  # imports once


def child(config: Path, out: Path) -> None:
    """Do what the command line does: begin, or go on where there is something to go on from."""
    torch.set_num_threads(1)
    said = (out.parent / "said.txt").open("a")  # the server that forks this process has the descriptors of an earlier test
    os.dup2(said.fileno(), 2)
    resume = ["--resume"] if has_checkpoint(out) else []  # there may be a best one and no last one yet
    sys.argv = ["scribbleseg", "train", "--config", str(config), "--out", str(out), *resume]
    cli.main()


def start(config: Path, out: Path) -> Any:
    START.set_forkserver_preload([__name__])
    process = START.Process(target=child, args=(config, out))
    process.start()
    return process


def steps_of(out: Path) -> int:
    """How far a run is: rows of its history, which are flushed one by one."""
    path = out / "metrics.csv"
    return len(path.read_bytes().splitlines()) if path.is_file() else 0


def wait_for(process: Any, ready: Any) -> None:
    while process.is_alive() and not ready():
        time.sleep(0.002)


def prepared(root: Path, **changes: Any) -> tuple[RunConfig, Path]:
    """A configuration, and its file."""
    config = small(make_dataset(root / "data"), **changes)
    (root / "run.yaml").write_text(dump_config(config), encoding="utf-8")
    return config, root / "run.yaml"


def assert_same(one: Path, other: Path) -> None:
    assert weights(one) == weights(other)
    for name in ("best/model.safetensors", "metrics.csv"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    assert not list(other.rglob("*.part")), "nothing half written is left"


@pytest.mark.parametrize("kills", [5, pytest.param(100, marks=pytest.mark.slow)])
def test_a_run_killed_at_random_moments_ends_in_the_same_weights(tmp_path: Path, kills: int) -> None:
    steps = {"max_steps": 8 * kills, "val_every": 2, "val_images": 1}
    config, file = prepared(tmp_path, training=steps, model={"dropout": 0.2})
    whole, out = tmp_path / "whole", tmp_path / "out"
    train(config, whole)
    rng, killed = random.Random(kills), 0
    for turn in range(4 * kills):
        process, seen = start(file, out), steps_of(out)
        if killed < kills:  # now and then before anything is done, else soon after a line that is new
            patience = time.monotonic() + 60
            if turn % 4:
                wait_for(process, lambda seen=seen, until=patience: steps_of(out) > seen or time.monotonic() > until)
            time.sleep(rng.random() * (0.3 if turn % 4 else 1.0))
            process.kill()
        process.join(120)
        killed += process.exitcode == -signal.SIGKILL
        assert process.exitcode in (0, -signal.SIGKILL)
        if process.exitcode == 0:
            break
    assert process.exitcode == 0
    assert killed >= 0.8 * kills
    assert_same(whole, out)


@pytest.mark.parametrize(("workers", "number"), [(0, signal.SIGTERM), (1, signal.SIGTERM), (1, signal.SIGINT)])
def test_a_signal_ends_a_run_after_its_step_with_a_checkpoint_of_it(tmp_path: Path, workers: int, number: int) -> None:
    config, file = prepared(
        tmp_path, training={"max_steps": 30, "val_every": 24}, model={"dropout": 0.2}, data={"num_workers": workers}
    )
    whole, out = tmp_path / "whole", tmp_path / "out"
    train(config, whole)
    process = start(file, out)
    wait_for(process, lambda: steps_of(out) > 1)  # long before the first checkpoint of its own
    for each in [*psutil.Process(process.pid).children(), psutil.Process(process.pid)]:  # some schedulers tell all processes,
        each.send_signal(number)  # and a terminal's Ctrl-C reaches all of them
    process.join(120)
    told = (tmp_path / "said.txt").read_text()
    name, code = ("SIGTERM", 143) if number == signal.SIGTERM else ("Ctrl-C", 130)
    assert process.exitcode == code, told
    step = torch.load(out / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert f"{name} after step {step}, which is kept" in told
    assert f"scribbleseg train --out {out} --resume" in told
    assert not (out / "model").exists()
    again = start(file, out)
    again.join(120)
    assert again.exitcode == 0
    assert_same(whole, out)


def test_sigterm_in_a_validation_waits_for_it_or_gives_it_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scribbleseg.errors import StoppedError
    from scribbleseg.training import stopping
    from scribbleseg.training.module import SegmentationModule

    config, _ = prepared(tmp_path, training={"max_steps": 8, "val_every": 2})
    train(config, tmp_path / "whole")
    check = SegmentationModule.validation_step

    def told(self: SegmentationModule, *words: Any) -> None:
        if self.global_step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        check(self, *words)

    for grace, step in ((1e9, 4), (-1.0, 2)):
        out = tmp_path / f"grace{step}"
        with monkeypatch.context() as patched:
            patched.setattr(stopping, "GRACE_S", grace)
            patched.setattr(SegmentationModule, "validation_step", told)
            with pytest.raises(StoppedError, match=f"step {step}" if step == 4 else "in a validation"):
                train(config, out)
        assert torch.load(out / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == step
        train(config, out, resume=True)
        assert_same(tmp_path / "whole", out)


def test_sigterm_in_the_last_step_lets_the_run_finish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scribbleseg.training.module import SegmentationModule

    config, _ = prepared(tmp_path)
    step = SegmentationModule.training_step

    def told(self: SegmentationModule, *words: Any) -> Any:
        if self.global_step == config.training.max_steps - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *words)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(SegmentationModule, "training_step", told)
    assert (train(config, tmp_path / "run") / "model.safetensors").is_file()
    assert signal.getsignal(signal.SIGTERM) is before
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").read_text().splitlines()))
    assert int(rows[-1]["step"]) == config.training.max_steps - 1
