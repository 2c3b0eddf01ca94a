"""A run that is killed and started again ends as one that was not; nothing is done twice, nothing is half there."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st
from PIL import Image

from scribbleseg.errors import ConfigError, DataError
from scribbleseg.predict import Views, predict_folder, predict_inputs
from scribbleseg.predict.manifest import NAME, Manifest, state_of
from tests.fake.models import make_model, make_pictures, picture

OUTPUTS = ("mask", "overlay", "probabilities", "zarr", "polygons", "coco")


def child(model: Path, images: Path, out: Path) -> None:
    """Predict in a process of its own, with as many threads as the tests: another number rounds otherwise."""
    torch.set_num_threads(1)
    assert all(outcome.error is None for outcome in predict_inputs(model, images, out, outputs=OUTPUTS, device="cpu"))


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("resume")
    make_model(root / "model", window_px=48)
    make_pictures(root / "images", 14)
    Image.fromarray(picture(3, (150, 140))).save(root / "images" / "picture_05x.png")
    return root


def run(root: Path, out: Path, outputs=OUTPUTS, **how) -> list:
    return list(predict_inputs(root / "model", root / "images", out, outputs=outputs, device="cpu", **how))


def contents(out: Path) -> dict[str, bytes]:
    """What every file holds; lock and list, whose lines come in any order, aside."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and NAME not in path.name
    }


def times(out: Path) -> dict[str, int]:
    return {path.relative_to(out).as_posix(): path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}


def listed(out: Path) -> list[str]:
    whole = (out / NAME).read_bytes()
    return [json.loads(line)["input"] for line in whole[: whole.rfind(b"\n") + 1].splitlines()[1:]]


def test_killed_at_random_until_done(places, tmp_path):
    undisturbed = tmp_path / "undisturbed"
    run(places, undisturbed)
    out, rng, kills = tmp_path / "out", random.Random(0), 0
    start = multiprocessing.get_context("forkserver")  # imports once
    start.set_forkserver_preload([__name__])
    for turn in range(40):
        before = {name: times(out)[name] for name in _done(out)}
        done = len(listed(out)) if before else 0
        process = start.Process(target=child, args=(places / "model", places / "images", out))
        process.start()
        if turn < 8:
            while process.is_alive() and (len(listed(out)) if (out / NAME).is_file() else 0) < done + turn % 3:
                time.sleep(0.001)
            time.sleep(rng.random() * 0.2)
            process.kill()
            kills += 1
        process.join(120)
        assert process.exitcode in (0, -signal.SIGKILL)
        after = times(out)
        assert {name: after[name] for name in before} == before, "what is done is not written again"
        assert not [name for name in _done(out) if not (out / name).exists()], "listed means there"
        if process.exitcode == 0:
            break
    assert kills >= 3
    assert process.exitcode == 0
    assert contents(out) == contents(undisturbed)
    assert sorted(listed(out)) == sorted(p.name for p in (places / "images").iterdir()), "each input once"


def _done(out: Path) -> list[str]:
    """The files of all inputs that the list has as done."""
    if not (out / NAME).is_file():
        return []
    whole = (out / NAME).read_bytes()
    lines = whole[: whole.rfind(b"\n") + 1].decode().splitlines()[1:]
    return [f for line in lines for files in json.loads(line)["outputs"].values() for f in files if (out / f).is_file()]


def test_what_is_done_is_kept(places, tmp_path):
    assert not any(outcome.kept for outcome in run(places, tmp_path))
    before = times(tmp_path)
    again = run(places, tmp_path)
    assert all(outcome.kept for outcome in again)
    assert times(tmp_path) == before
    assert [outcome.path.name for outcome in again] == sorted(p.name for p in (places / "images").iterdir())
    assert all(file.exists() for outcome in again for file in outcome.files)


def test_one_missing_file_is_one_input_to_do(places, tmp_path):
    run(places, tmp_path)
    before, held = times(tmp_path), contents(tmp_path)
    (tmp_path / "picture_04.png").unlink()
    shutil.rmtree(tmp_path / "zarr" / "picture_09.zarr")
    again = run(places, tmp_path)
    assert [outcome.path.stem for outcome in again if not outcome.kept] == ["picture_04", "picture_09"]
    assert contents(tmp_path) == held
    changed = {name for name, then in times(tmp_path).items() if before[name] != then}
    assert {name.split("/")[-1] for name in changed if "zarr" not in name} == {"picture_04.png", NAME}, "and nothing else of it"


def test_further_outputs_are_added_to_those_that_are_there(places, tmp_path):
    run(places, tmp_path, ["mask"])
    before = times(tmp_path)
    added = run(places, tmp_path, ["mask", "uncertainty"])
    assert not any(outcome.kept for outcome in added)
    after = times(tmp_path)
    assert all(after[name] == then for name, then in before.items() if name.endswith(".png"))
    assert len(list((tmp_path / "uncertainty").iterdir())) == len(added)
    assert [len(outcome.files) for outcome in added] == [2] * len(added)


