"""Scores of many machines are those of the plain loop, to the last bit, whatever is killed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scribbleseg.distributed import Evaluation, Progress, Resources, evaluate_many
from scribbleseg.distributed.worker import Worker
from scribbleseg.errors import ConfigError, DataError
from scribbleseg.evaluate import evaluate
from scribbleseg.predict import Views, predict_inputs
from scribbleseg.scores import summary
from tests.distributed.kills import killed_until_done
from tests.distributed.labelled import make_labelled
from tests.fake.models import make_model

pytest.importorskip("pyarrow", reason="needs the extra ray")

pytestmark = pytest.mark.usefixtures("without_ray")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_labelled(tmp_path_factory.mktemp("labelled"))


@pytest.fixture
def copied(labelled: Path, tmp_path: Path) -> Path:
    """One whose files may be changed."""
    return Path(shutil.copytree(labelled, tmp_path / "copied"))


def many(root: Path, out: object, block: int = 4, source: str = "model", **how: Any) -> Evaluation:
    how = {"device": "cpu", "resources": Resources(block=block)} | how
    return evaluate_many(root / source, root / "data", str(out), **how)


@pytest.mark.parametrize("block", [1, 5, 64])
def test_scores_are_those_of_the_plain_loop_bit_for_bit(labelled, tmp_path, block):
    truth = summary(evaluate(labelled / "model", labelled / "data", device="cpu"))
    found = many(labelled, tmp_path / "out", block)
    assert summary(found.scores) == truth
    assert found.left_out == 0
    assert truth["num_images"] == 22
    assert truth["volume_dice"]["num_volumes"] == 3
    assert truth["calibration"]["ece"] > 0
    assert 0 < truth["miou"] < 1


def test_views_and_refinement_are_the_plain_loops_too(labelled, tmp_path):
    how: dict[str, Any] = {"views": Views("horizontal"), "refine": "tree"}
    truth = evaluate(labelled / "model", labelled / "data", device="cpu", **how)
    assert summary(many(labelled, tmp_path / "out", **how).scores) == summary(truth)


def test_masks_in_place_of_a_model(copied, tmp_path):
    list(predict_inputs(copied / "model", copied / "data" / "images", copied / "masks", outputs=["mask"], device="cpu"))
    truth = summary(evaluate(copied / "masks", copied / "data"))
    assert summary(many(copied, tmp_path / "out", source="masks").scores) == truth
    assert "calibration" not in truth


def test_killed_anywhere_and_started_again(labelled, tmp_path, monkeypatch):
    found, kills = killed_until_done(monkeypatch, lambda: many(labelled, tmp_path / "out", block=4), range(2, 12))
    assert kills >= 3
    assert summary(found.scores) == summary(evaluate(labelled / "model", labelled / "data", device="cpu"))


def test_the_same_again_scores_nothing(labelled, tmp_path, monkeypatch):
    first = many(labelled, tmp_path / "out")
    monkeypatch.setattr(Worker, "do", lambda *_: pytest.fail("a block is done again"))
    told: list[Progress] = []
    again = many(labelled, tmp_path / "out", progress=told.append)
    assert summary(again.scores) == summary(first.scores)
    assert (told[-1].done, told[-1].kept) == (0, 22)


def test_what_cannot_be_scored_is_left_out_and_tried_again_when_asked(copied, tmp_path):
    mask = copied / "data" / "masks" / "picture_03.png"
    right = mask.read_bytes()
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(mask)
    (copied / "data" / "images" / "picture_07.png").write_bytes(b"no picture")
    told: list[Progress] = []
    found = many(copied, tmp_path / "out", progress=told.append)
    assert found.left_out == 2
    assert len(found.scores.per_image) == 20
    assert {reason["input"] for now in told for reason in now.reasons} == {"picture_03", "picture_07"}
    assert not {"picture_03", "picture_07"} & {row["stem"] for row in found.scores.per_image}
    mask.write_bytes(right)
    assert many(copied, tmp_path / "out").left_out == 2, "told again, and not tried again"
    assert many(copied, tmp_path / "out", retry_failed=True).left_out == 1


def test_no_image_at_all_is_an_error_with_the_reason(copied, tmp_path):
    for path in (copied / "data" / "masks").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="a label file in masks"):
        many(copied, tmp_path / "out")
    with pytest.raises(DataError, match="as an earlier run found") as error:
        many(copied, tmp_path / "out")
    assert f"{tmp_path / 'out'}/evaluation/failed" in str(error.value), "where the reasons are"


class TestAnotherRunsFolder:
    def test_of_another_model(self, copied, tmp_path):
        many(copied, tmp_path / "out")
        shutil.rmtree(copied / "model")
        make_model(copied / "model", window_px=48, seed=1)
        with pytest.raises(ConfigError, match="source"):
            many(copied, tmp_path / "out")
        truth = evaluate(copied / "model", copied / "data", device="cpu")
        assert summary(many(copied, tmp_path / "out", overwrite=True).scores) == summary(truth)

    def test_of_another_list(self, copied, tmp_path):
        many(copied, tmp_path / "out")
        listed = (copied / "data" / "test.txt").read_text().splitlines()
        (copied / "data" / "test.txt").write_text("\n".join(listed[1:]))
        with pytest.raises(ConfigError, match="stems"):
            many(copied, tmp_path / "out")

    def test_of_a_prediction_beside_it(self, labelled, tmp_path):
        from scribbleseg.distributed import predict_many

        list(predict_many(labelled / "model", str(labelled / "data" / "images"), str(tmp_path / "out"), device="cpu"))
        assert many(labelled, tmp_path / "out").left_out == 0
        assert len(list((tmp_path / "out").glob("*.png"))) == 22


class TestVerb:
    @pytest.fixture
    def cli(self, labelled, tmp_path, capsys, monkeypatch) -> Any:
        from tests.test_cli import run

        own = ("evaluate", "--model", labelled / "model", "--data", labelled / "data", "--device", "cpu")
        return lambda *words: run(capsys, monkeypatch, *own, *words)

    def test_prints_and_writes_what_the_plain_one_does(self, cli, tmp_path):
        code, plain, _ = cli("--json", tmp_path / "plain.json")
        assert code == 0
        code, said, _ = cli("--json", tmp_path / "many.json", "--engine", "ray", "--out", tmp_path / "out")
        assert code == 0
        assert said.splitlines()[:-1] == plain.splitlines()[:-1]
        one, other = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("plain", "many"))
        assert one.pop("provenance").keys() == other.pop("provenance").keys()
        assert one == other

    def test_says_what_was_left_out(self, cli, copied, tmp_path):
        (copied / "data" / "masks" / "picture_03.png").unlink()
        words = ("--data", copied / "data", "--engine", "ray", "--out", tmp_path / "out", "--json", tmp_path / "s.json")
        code, said, err = cli(*words)
        assert code == 1
        assert "images 21" in said
        assert "left out: picture_03\n" in err
        assert "1 of 22 images were left out; evaluation/failed/ in OUT has all" in err
        assert json.loads((tmp_path / "s.json").read_text())["left_out"] == 1

    def test_wants_a_folder_for_its_notes(self, cli):
        code, _, err = cli("--engine", "ray")
        assert code == 2
        assert "--out FOLDER" in err
