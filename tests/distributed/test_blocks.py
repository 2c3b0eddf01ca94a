"""Whatever way the inputs come, the masks are the plain loop's, each once; whatever is killed, the rest is done later."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from scribbleseg.distributed import Progress, Resources, predict_many
from scribbleseg.distributed.worker import Worker
from scribbleseg.errors import ConfigError, DataError
from scribbleseg.predict import Views, predict_inputs
from tests.distributed.kills import killed_until_done
from tests.fake.models import make_model, picture

OUTPUTS = ("mask", "overlay", "uncertainty", "polygons")

pytest.importorskip("pyarrow", reason="needs the extra ray")

pytestmark = pytest.mark.usefixtures("without_ray")


def many(root: Path, inputs: object, out: object, block: int = 4, **how: Any) -> Progress:
    how = {"outputs": OUTPUTS, "device": "cpu", "resources": Resources(block=block)} | how
    last = Progress(0)
    for last in predict_many(root / "model", str(inputs), str(out), **how):  # noqa: B007
        pass
    return last


def plain(root: Path, images: Path, out: Path, below: str = "") -> dict[str, bytes]:
    """What the plain loop makes of every folder, by the names that outputs get here."""
    found: dict[str, bytes] = {}
    for folder in sorted({p.parent for p in images.rglob("*") if p.is_file()}):
        target = out / folder.relative_to(images)
        list(predict_inputs(root / "model", folder, target, outputs=OUTPUTS, device="cpu"))
        inner = "/".join(part for part in (below, folder.relative_to(images).as_posix()) if part not in ("", "."))
        for file in target.glob("*/*"):
            if file.is_file() and file.parent.name in (*OUTPUTS, "overlays"):
                found["/".join(part for part in (file.parent.name, inner, file.name) if part)] = file.read_bytes()
        for file in target.glob("*.png"):
            found["/".join(part for part in (inner, file.name) if part)] = file.read_bytes()
    return found


def contents(out: Path) -> dict[str, bytes]:
    """All outputs; the ledger aside."""
    files = (path for path in out.rglob("*") if path.is_file())
    return {
        name: path.read_bytes()
        for path in files
        if not (name := path.relative_to(out).as_posix()).startswith(("predictions/", "."))
    }


def done(out: Path) -> list[str]:
    """Inputs that the ledger has as done, in order of blocks."""
    parts = sorted((out / "predictions" / "done").rglob("*.jsonl"))
    return [json.loads(line)["input"] for part in parts for line in part.read_text().splitlines()]


@pytest.mark.parametrize("block", [1, 5, 64])
def test_masks_are_those_of_the_plain_loop_bit_for_bit(places, truth, tmp_path, block):
    last = many(places, places / "images", tmp_path / "out", block)
    assert contents(tmp_path / "out") == truth
    assert len(truth) == 22 * len(OUTPUTS)
    assert (last.inputs, last.done, last.kept, last.failed) == (22, 22, 0, 0)
    names = sorted(p.relative_to(places / "images").as_posix() for p in (places / "images").rglob("*.png"))
    assert sorted(done(tmp_path / "out")) == names
    assert not list((tmp_path / "out" / "predictions" / "begun").rglob("*.*"))
    assert not list((tmp_path / "out" / "predictions" / "writing").iterdir())


def test_views_and_refinement_are_the_plain_loops_too(places, tmp_path):
    how = {"views": Views("horizontal"), "refine": "tree", "outputs": ["mask"]}
    many(places, places / "images" / "b", tmp_path / "out", **how)
    plainly = predict_inputs(places / "model", places / "images" / "b" / "c", tmp_path / "plain", device="cpu", **how)
    for outcome in plainly:
        assert outcome.files[0].read_bytes() == (tmp_path / "out" / "c" / outcome.files[0].name).read_bytes()


def test_killed_anywhere_and_started_again(places, truth, tmp_path, monkeypatch):
    before: dict[str, int] = {}

    def look() -> None:
        now = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in contents(tmp_path / "out")}
        listed = {Path(name).with_suffix(".png").as_posix() for name in done(tmp_path / "out")}
        assert not [name for name in listed if before.get(name, now[name]) != now[name]], "what is done is not written again"
        before.clear()
        before.update({name: now[name] for name in listed})
        assert all(truth[name] == data for name, data in contents(tmp_path / "out").items()), "whole or not there"

    def run() -> Progress:
        return many(places, places / "images", tmp_path / "out", block=4)

    last, kills = killed_until_done(monkeypatch, run, range(3, 60), look)
    assert kills >= 5
    assert last.done + last.kept == 22
    assert contents(tmp_path / "out") == truth
    assert len(done(tmp_path / "out")) == len(set(done(tmp_path / "out"))) == 22


def test_the_same_again_does_nothing(places, tmp_path, monkeypatch):
    many(places, places / "images", tmp_path / "out")
    monkeypatch.setattr(Worker, "do", lambda *_: pytest.fail("a block is done again"))
    last = many(places, places / "images", tmp_path / "out")
    assert (last.done, last.kept, last.failed) == (0, 22, 0)


def test_bad_files_are_listed_and_tried_again_when_asked(places, truth, tmp_path):
    images = Path(shutil.copytree(places / "images", tmp_path / "images"))
    (images / "a" / "picture_02.png").write_bytes(b"no picture")
    (images / "b" / "c" / "picture_06.png").write_bytes(b"")
    last = many(places, images, tmp_path / "out")
    assert (last.done, last.failed) == (20, 2)
    lines = [line for part in (tmp_path / "out/predictions/failed").rglob("*.jsonl") for line in part.read_text().splitlines()]
    told = {tree["input"]: tree for tree in map(json.loads, lines)}
    assert sorted(told) == ["a/picture_02.png", "b/c/picture_06.png"]
    assert all(tree["expected"] and tree["got"] and tree["do"] for tree in told.values())
    assert not set(told) & set(done(tmp_path / "out"))
    last = many(places, images, tmp_path / "out")
    assert (last.done, last.kept, last.failed) == (0, 20, 2), "told again, and not tried again"
    shutil.copytree(places / "images", images, dirs_exist_ok=True)
    last = many(places, images, tmp_path / "out", retry_failed=True)
    assert last.failed == 0
    assert contents(tmp_path / "out") == truth
    assert not list((tmp_path / "out/predictions/failed").rglob("*.jsonl"))


def test_images_that_came_later(places, truth, tmp_path):
    late = ["a/picture_11.png", "a/picture_12.png", "b/c/picture_06.png"]
    images = Path(shutil.copytree(places / "images", tmp_path / "images"))
    for name in late:
        (images / name).unlink()
    assert many(places, images, tmp_path / "out").done == 19
    shutil.copytree(places / "images", images, dirs_exist_ok=True)
    assert many(places, images, tmp_path / "out").inputs == 19, "listed once, unless asked to look again"
    last = many(places, images, tmp_path / "out", look_again=True)
    assert (last.inputs, last.done, last.kept, last.failed) == (22, 3, 19, 0)
    assert contents(tmp_path / "out").keys() == truth.keys()
    assert many(places, images, tmp_path / "out", look_again=True).kept == 22
    (images / "a" / "picture_11.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="one input a folder and stem"):
        many(places, images, tmp_path / "out", look_again=True)


def test_an_image_that_has_gone_is_listed(places, tmp_path):
    images = Path(shutil.copytree(places / "images", tmp_path / "images"))
    rows = predict_many(places / "model", str(images), str(tmp_path / "out"), device="cpu")
    next(rows)  # the plan is made
    (images / "a" / "picture_00.png").unlink()
    *_, last = rows
    assert (last.done, last.failed) == (21, 1)


def test_a_picture_over_which_workers_die_is_found_and_left_out(places, truth, tmp_path, monkeypatch):
    from scribbleseg.distributed import prediction

    class Died(BaseException):
        pass

    right = prediction.predict_paths

    def deadly(model: Any, paths: list[Path], *args: Any, **how: Any) -> Any:
        for path, outcome in zip(paths, right(model, paths, *args, **how), strict=True):
            if path.name == "picture_05.png" and path.parent.name == "a":
                raise Died
            yield outcome

    monkeypatch.setattr(prediction, "predict_paths", deadly)
    deaths = 0
    while True:
        try:
            last = many(places, places / "images", tmp_path / "out", block=16, outputs=["mask"])
        except Died:
            deaths += 1
            assert deaths < 10
        else:
            break
    assert deaths == 6, "twice as usual, once by fours, three times by itself"
    assert (last.done + last.kept, last.failed) == (21, 1)
    masks = contents(tmp_path / "out")
    assert set(masks) == {name for name in truth if name.split("/")[0] in "ab"} - {"a/picture_05.png"}
    assert sum(truth[name] != data for name, data in masks.items()) <= 3, "those that shared its batch may differ in rounding"


class TestUnforeseen:
    """What no image may do to a worker, as a GPU whose memory does not suffice for it."""

    @pytest.fixture
    def fail(self, monkeypatch) -> set[str]:
        from scribbleseg.distributed import prediction

        names: set[str] = set()
        predict = prediction.predict_paths

        def failing(model: Any, paths: list[Path], *args: Any, **how: Any) -> Any:
            for path, outcome in zip(paths, predict(model, paths, *args, **how), strict=True):
                if path.name in names or not names:
                    raise RuntimeError(f"no memory for {path.name}")
                yield outcome

        monkeypatch.setattr(prediction, "predict_paths", failing)
        return names

    def test_one_is_left_out_with_the_reason(self, places, truth, tmp_path, fail):
        fail.add("picture_13.png")
        last = many(places, places / "images", tmp_path / "out", block=8)
        assert (last.done, last.failed) == (21, 1)
        (part,) = (tmp_path / "out" / "predictions" / "failed").rglob("*.jsonl")
        (told,) = map(json.loads, part.read_text().splitlines())
        assert (told["input"], told["got"]) == ("a/picture_13.png", "RuntimeError: no memory for picture_13.png")
        assert {n.split("/")[-1].split(".")[0] for n in truth.keys() - contents(tmp_path / "out").keys()} == {"picture_13"}

    def test_all_are_no_fault_of_theirs(self, places, tmp_path, fail):
        with pytest.raises(RuntimeError, match="no memory"):
            many(places, places / "images", tmp_path / "out")
        assert done(tmp_path / "out") == []
        assert not list((tmp_path / "out" / "predictions" / "failed").rglob("*.jsonl"))


class TestTar:
    def test_files_of_tars_are_predicted_below_their_stem(self, places, tmp_path, truth):
        (tmp_path / "shards").mkdir()
        for name, folder in {"x.tar": "a", "deep/y.tar": "b/c"}.items():
            path = tmp_path / "shards" / name
            path.parent.mkdir(exist_ok=True)
            with tarfile.open(path, "w") as tar:
                for image in sorted((places / "images" / folder).iterdir()):
                    tar.add(image, image.name)
                    label = tarfile.TarInfo(f"{image.stem}.cls")
                    tar.addfile(label, io.BytesIO(b""))
        last = many(places, tmp_path / "shards", tmp_path / "out")
        assert (last.done, last.failed) == (22, 0)
        renamed = {name.replace("b/c/", "deep/y/").replace("a/", "x/"): data for name, data in truth.items()}
        assert contents(tmp_path / "out").keys() == renamed.keys()
        same = {n for n, d in contents(tmp_path / "out").items() if d == renamed[n]}
        assert same == set(renamed), "a tar's order of files is the folder's here"

    def test_one_damaged_tar_is_listed_and_the_others_are_done(self, places, tmp_path):
        with tarfile.open(tmp_path / "x.tar", "w") as tar:
            tar.add(places / "images" / "a" / "picture_00.png", "0.image.png")
            tar.add(places / "images" / "a" / "picture_01.png", "0.mask.png")
        (tmp_path / "y.tar").write_bytes((tmp_path / "x.tar").read_bytes()[:3000])
        out = tmp_path.parent / f"{tmp_path.name}-out"
        last = many(places, tmp_path, out)
        assert (last.inputs, last.done, last.failed) == (2, 1, 1)
        (told,) = map(json.loads, (out / "predictions/failed/listing.jsonl").read_text().splitlines())
        assert "y.tar" in told["input"]
        assert "cut short" in told["got"]
        assert many(places, tmp_path, out).failed == 1, "told again"


class TestParquet:
    def table(self, path: Path, rows: list[dict[str, Any]], **how: Any) -> None:
        arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        parquet.write_table(arrow.Table.from_pylist(rows), path, **how)

    def test_rows_that_hold_images(self, places, truth, tmp_path):
        images = sorted((places / "images" / "a").iterdir())
        rows = [{"name": p.name, "image": {"bytes": p.read_bytes(), "path": None}} for p in images]
        self.table(tmp_path / "held.parquet", rows, row_group_size=4)
        last = many(places, tmp_path / "held.parquet", tmp_path / "out")
        assert (last.done, last.failed) == (15, 0)
        expected = {n.replace("a/", "held/"): d for n, d in truth.items() if not n.endswith(".x") and "b/c" not in n}
        assert contents(tmp_path / "out") == expected

    def test_rows_that_name_files(self, places, truth, tmp_path):
        images = sorted((places / "images" / "b" / "c").iterdir())
        self.table(tmp_path / "list.parquet", [{"path": str(p), "name": f"n/{p.name}"} for p in images])
        last = many(places, tmp_path / "list.parquet", tmp_path / "out")
        assert (last.done, last.failed) == (7, 0)
        assert contents(tmp_path / "out") == {n.replace("b/c/", "list/n/"): d for n, d in truth.items() if "b/c/" in n}

    def test_rows_that_cannot_be_read_are_listed(self, places, tmp_path):
        images = sorted((places / "images" / "a").iterdir())
        rows = [{"name": p.name, "image": p.read_bytes()} for p in images]
        path = tmp_path / "held.parquet"
        self.table(path, rows, row_group_size=4, use_dictionary=False)
        parquet = pytest.importorskip("pyarrow.parquet")
        first = parquet.ParquetFile(path).metadata.row_group(0).column(1).data_page_offset
        data = bytearray(path.read_bytes())
        data[first : first + 400] = bytes(400)
        path.write_bytes(bytes(data))
        last = many(places, path, tmp_path / "out", block=4)
        assert (last.done, last.failed) == (11, 4)

    def test_a_row_that_names_a_file_of_another_store_stops_the_run(self, places, tmp_path):
        self.table(tmp_path / "list.parquet", [{"path": "s3://bucket/x.png"}])
        with pytest.raises(ConfigError, match="s3://bucket/x.png"):
            many(places, tmp_path / "list.parquet", tmp_path / "out")

    def test_names_that_lead_outside_are_listed(self, places, tmp_path):
        good = (places / "images" / "a" / "picture_00.png").read_bytes()
        names = ["../../x.png", "a/./x.png", "x.exe", "", "ok.png"]
        self.table(tmp_path / "held.parquet", [{"name": name, "image": good} for name in names])
        last = many(places, tmp_path / "held.parquet", tmp_path / "out", outputs=["mask"])
        assert (last.done, last.failed) == (1, 4)
        assert set(contents(tmp_path / "out")) == {"held/ok.png"}


class TestRefusals:
    def test_two_of_one_stem(self, places, tmp_path):
        images = Path(shutil.copytree(places / "images", tmp_path / "images"))
        Image.fromarray(picture(0, (30, 30))).save(images / "b" / "c" / "picture_03.jpg")
        with pytest.raises(DataError, match="two named 'b/c/picture_03'"):
            many(places, images, tmp_path / "out")

    def test_a_folder_called_as_one_of_outputs(self, places, tmp_path):
        shutil.copytree(places / "images" / "a", tmp_path / "images" / "overlays")
        with pytest.raises(DataError, match="called as one of outputs"):
            many(places, tmp_path / "images", tmp_path / "out")

    @pytest.mark.parametrize("where", ["images", "images/out", "."])
    def test_out_among_the_inputs(self, places, tmp_path, where):
        shutil.copytree(places / "images", tmp_path / "images")
        with pytest.raises(DataError, match="none in it or above it"):
            many(places, tmp_path / "images", tmp_path / where)

    def test_nothing_there(self, places, tmp_path):
        with pytest.raises(DataError, match="nothing there"):
            many(places, tmp_path / "nowhere", tmp_path / "out")
        (tmp_path / "empty").mkdir()
        with pytest.raises(DataError, match="none"):
            many(places, tmp_path / "empty", tmp_path / "out")

    @pytest.mark.parametrize("name", ["coco", "nnunet"])
    def test_outputs_of_all_inputs_at_once(self, places, tmp_path, name):
        with pytest.raises(ConfigError, match="one of all inputs"):
            many(places, places / "images", tmp_path / "out", outputs=["mask", name])

    def test_other_options_and_overwrite(self, places, tmp_path):
        out = tmp_path / "out"
        many(places, places / "images", out)
        with pytest.raises(ConfigError, match="flips: none there, both now"):
            many(places, places / "images", out, views=Views("both"))
        other = make_model(tmp_path / "other" / "model", window_px=48, seed=1).parent
        with pytest.raises(ConfigError, match="model: "):
            many(other, places / "images", out)
        (out / "mine.png").write_bytes(b"not of the run")
        many(other, places / "images" / "b", out, overwrite=True, outputs=["mask"])
        many(other, places / "images" / "b", tmp_path / "fresh", outputs=["mask"])
        assert contents(out) == contents(tmp_path / "fresh") | {"mine.png": b"not of the run"}

    def test_overwriting_that_was_killed_is_not_taken_for_done(self, places, tmp_path, monkeypatch):
        from scribbleseg.distributed.place import Place

        out, right = tmp_path / "out", Place.delete
        many(places, places / "images", out, outputs=["mask"])

        def killed(self: Place, name: str) -> None:
            if name == "predictions/done" or name.endswith("picture_09.png"):
                raise KeyboardInterrupt
            right(self, name)

        monkeypatch.setattr(Place, "delete", killed)
        with pytest.raises(KeyboardInterrupt):
            many(places, places / "images", out, outputs=["mask"], overwrite=True)
        monkeypatch.setattr(Place, "delete", right)
        with pytest.raises(ConfigError, match="--overwrite"):
            many(places, places / "images", out, outputs=["mask"])
        assert many(places, places / "images", out, outputs=["mask"], overwrite=True).done == 22

    def test_a_ledger_without_its_head_counts_for_nothing(self, places, tmp_path):
        many(places, places / "images", tmp_path / "out", outputs=["mask"])
        (tmp_path / "out" / "predictions" / "head.json").unlink()
        assert many(places, places / "images", tmp_path / "out", outputs=["mask"]).done == 22

    def test_a_folder_of_the_plain_loop(self, places, tmp_path):
        list(predict_inputs(places / "model", places / "images" / "a", tmp_path / "out", outputs=["mask"], device="cpu"))
        with pytest.raises(ConfigError, match=r"predictions\.jsonl"):
            many(places, places / "images", tmp_path / "out")

    def test_two_runs_in_one_folder(self, places, tmp_path):
        rows = predict_many(places / "model", str(places / "images"), str(tmp_path / "out"), device="cpu")
        next(rows)
        with pytest.raises(ConfigError, match="no other run writes to"):
            many(places, places / "images", tmp_path / "out")
        rows.close()
        many(places, places / "images", tmp_path / "out", outputs=["mask", "overlay"])


def test_from_and_to_an_object_store(places, truth, tmp_path, s3):
    where, query, client = s3()
    bucket = where.removeprefix("s3://")
    for path in sorted((places / "images").rglob("*.png")):
        client.upload_file(str(path), bucket, f"in/{path.relative_to(places / 'images').as_posix()}")
    client.put_object(Bucket=bucket, Key="in/a/bad.jpg", Body=b"no picture")
    last = many(places, f"{where}/in{query}", f"{where}/out{query}")
    assert (last.done, last.failed) == (22, 1)
    keys = [
        o["Key"] for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket) for o in page.get("Contents", ())
    ]
    outputs = [key for key in keys if key.startswith("out/") and "predictions/" not in key and not key.endswith("/")]
    found = {key.removeprefix("out/"): client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in outputs}
    assert found.keys() == truth.keys()
    # bad.jpg stands before the others and is one of the first four, as it would in the plain loop over this folder
    assert {n for n in found if "b/c" in n and found[n] != truth[n]} == set()
    assert sum(found[n] != truth[n] for n in found) <= 4
    last = many(places, f"{where}/in{query}", f"{where}/out{query}")
    assert (last.done, last.kept, last.failed) == (0, 22, 1)