def test_a_changed_picture_is_done_again(places, tmp_path):
    images = Path(shutil.copytree(places / "images", tmp_path / "images"))
    list(predict_folder(places / "model", images, tmp_path / "out"))
    Image.fromarray(picture(77, (30, 30))).save(images / "picture_03.png")
    again = list(predict_inputs(places / "model", images, tmp_path / "out"))
    assert [outcome.path.stem for outcome in again if not outcome.kept] == ["picture_03"]
    with Image.open(tmp_path / "out" / "picture_03.png") as mask:
        assert mask.size == (30, 30)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"views": Views("horizontal")}, "flips: none there, horizontal now"),
        ({"refine": "tree"}, "refine: null there, tree now"),
    ],
)
def test_other_options_in_the_same_folder_are_refused(places, tmp_path, how, told):
    run(places, tmp_path, ["mask"])
    held = contents(tmp_path)
    with pytest.raises(ConfigError, match=told) as error:
        run(places, tmp_path, ["mask"], **how)
    assert "--overwrite" in error.value.do
    assert contents(tmp_path) == held


def test_another_model_is_refused_and_overwrite_leaves_nothing_of_the_first(places, tmp_path):
    other = make_model(tmp_path / "other", window_px=48, seed=1)
    out = tmp_path / "out"
    run(places, out, ["mask", "uncertainty", "zarr"])
    (out / "mine.png").write_bytes(b"not of the run")
    with pytest.raises(ConfigError, match="predictions of this model"):
        list(predict_inputs(other, places / "images", out))
    list(predict_inputs(other, places / "images", out, outputs=["mask"], overwrite=True))
    list(predict_inputs(other, places / "images", tmp_path / "fresh", outputs=["mask"]))
    assert contents(out) == contents(tmp_path / "fresh") | {"mine.png": b"not of the run"}


def test_two_runs_do_not_share_a_folder(places, tmp_path):
    first = predict_inputs(places / "model", places / "images", tmp_path)
    next(first)
    with pytest.raises(ConfigError, match="no other run writes to"):
        next(predict_inputs(places / "model", places / "images", tmp_path))
    first.close()
    assert len(run(places, tmp_path)) == 15, "and the lock is let go"


def test_what_a_killed_run_had_begun_is_cleared_away(places, tmp_path):
    (tmp_path / "overlays").mkdir()
    (tmp_path / "overlays" / "writing-abc.part").write_bytes(b"half")
    (tmp_path / "zarr" / "writing-def.part").mkdir(parents=True)
    run(places, tmp_path, ["mask"])
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("text", ["", "[{}]", "3", '[{"file_name": 1'])
def test_a_damaged_part_of_coco_is_one_clear_error(places, tmp_path, text):
    run(places, tmp_path, ["coco"])
    held = (tmp_path / "coco.json").read_bytes()
    (tmp_path / "coco" / "picture_03.json").write_text(text)
    with pytest.raises(DataError, match="picture_03.json"):
        run(places, tmp_path, ["coco"])
    assert (tmp_path / "coco.json").read_bytes() == held
    assert not list(tmp_path.rglob("*.part"))


