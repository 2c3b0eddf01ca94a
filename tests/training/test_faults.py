"""What goes wrong around a training: workers, memory, numbers, disks and clocks. Each ends with a word, or does not matter."""

from __future__ import annotations

import os
import shutil
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from scribbleseg.data.folder import Dataset
from scribbleseg.errors import DataError, ScribblesegError, StorageError
from scribbleseg.training.module import SegmentationModule
from scribbleseg.training.run import train
from tests.training.test_run import small, weights

STEP = SegmentationModule.training_step


class TestWorkers:
    def test_one_that_hangs_is_told_with_its_file(self, dataset_root: Path, tmp_path: Path, monkeypatch) -> None:
        read = Dataset.rgb

        def slow(self: Dataset, stem: str, *words: Any) -> Any:
            if stem == "image_001":
                time.sleep(10_000)
            return read(self, stem, *words)

        def kill(worker: BaseProcess) -> None:
            """Wait for the death: torch's handler of SIGCHLD, which raises where it still watches, has its say here."""
            killed(worker)
            os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)

        killed = BaseProcess.kill
        monkeypatch.setattr(BaseProcess, "kill", kill)
        monkeypatch.setattr(Dataset, "rgb", slow)
        with pytest.raises(DataError, match=r"image_001\.png") as told:
            train(small(dataset_root, data={"num_workers": 2, "timeout_s": 5}), tmp_path / "run")
        assert "image_000" not in str(told.value)
        assert "hangs" in told.value.got
        assert "data.timeout_s" in told.value.do

    def test_one_that_is_killed_is_told(self, dataset_root: Path, tmp_path: Path, monkeypatch) -> None:
        read = Dataset.rgb

        def killed(self: Dataset, *words: Any) -> Any:
            os.kill(os.getpid(), signal.SIGKILL)
            return read(self, *words)

        monkeypatch.setattr(Dataset, "rgb", killed)
        with pytest.raises(ScribblesegError, match=r"data\.num_workers"):
            train(small(dataset_root, data={"num_workers": 1}), tmp_path / "run")


class TestDisk:
    @pytest.mark.skipif(os.name == "nt", reason="no limits")
    @pytest.mark.parametrize("room", [0.5, 0.999])
    def test_torch_s_own_words_for_a_disk_without_room_are_turned_into_ours(
        self, dataset_root: Path, tmp_path: Path, room: float
    ) -> None:
        """A limit on the size of files: the system refuses a write in the middle, as a full disk does."""
        import resource

        train(small(dataset_root, training={"max_steps": 2}), tmp_path / "whole")
        size = int((tmp_path / "whole" / "checkpoints" / "last.ckpt").stat().st_size * room)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            with pytest.raises(StorageError, match="a disk with room") as told:
                train(small(dataset_root, training={"max_steps": 2}), tmp_path / "run")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert "checkpoints" in told.value.where
        assert "free some space" in told.value.do
        assert not list((tmp_path / "run").rglob("*.part"))
        assert not list((tmp_path / "run").rglob("*.ckpt"))

    @pytest.mark.skipif(os.name == "nt", reason="no limits")
    def test_a_model_that_finds_no_room_is_told_too(self, dataset_root: Path, tmp_path: Path) -> None:
        import resource

        from scribbleseg.models.folder import load_model, save_model

        train(small(dataset_root, training={"max_steps": 2}), tmp_path / "run")
        model, limits = load_model(tmp_path / "run"), resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
        try:
            with pytest.raises(StorageError, match="File too large"):
                save_model(tmp_path / "copy", model)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert not list(tmp_path.rglob("*.part"))

    def test_a_run_folder_that_vanishes_is_named(self, dataset_root: Path, tmp_path: Path, monkeypatch) -> None:
        def vanish(self: SegmentationModule, *words: Any) -> Any:
            if self.global_step == 3:
                shutil.rmtree(tmp_path / "run")
            return STEP(self, *words)

        monkeypatch.setattr(SegmentationModule, "training_step", vanish)
        with pytest.raises(StorageError, match="it is gone"):
            train(small(dataset_root), tmp_path / "run")

    def test_pictures_that_vanish_are_named(self, dataset_root: Path, tmp_path: Path, monkeypatch) -> None:
        def vanish(self: SegmentationModule, *words: Any) -> Any:
            if self.global_step == 3:
                shutil.rmtree(dataset_root / "images")
            return STEP(self, *words)

        monkeypatch.setattr(SegmentationModule, "training_step", vanish)
        with pytest.raises(DataError, match="images"):
            train(small(dataset_root), tmp_path / "run")

    def test_a_folder_that_cannot_be_written_is_refused(self, dataset_root: Path, tmp_path: Path, monkeypatch) -> None:
        import tempfile

        def refused(*args: Any, **kwargs: Any) -> None:
            raise OSError(30, "Read-only file system")

        monkeypatch.setattr(tempfile, "mkstemp", refused)
        with pytest.raises(StorageError, match="Read-only file system"):
            train(small(dataset_root), tmp_path / "run")


def test_a_clock_that_jumps_changes_nothing(dataset_root: Path, tmp_path: Path, monkeypatch) -> None:
    train(small(dataset_root), tmp_path / "whole")
    jumps = iter(range(10_000))

    def jumping() -> float:
        return 1e9 * (-1) ** next(jumps)

    def die(self: SegmentationModule, *words: Any) -> Any:
        if self.global_step == 5:
            raise RuntimeError("the lights went out")
        return STEP(self, *words)

    monkeypatch.setattr(time, "time", jumping)
    with monkeypatch.context() as broken:
        broken.setattr(SegmentationModule, "training_step", die)
        with pytest.raises(RuntimeError, match="lights"):
            train(small(dataset_root), tmp_path / "run")
    for n, path in enumerate(sorted((tmp_path / "run").rglob("*"))):  # as if written in any order, and in the future
        os.utime(path, (4e9 - 1e6 * n, 4e9 - 1e6 * n))
    train(small(dataset_root), tmp_path / "run", resume=True)
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")
    assert (tmp_path / "run" / "metrics.csv").read_text() == (tmp_path / "whole" / "metrics.csv").read_text()
