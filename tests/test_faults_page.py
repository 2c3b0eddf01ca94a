"""The page of faults names tests that exist, and its numbers are the program's and the benchmark's."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from benchmarks import soundness
from benchmarks.ops import page
from scribbleseg import errors
from scribbleseg.config import DataConfig
from scribbleseg.training import stopping

ROOT = Path(__file__).parents[1]
TEXT = soundness.PAGE.read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)))


@pytest.mark.parametrize("file", sorted({file for file, _ in NAMED}))
def test_every_test_that_the_page_names_is_there(file):
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    there = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    lost = [name for other, name in NAMED if other == file and name not in there]
    assert not lost, f"{file} has no {', '.join(lost)}"


def test_every_row_names_a_test():
    rows = [line for line in TEXT.partition("## Training")[2].splitlines() if line.startswith("| ")]
    faults = [row for row in rows if not re.match(r"\| (fault|---| |target|training|prediction)", row)]
    assert len(faults) > 25
    assert [row for row in faults if "::test_" not in row] == []


def test_numbers_are_the_programs():
    assert f"no more than {stopping.GRACE_S:g} seconds" in TEXT
    assert f"`data.timeout_s` ({DataConfig().timeout_s:g})" in TEXT
    assert f"| {errors.StoppedError.exit_code} | SIGTERM" in TEXT
    assert f"| {errors.InterruptedRunError.exit_code} | Ctrl-C" in TEXT
    assert f"| {errors.ScribblesegError.exit_code} | something you can mend" in TEXT


def test_what_was_measured_is_what_the_file_says():
    result = json.loads(soundness.RESULT.read_text(encoding="utf-8"))
    assert page.put(TEXT, "soundness", soundness.lines(result)) == TEXT


def test_growth_is_seen():
    flat = soundness.growth([[n, 100.0, 5] for n in range(1, 101)])
    assert flat == {"mib": [100.0, 100.0], "handles": [5, 5], "most_mib": 100.0, "most_handles": 5}
    leaky = soundness.growth([[n, 100.0 + n, 5 + n // 10] for n in range(1, 101)])
    made = {"number": 100, "unit": "steps", "seconds": 1.0}
    assert all(target.met for target in soundness.targets({"training": flat | made}))
    assert not any(target.met for target in soundness.targets({"training": leaky | made}))


@pytest.mark.slow
def test_the_benchmark_runs(tmp_path):
    result = soundness.run(100, 300, 0.05, list(soundness.COMMANDS))
    assert set(soundness.COMMANDS) < set(result)
    assert all(result[what]["most_mib"] > 50 and result[what]["most_handles"] > 2 for what in soundness.COMMANDS)
    soundness.lines(result)
