from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks import stroke_statistics
from scribbleseg.data.folder import open_dataset
from tests.fake.datasets import make_dataset


def scene() -> tuple[np.ndarray, np.ndarray]:
    """A square object with two strokes, a background with one that enters the object with a quarter of its pixels."""
    mask = np.zeros((100, 120), np.uint8)
    mask[20:80, 20:80] = 1
    scribbles = np.full(mask.shape, 255, np.uint8)
    scribbles[30:33, 30:60] = 1
    scribbles[60, 30:60] = 1
    scribbles[50, 70:110] = 0
    return scribbles, mask


def test_what_is_measured_is_what_was_drawn():
    found = stroke_statistics.measure([scene()])
    objects, background = found["objects"], found["background"]
    assert objects["length"]["mean"] == pytest.approx(29 / 60, abs=0.03)
    assert objects["length"]["number"] == 2
    assert objects["width"]["quartiles"][1] == pytest.approx(2, abs=0.2)
    assert objects["strokes"]["mean"] == 2
    assert background["strokes"]["mean"] == 1
    assert background["length"]["mean"] == pytest.approx(40 / np.sqrt(100 * 120 - 60 * 60), abs=0.01)
    assert objects["distance"]["mean"] == pytest.approx((12 + 18.5) / 2 / 30, abs=0.01)
    assert found["wrong"] == pytest.approx(100 * 10 / 160)
    assert found["labelled"] == pytest.approx(100 * 160 / 12000)


def test_dots_unknown_pixels_and_strokes_of_no_region():
    scribbles, mask = scene()
    mask[:5] = 255
    scribbles[2, 2:8] = 0
    scribbles[90, 5] = 0
    scribbles[85:88, 90:93] = 1
    found = stroke_statistics.measure([(scribbles, mask)])
    assert found["background"]["strokes"]["mean"] == 2
    assert found["objects"]["length"]["number"] == 2
    assert found["wrong"] == pytest.approx(100 * 19 / 170)


def test_the_same_strokes_are_not_off():
    found = stroke_statistics.measure([scene()])
    assert stroke_statistics.off({"people": found, "style": found}, "style") == 1


def test_a_run_measures_people_and_styles(tmp_path, monkeypatch):
    make_dataset(tmp_path / "fake", size=(60, 80))
    monkeypatch.setattr(stroke_statistics, "SETS", {"fake": (["scribbles"], "Fake: bands")})
    result = json.loads(json.dumps(stroke_statistics.run(tmp_path, 2, ["points", "straight"], ["fake"])))
    one_set = result["sets"]["fake"]
    assert one_set["images"] == len(open_dataset(tmp_path / "fake").stems("train"))
    assert one_set["people"]["wrong"] == one_set["straight"]["wrong"] == 0
    assert one_set["points"]["labelled"] < one_set["straight"]["labelled"]
    (tmp_path / "page.md").write_text("<!-- statistics: begin -->\nold\n<!-- statistics: end -->\nrest\n", encoding="utf-8")
    stroke_statistics.write(result, tmp_path / "page.md", tmp_path)
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "old" not in text
    assert text.endswith("rest\n")
    assert f"{stroke_statistics.off(one_set, 'straight'):.2f}" in text
    assert (tmp_path / "simulated-styles.png").stat().st_size > 1000
    assert "<svg" in (tmp_path / "stroke-statistics.svg").read_text(encoding="utf-8")


def test_the_page_is_made_from_the_file_in_the_repository(tmp_path: Path):
    result = json.loads(stroke_statistics.RESULTS.read_text(encoding="utf-8"))
    page = Path(shutil.copy(stroke_statistics.PAGE, tmp_path))
    stroke_statistics.write(result, page, tmp_path)
    assert page.read_text(encoding="utf-8") == stroke_statistics.PAGE.read_text(encoding="utf-8")
