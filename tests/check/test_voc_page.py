"""docs/how-to/voc.md works as it is written: its commands and its dataset.yaml, on a tiny VOC."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from scribbleseg.check.run import check
from tests.fake.datasets import write_image, write_lines

PAGE = (Path(__file__).parents[2] / "docs/how-to/voc.md").read_text(encoding="utf-8")
LISTS = "ImageSets/Segmentation"


def block(language: str, number: int = 0) -> str:
    """Return a block of the page."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)[number]


def polygon(tag: str, *points: tuple[int, int]) -> str:
    inner = "".join(f"<point><X>{x}</X><Y>{y}</Y></point>" for x, y in points)
    return f"<polygon><tag>{tag}</tag>{inner}</polygon>"


@pytest.fixture
def voc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six images as they come: JPEG, masks, ScribbleSup's XML, lists of paths."""
    rng = np.random.default_rng(0)
    stems = [f"2007_{n:06d}" for n in range(6)]
    for n, stem in enumerate(stems):
        coarse = Image.fromarray(rng.integers(0, 255, (6, 8, 3), np.uint8))
        write_image(tmp_path / f"JPEGImages/{stem}.jpg", np.asarray(coarse.resize((64, 48), Image.Resampling.BICUBIC)))
        mask = np.repeat(np.arange(48) >= 24, 64).reshape(48, 64) * (n % 20 + 1)
        write_image(tmp_path / f"SegmentationClassAug/{stem}.png", mask.astype(np.uint8))
    names = yaml.safe_load(block("yaml"))["names"]
    for n, stem in enumerate(stems[:4]):
        strokes = polygon("background", (5, 8), (50, 10)) + polygon(names[n + 1], (8, 35), (30, 38), (55, 34))
        size = "<size><width>64</width><height>48</height></size>"
        path = tmp_path / f"scribble_annotation/{stem}.xml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"<annotation>{size}{strokes}</annotation>")
    write_lines(tmp_path / "train_aug_pairs.txt", [f"/JPEGImages/{s}.jpg /SegmentationClassAug/{s}.png" for s in stems[:4]])
    write_lines(tmp_path / f"{LISTS}/val.txt", stems[4:])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_page_makes_a_data_set_that_is_ready(voc: Path) -> None:
    (first,) = check(voc, jobs=1).findings
    assert "docs/how-to/voc.md" in first.do
    (voc / "dataset.yaml").write_text(block("yaml"))

    shutil.copy("train_aug_pairs.txt", f"{LISTS}/train_aug.txt")
    (voc / "scribbles").mkdir()
    assert "lines_are_not_stems" in [finding.rule for finding in check(voc, jobs=1).findings]
    sed = next(line for line in PAGE.splitlines() if line.startswith("sed"))
    subprocess.run(sed, shell=True, check=True)

    shutil.copytree("scribble_annotation", "scribbles", dirs_exist_ok=True)
    (missing,) = (finding for finding in check(voc, jobs=1).findings if finding.rule == "unusable_scribbles")
    assert ".xml" in missing.do
    shutil.rmtree("scribbles")
    drawing = next(text for text in re.findall(r"```\n(.*?)```", PAGE, re.DOTALL) if text.startswith("NAMES"))
    subprocess.run(drawing.replace("scribbleseg convert", f"{sys.executable} -m scribbleseg convert"), shell=True, check=True)

    found = check(voc, jobs=1)
    assert found.facts is not None
    assert not [finding for finding in found.findings if finding.rule.startswith("unusable")]
    assert found.facts.tallies["train"].wrong == 0
    assert found.facts.tallies["train"].strokes[:5].tolist() == [4, 1, 1, 1, 1]
    expected = ["classes_never_drawn", "voc_lists"]  # a tiny VOC has neither all classes nor all images
    assert [finding.rule for finding in found.findings] == expected
