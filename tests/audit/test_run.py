"""An audit as a user types it."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from scribbleseg.audit.points import Item, Plan
from scribbleseg.audit.sheet import read_answers
from scribbleseg.cli import main
from scribbleseg.data.folder import open_dataset
from scribbleseg.errors import DataError
from scribbleseg.evaluate import evaluate
from scribbleseg.metrics.counts import pixel_accuracy
from scribbleseg.training.run import train
from tests.fake.datasets import make_dataset
from tests.training.test_run import small


def scribbleseg(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["scribbleseg", *map(str, words)])
    with pytest.raises(SystemExit) as left:
        main()
    out, err = capsys.readouterr()
    return (left.value.code if isinstance(left.value.code, int) else 0), out, err


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = make_dataset(
        tmp_path_factory.mktemp("audit") / "data <b>", spec={"names": {0: "background", 1: "<leaf>", 2: "stone"}}
    )
    # The weight is written down: one interval in twenty leaves the accuracy out, whatever the preset.
    return root, train(small(root, losses={"dynamic_feature": {"weight": 4.0}}), root.parent / "run")


def test_sheet_table_and_what_follows(trained: tuple[Path, Path], tmp_path: Path, monkeypatch, capsys) -> None:
    root, model = trained
    out = tmp_path / "audit"
    words = ["audit", "--model", model, "--data", root, "--out", out]
    code, said, _ = scribbleseg(monkeypatch, capsys, *words, "--number", 40)
    assert code == 0
    assert "40 points" in said
    page = (out / "points.html").read_text()
    assert page.count("data:image/png;base64") == 80
    assert "&lt;leaf&gt;" in page
    assert "<leaf>" not in page
    with (out / "answers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 40
    assert "predicted" not in rows[0], "the prediction is not told"
    dataset = open_dataset(root)
    for row in rows:
        row["class"] = str(dataset.labels(row["image"], "masks")[int(row["y"]), int(row["x"])])
    rows[3]["class"], rows[4]["class"] = "?", "STONE" if rows[4]["class"] == "2" else rows[4]["class"]
    with (out / "answers.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    code, said, _ = scribbleseg(monkeypatch, capsys, *words, "--answers", out / "answers.csv")
    assert code == 0
    assert "39 answers, 1 that nobody can tell" in said
    found = json.loads((out / "audit.json").read_text())
    scores = [evaluate(model, root, split=split) for split in ("train", "val", "test")]
    accuracy = pixel_accuracy(sum(each.confusion for each in scores))  # type: ignore[arg-type]
    assert found["interval"][0] <= accuracy <= found["interval"][1]
    code, _, err = scribbleseg(monkeypatch, capsys, *words)
    assert code == 2
    assert "an audit is in it" in err


@pytest.mark.parametrize("unit", ["pixel", "patch"])
def test_masks_can_answer(trained: tuple[Path, Path], tmp_path: Path, monkeypatch, capsys, unit: str) -> None:
    root, model = trained
    code, said, err = scribbleseg(
        monkeypatch,
        capsys,
        "audit",
        "--model",
        model,
        "--data",
        root,
        "--out",
        tmp_path / "a",
        "--truth",
        "--unit",
        unit,
        "--number",
        30,
    )
    assert (code, err) == (0, "")
    assert "30 answers" in said
    assert not (tmp_path / "a" / "points.html").exists()


def test_a_plain_folder_of_images_will_do(trained: tuple[Path, Path], tmp_path: Path, monkeypatch, capsys) -> None:
    root, model = trained
    code, said, _ = scribbleseg(
        monkeypatch, capsys, "audit", "--model", model, "--data", root / "images", "--out", tmp_path / "a", "--number", 5
    )
    assert code == 0
    assert "5 points" in said
    code, _, err = scribbleseg(
        monkeypatch, capsys, "audit", "--model", model, "--data", root / "images", "--out", tmp_path / "b", "--truth"
    )
    assert code == 2
    assert "dense `masks`" in err


PLAN = Plan(("background", "leaf"), "pixel", (10, 10), (Item(1, "a", 0, 0, 24, 0), Item(2, "a", 1, 0, 24, 1)))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("number,class\n1,tree\n", "line 2.*a class.*'tree'"),
        ("number,class\n1,0\n3,1\n", "line 3.*a point from 1 to 2"),
        ("number,class\n-1,0\n", "line 2.*a point"),
        ("number,class\n" + "9" * 5000 + ",0\n", "line 2.*a point"),
    ],
)
def test_a_wrong_table_is_refused_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=f"(?s){told}"):
        read_answers(tmp_path / "t.csv", PLAN)


def test_tables_as_spreadsheets_write_them(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("\ufeffnumber;class;image\r\n1; Leaf ;a\r\n2;;a\r\n".encode())
    assert read_answers(tmp_path / "t.csv", PLAN) == {1: 1}


@settings(max_examples=60, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.text(alphabet='number,class;"\n\r\t0123?x\x00', max_size=80).map(str.encode)))
def test_any_bytes_are_answers_or_one_clear_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "t.csv"
    path.write_bytes(data)
    try:
        answers = read_answers(path, PLAN)
    except DataError:
        return
    assert set(answers) <= {1, 2}
    assert set(answers.values()) <= {0, 1, None}


def test_everything_has_the_same_seed(trained: tuple[Path, Path], tmp_path: Path, monkeypatch, capsys) -> None:
    root, model = trained
    for name in ("a", "b"):
        scribbleseg(monkeypatch, capsys, "audit", "--model", model, "--data", root, "--out", tmp_path / name, "--number", 20)
    assert (tmp_path / "a" / "plan.json").read_bytes() == (tmp_path / "b" / "plan.json").read_bytes()
    sure = [item["confidence"] for item in json.loads((tmp_path / "a" / "plan.json").read_text())["items"]]
    assert all(1 / 3 - 1e-6 <= s <= 1 for s in sure)
    assert np.std(sure) > 0
