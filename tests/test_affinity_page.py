"""The page about the kernels says what their files say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from benchmarks import affinity
from scribbleseg.data.folder import open_dataset
from scribbleseg.errors import ConfigError
from tests.test_report import make_data, make_run


def test_every_stage_is_measured_and_the_table_has_its_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_data(tmp_path / "data")
    run = make_run(tmp_path / "run", data, training={"max_steps": 20})
    shutil.copytree(run / "model", run / "snapshots" / "000000")
    result = affinity.measure(run, open_dataset(data), "test", 2)
    assert [s["step"] for s in result["steps"]] == [0, 20]
    first, last = result["steps"]
    assert first == last | {"step": 0}  # the same network
    assert 0 < last["shallow"] < last["flat shallow"] < 1
    monkeypatch.setattr(affinity, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(affinity, "CURVES", tmp_path / "curves.svg")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "fake.json").write_text(json.dumps(result))
    _, _, row, *_ = affinity.page()
    assert f"| {100 * last['shallow']:.1f} % |" in row
    assert (tmp_path / "curves.svg").stat().st_size > 1000


def test_a_run_without_the_kernel_is_refused(tmp_path: Path) -> None:
    data = make_data(tmp_path / "data")
    run = make_run(tmp_path / "run", data, method="partial_ce", scored=False)
    with pytest.raises(ConfigError, match="dynamic kernel"):
        affinity.measure(run, open_dataset(data), "test", 2)
