"""What a user gets of a check: a verdict, text, JSON, exit code, a sheet; the same whatever the number of processes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from scribbleseg.check import sheet
from scribbleseg.check.finding import Case, Finding, Severity, count, percent, some
from scribbleseg.check.run import check
from scribbleseg.check.sheet import chosen, write_sheet
from scribbleseg.check.text import told, tree
from scribbleseg.check.verdict import Level, judge
from tests.check.test_rules import change, redraw, spoil_image
from tests.fake.datasets import make_dataset
from tests.test_cli import cli  # noqa: F401  (a fixture)


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    """A data set with a broken image, wrong strokes and an image without strokes."""
    root = make_dataset(tmp_path / "data", num_images=12)
    spoil_image(root, "image_002")
    redraw(root, lambda a: np.where(a == 1, 2, a), only="image_001")
    redraw(root, lambda a: np.full_like(a, 255), only="image_003")
    return root


def finding(severity: Severity, what: str) -> Finding:
    return Finding("rule", severity, what, "do", (Case("where"),))


@pytest.mark.parametrize(
    ("severities", "level", "text"),
    [
        ("", Level.READY, "Ready to train."),
        ("nn", Level.READY, "Ready to train. 2 notes below."),
        ("wn", Level.WILL_TRAIN_BUT, "Will train, but w0."),
        ("wwwwn", Level.WILL_TRAIN_BUT, "Will train, but w0; w1; and 2 more warnings."),
        ("eww", Level.CANNOT_BE_USED, "Cannot be used: e0."),
        ("eee", Level.CANNOT_BE_USED, "Cannot be used: e0; e1; and 1 more error."),
    ],
)
def test_the_verdict_names_the_worst(severities: str, level: Level, text: str) -> None:
    by_letter = {str(severity)[0]: severity for severity in Severity}
    verdict = judge([finding(by_letter[letter], f"{letter}{n}") for n, letter in enumerate(severities)])
    assert (verdict.level, verdict.text) == (level, text)


def test_words_for_numbers() -> None:
    assert [count(1, "image"), count(2000, "image"), count(0, "class", "classes")] == ["1 image", "2,000 images", "0 classes"]
    shares = [0, 1e-5, 0.051, 0.5, 0.993, 1 - 1e-6, 1]
    assert [percent(s) for s in shares] == ["0 %", "< 0.1 %", "5.1 %", "50 %", "99.3 %", "> 99.9 %", "100 %"]
    assert some("abc", 2) == "a, b and 1 more"


def test_the_numbers_are_those_of_the_files(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", num_images=4)
    train = tree(check(root, jobs=1))["splits"]["train"]
    assert (train["num_images"], train["num_scribbles"], train["num_masks"], train["num_strokes"]) == (2, 2, 2, 6)
    assert train["compared_pixels"] == sum(c["stroke_pixels"] for c in train["classes"].values())
    assert train["labelled_share"] == pytest.approx(train["compared_pixels"] / (2 * 48 * 64))
    assert sum(c["mask_pixels"] for c in train["classes"].values()) == 2 * 48 * 64
    assert train["classes"]["leaf"]["drawn_in_images"] == train["classes"]["leaf"]["strokes"] == 2


def test_json_text_and_sheet_do_not_depend_on_the_number_of_processes(faulty: Path, tmp_path: Path) -> None:
    one, three = check(faulty, jobs=1), check(faulty, jobs=3)
    assert json.dumps(tree(one)) == json.dumps(tree(three))
    assert told(one) == told(three)
    pages = [write_sheet(tmp_path / f"{n}.html", found).read_text() for n, found in enumerate((one, three))]
    assert pages[0] == pages[1]
    assert str(tmp_path) not in json.dumps(tree(one)) + told(one) + pages[0]


def test_the_command_says_the_verdict_first_and_leaves_with_2(cli, faulty: Path, tmp_path: Path) -> None:  # noqa: F811
    code, said, _ = cli("check", faulty, "--jobs", 2, "--json", tmp_path / "found.json", "--html", tmp_path / "sheet.html")
    assert code == 2
    assert said.splitlines()[0] == "fake: Cannot be used: 1 image cannot be read."
    for words in ("images/image_002.png", "to do:", "background", "error", "warnings", "image_001"):
        assert words in said
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["verdict"]["level"] == "cannot be used"
    assert [f["severity"] for f in found["findings"]] == ["error", "warning", "warning"]
    assert "<html" in (tmp_path / "sheet.html").read_text()


def test_warnings_alone_leave_with_0(cli, tmp_path: Path) -> None:  # noqa: F811
    root = make_dataset(tmp_path / "data")
    assert cli("check", root)[:2] == (0, told(check(root, jobs=1)) + "\n")
    change(root, splits={"all": "splits/train.txt"})
    code, said, _ = cli("check", root, "--quick")
    assert code == 0
    assert "Will train, but no split is called 'train'" in said
    assert "not decoded" in said


@pytest.mark.parametrize("spoil", ["nowhere", "yaml"])
def test_without_a_readable_yaml_there_is_a_verdict_too(spoil: str, cli, tmp_path: Path) -> None:  # noqa: F811
    root = make_dataset(tmp_path / "data")
    (root / "dataset.yaml").write_text("name: [")
    place = root if spoil == "yaml" else tmp_path / "nowhere"
    code, said, err = cli("check", place, "--json", tmp_path / "found.json", "--html", tmp_path / "sheet.html")
    assert code == 2
    assert "Cannot be used: " in said
    assert "Traceback" not in err
    assert json.loads((tmp_path / "found.json").read_text())["findings"][0]["rule"] == "dataset_yaml"
    assert "Cannot be used: " in (tmp_path / "sheet.html").read_text()


def test_ctrl_c_leaves_nothing_behind(cli, faulty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("scribbleseg.check.pool.scan_one", stop)
    code, _, err = cli("check", faulty, "--jobs", 1, "--json", tmp_path / "found.json", "--html", tmp_path / "sheet.html")
    assert code == 130
    assert "stopped" in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data"]


def test_a_name_cannot_steer_the_terminal_or_the_page(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data")
    change(root, name="\x1b[2J<script>alert(1)</script>", names={0: "background", 1: "\x1b[31m<b>leaf</b>", 2: "stone"})
    redraw(root, lambda a: np.where(a == 1, 255, a))
    found = check(root, jobs=1)
    assert "\x1b" not in told(found)
    assert "\\x1b[31m<b>leaf</b>" in told(found)
    page = write_sheet(tmp_path / "sheet.html", found).read_text()
    assert "<script" not in page
    assert "<b>leaf" not in page


def test_the_sheet_shows_the_faulty_ones_first_and_a_bounded_number(
    faulty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = check(faulty, jobs=1)
    first, others = chosen(found)
    assert first == ["image_002", "image_001", "image_003"]
    assert len(others) == 9
    page = write_sheet(tmp_path / "sheet.html", found).read_text()
    assert len(re.findall('<article class="case', page)) == 12
    assert page.count('class="strokes"') == 11  # the broken one has no picture
    assert page.count('class="mask"') == 1
    assert page.count("no picture") == 1
    monkeypatch.setattr(sheet, "NUM_FAULTY", 2)
    monkeypatch.setattr(sheet, "NUM_OTHERS", 3)
    assert chosen(found) == (["image_002", "image_001"], ["image_000", "image_006", "image_009"])
    smaller = write_sheet(tmp_path / "sheet.html", found).read_text()
    assert len(re.findall('<article class="case', smaller)) == 5
    assert "2 of 3, of every finding in turn" in smaller


def test_a_file_that_vanishes_before_the_sheet_is_made_is_no_error(faulty: Path, tmp_path: Path) -> None:
    found = check(faulty, jobs=1)
    (faulty / "images/image_001.png").unlink()
    (faulty / "scribbles/image_003.png").unlink()
    assert write_sheet(tmp_path / "sheet.html", found).read_text().count("no picture") == 3


def test_the_sheet_asks_for_nothing_from_outside(faulty: Path, tmp_path: Path) -> None:
    page = write_sheet(tmp_path / "sheet.html", check(faulty, jobs=1)).read_text()
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", page)
    assert "default-src 'none'" in page
