"""Disks that are full, cannot be written or vanish under a prediction: one message, nothing half there, and it goes on."""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
from pathlib import Path

import pytest
from PIL import Image

from scribbleseg.errors import DataError, StorageError
from scribbleseg.predict import predict_inputs
from scribbleseg.predict.manifest import Manifest
from tests.fake.models import make_model, make_pictures
from tests.predict.test_resume import contents

OUTPUTS = ("mask", "overlay")


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("disk")
    make_model(root / "model", window_px=48)
    make_pictures(root / "images", 12)
    list(run(root, root / "whole"))
    return root


def run(root: Path, out: Path, images: Path | None = None):
    return predict_inputs(root / "model", images or root / "images", out, outputs=OUTPUTS, device="cpu")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_a_disk_that_refuses_a_picture_ends_it_and_the_same_again_does_the_rest(places, tmp_path, monkeypatch, number):
    save, written = Image.Image.save, []

    def refused(self, path, *words, **more):
        written.append(path)
        if len(written) > 5:
            Path(path).write_bytes(b"a stump")
            raise OSError(number, os.strerror(number))
        save(self, path, *words, **more)

    with monkeypatch.context() as broken:
        broken.setattr(Image.Image, "save", refused)
        with pytest.raises(StorageError, match=os.strerror(number)):
            list(run(places, tmp_path / "out"))
    assert not list((tmp_path / "out").rglob("*.part"))
    again = list(run(places, tmp_path / "out"))
    assert any(outcome.kept for outcome in again)
    assert contents(tmp_path / "out") == contents(places / "whole")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk that is always full")
def test_a_full_disk_under_the_list_is_told_and_what_it_lacks_is_done_again(places, tmp_path, monkeypatch):
    add = Manifest.add

    def full(self, path, *words):
        if path.stem == "picture_06":
            self._path = Path("/dev/full")
        return add(self, path, *words)

    with monkeypatch.context() as broken:
        broken.setattr(Manifest, "add", full)
        with pytest.raises(StorageError, match="No space left"):
            list(run(places, tmp_path / "out"))
    again = list(run(places, tmp_path / "out"))
    assert [outcome.kept for outcome in again][6] is False
    assert any(outcome.kept for outcome in again)
    assert contents(tmp_path / "out") == contents(places / "whole")


def test_a_folder_that_vanishes_ends_it_with_a_word(places, tmp_path):
    outcomes = run(places, tmp_path / "out")
    next(outcomes)
    (tmp_path / "out").rename(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match=re.escape(str(tmp_path / "out"))):
        list(outcomes)
    list(run(places, tmp_path / "out"))
    assert contents(tmp_path / "out") == contents(places / "whole")


def test_pictures_that_vanish_are_left_out_and_named(places, tmp_path):
    images = Path(shutil.copytree(places / "images", tmp_path / "images"))
    outcomes = run(places, tmp_path / "out", images)
    first = next(outcomes)
    shutil.rmtree(images)
    rest = list(outcomes)
    assert first.error is None
    assert len(rest) == 11
    assert isinstance(rest[-1].error, DataError)
    assert "picture_11" in str(rest[-1].error)


def test_a_folder_that_cannot_be_made_is_one_message(places, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageError, match="file"):
        list(run(places, tmp_path / "file" / "out"))


def test_a_clock_that_jumps_changes_nothing(places, tmp_path, monkeypatch):
    """Times of files are compared for being the same, never for being later."""
    images = Path(shutil.copytree(places / "images", tmp_path / "images"))
    for n, path in enumerate(sorted(images.iterdir())):
        os.utime(path, (4e9 - 1e7 * n, 4e9 - 1e7 * n))  # in the future, in any order
    jumps = iter(range(100_000))
    monkeypatch.setattr(time, "time", lambda: 1e9 * (-1) ** next(jumps))
    first = run(places, tmp_path / "out", images)
    for _ in range(6):
        next(first)
    first.close()
    again = list(run(places, tmp_path / "out", images))
    assert sum(outcome.kept for outcome in again) >= 6
    assert contents(tmp_path / "out") == contents(places / "whole")
    os.utime(images / "picture_03.png", (1, 1))  # older than what was made of it
    assert [outcome.path.stem for outcome in run(places, tmp_path / "out", images) if not outcome.kept] == ["picture_03"]
