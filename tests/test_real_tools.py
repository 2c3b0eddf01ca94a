"""The comparison with the tools' own libraries runs where they are, says so where they are not, and the page has its table."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from benchmarks import real_tools, real_tools_side


def test_the_page_says_what_the_file_says():
    result = json.loads(real_tools.RESULTS.read_text(encoding="utf-8"))
    assert [row["tool"] for row in result["rows"]] == list(real_tools_side.TOOLS)
    text = real_tools.PAGE.read_text(encoding="utf-8")
    assert all(line in text for line in real_tools.lines(result)), "run: python -m benchmarks.real_tools write"


def test_a_tool_that_is_here_sees_the_same(monkeypatch):
    pytest.importorskip("pycocotools")
    monkeypatch.setattr(real_tools, "TOOLS", {"pycocotools": real_tools_side.TOOLS["pycocotools"]})
    (row,) = real_tools.run(sys.executable)["rows"]
    assert (row["opens_ours"], row["we_open"]) == ("3 of 3 the same", "3 of 3 the same")


def test_one_wrong_pixel_is_seen():
    maps = real_tools.drawn()
    wrong = {stem: labels.copy() for stem, labels in maps.items()}
    wrong["plant1"][5, 5] ^= 1
    assert real_tools.verdict(maps, wrong) == "2 of 3 the same"
    assert real_tools.verdict(maps, {}) == "0 of 3 the same"


def test_the_maps_hold_what_formats_stumble_over():
    for labels in real_tools.drawn().values():
        assert set(np.unique(labels)) == {0, 1, 2, 255}
        assert 255 not in labels[[0, 0, -1, -1], [0, -1, 0, -1]]


def test_a_tool_that_is_not_here_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(real_tools, "SIDE", tmp_path / "side.py")
    (tmp_path / "side.py").write_text("import json; print(json.dumps({'version': None, 'package': 'x'}))")
    monkeypatch.setattr(real_tools, "TOOLS", {"napari": real_tools_side.TOOLS["napari"]})
    (row,) = real_tools.run(sys.executable)["rows"]
    assert (row["opens_ours"], row["we_open"]) == ("not installed", "not installed")