class TestManifest:
    def test_a_line_cut_short_counts_as_not_written(self, places, tmp_path):
        run(places, tmp_path, ["mask"])
        text = (tmp_path / NAME).read_bytes()
        (tmp_path / NAME).write_bytes(text[:-20])
        again = run(places, tmp_path, ["mask"])
        assert len([outcome for outcome in again if not outcome.kept]) == 1
        assert all(json.loads(line) for line in (tmp_path / NAME).read_text().splitlines())
        assert sorted(listed(tmp_path)) == sorted(p.name for p in (places / "images").iterdir())

    def test_a_head_cut_short_is_a_new_beginning(self, places, tmp_path):
        (tmp_path / NAME).write_bytes(b'{"version": 1, "mo')
        assert not any(outcome.kept for outcome in run(places, tmp_path, ["mask"]))

    @pytest.mark.parametrize(
        "text", ["no json\n", "[]\n", '{"version": 1}\n{"input": 3}\n', '{"version": 1}\n{"input": "a"}\n', "\xff\n"]
    )
    def test_a_damaged_list_is_one_clear_error(self, places, tmp_path, text):
        (tmp_path / NAME).write_bytes(text.encode("latin-1"))
        with pytest.raises(DataError, match="the list that `scribbleseg predict` keeps"):
            run(places, tmp_path, ["mask"])

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        st.binary(max_size=300)
        | st.lists(
            st.dictionaries(
                st.sampled_from(["version", "input", "state", "outputs"]),
                st.recursive(
                    st.none() | st.integers() | st.text(max_size=5),
                    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=4), x, max_size=3),
                    max_leaves=6,
                ),
            ),
            max_size=4,
        ).map(lambda lines: "".join(json.dumps(line) + "\n" for line in lines).encode())
    )
    def test_whatever_the_list_holds_it_is_read_or_one_clear_error(self, tmp_path, stored):
        (tmp_path / NAME).write_bytes(stored)
        (tmp_path / "a.png").write_bytes(b"x")
        try:
            manifest = Manifest(tmp_path, {})
        except (DataError, ConfigError):
            assert (tmp_path / NAME).read_bytes().startswith(stored[: stored.rfind(b"\n") + 1])
            return
        assert manifest.missing(tmp_path / "a.png", {"mask": None}) in ([], ["mask"])
        manifest.all_files("mask")

    def test_overwrite_deletes_nothing_outside(self, tmp_path):
        (tmp_path / "precious.txt").write_text("x")
        out = tmp_path / "out"
        out.mkdir()
        entry = {
            "input": "a.png",
            "state": [1, 1],
            "outputs": {"mask": ["../precious.txt", ".", str(tmp_path / "precious.txt")]},
        }
        (out / NAME).write_text('{"version": 1}\n' + json.dumps(entry) + "\n")
        Manifest(out, {}, overwrite=True)
        assert (tmp_path / "precious.txt").is_file()
        assert out.is_dir()

    def test_the_state_of_a_folder_is_that_of_its_files(self, tmp_path):
        (tmp_path / "a").write_bytes(b"123")
        os.utime(tmp_path / "a", ns=(5, 5))
        (tmp_path / "b").write_bytes(b"4")
        os.utime(tmp_path / "b", ns=(9, 9))
        assert state_of(tmp_path) == [4, 9]


class TestBadFiles:
    @pytest.fixture
    def images(self, places, tmp_path) -> Path:
        images = Path(shutil.copytree(places / "images", tmp_path / "images"))
        whole = (images / "picture_02.png").read_bytes()
        (images / "picture_02.png").write_bytes(whole[: len(whole) // 2])
        (images / "picture_07.png").write_bytes(b"no picture")
        (images / "picture_13.png").write_bytes(b"")
        return images

    def test_they_are_told_and_the_rest_is_done(self, places, images, tmp_path):
        outcomes = list(predict_inputs(places / "model", images, tmp_path / "out", outputs=OUTPUTS))
        bad = {outcome.path.stem: outcome.error for outcome in outcomes if outcome.error is not None}
        assert sorted(bad) == ["picture_02", "picture_07", "picture_13"]
        assert all(isinstance(error, DataError) and stem in str(error) for stem, error in bad.items())
        assert [outcome.path for outcome in outcomes] == sorted(images.iterdir()), "in the order of names"
        assert len(list((tmp_path / "out").glob("*.png"))) == 12
        assert not list((tmp_path / "out").rglob("*.part"))
        assert not set(listed(tmp_path / "out")) & {f"{stem}.png" for stem in bad}
        shutil.copy(places / "images" / "picture_07.png", images / "picture_07.png")
        again = list(predict_inputs(places / "model", images, tmp_path / "out", outputs=OUTPUTS))
        assert [outcome.path.stem for outcome in again if not outcome.kept and outcome.error is None] == ["picture_07"]

    def test_from_python_the_first_one_stops_the_run(self, places, images, tmp_path):
        with pytest.raises(DataError, match="picture_02"):
            list(predict_folder(places / "model", images, tmp_path / "out"))
        assert not list((tmp_path / "out").rglob("*.part"))

    def test_a_picture_that_breaks_off_halfway_leaves_nothing(self, places, tmp_path, monkeypatch):
        import tifffile

        from scribbleseg.predict import reading

        monkeypatch.setattr(reading, "BAND_PIXELS", 1000)
        (tmp_path / "images").mkdir()
        noise = np.random.default_rng(0).integers(0, 256, (300, 200, 3)).astype(np.uint8)
        tifffile.imwrite(tmp_path / "images" / "a.tif", noise, photometric="rgb", rowsperstrip=8, compression="zlib")
        whole = (tmp_path / "images" / "a.tif").read_bytes()
        with tifffile.TiffFile(tmp_path / "images" / "a.tif") as file:
            end = file.pages[0].dataoffsets[-4]
        damaged = bytearray(whole)
        damaged[end : end + 400] = bytes(400)
        (tmp_path / "images" / "a.tif").write_bytes(bytes(damaged))
        (outcome,) = predict_inputs(places / "model", tmp_path / "images", tmp_path / "out", outputs=OUTPUTS)
        assert outcome.error is not None
        assert contents(tmp_path / "out").keys() <= {"coco.json"}
