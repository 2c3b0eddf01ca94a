"""Running a table: results that last, trainings that go on, choices made on val."""

from __future__ import annotations

import copy
import json
import subprocess
import sys

import pytest
import yaml
from typer.testing import CliRunner

from scribbleseg.bench.run import Folder, as_tree, differences, run_table
from scribbleseg.bench.table import Cell, Places, read_table
from scribbleseg.cli import app
from scribbleseg.config import parse_record
from scribbleseg.errors import ConfigError
from scribbleseg.methods import METHODS
from scribbleseg.training.checkpoint_file import LAST, PREVIOUS
from tests.bench.tables import write_table
from tests.fake.datasets import make_dataset


@pytest.fixture
def folder(tmp_path):
    """The small table's results, with its data sets there."""
    make_dataset(tmp_path / "a", num_images=8)
    make_dataset(tmp_path / "b", num_images=8, num_volumes=4)
    return Folder(read_table(write_table(tmp_path)), Places(tmp_path), tmp_path / "results")


def stem(folder: Folder, data: str, method: str, seed: int = 0) -> str:
    return next(c.stem for c in folder.cells() if (c.data, c.network, c.method, c.seed) == (data, "narrow", method, seed))


def test_a_result_says_what_was_run_and_found(folder, tmp_path):
    path = folder.run(stem(folder, "b", "low"), tmp_path / "runs", threads=1)
    result = json.loads(path.read_text())
    assert (result["data"], result["network"], result["method"], result["seed"]) == ("b", "narrow", "low", 0)
    assert result["config"]["training"]["max_steps"] == 4
    assert result["provenance"]["machine"]["cores"] >= 1
    assert result["minutes"] > 0
    for split in ("val", "test"):
        assert 0 <= result[split]["volume_dice"]["foreground"] <= 1
        assert len(result[split]["per_case"]) == result[split]["volume_dice"]["num_volumes"]
    assert str(tmp_path) not in path.read_text()


def test_what_is_done_is_not_done_again_unless_its_settings_changed(folder, tmp_path):
    name = stem(folder, "a", "variant")
    folder.run(name, tmp_path / "runs", threads=1)
    assert name not in [c.stem for c in folder.missing()]
    assert "test" not in json.loads((folder.root / f"{name}.json").read_text())
    tree = yaml.safe_load((tmp_path / "small.yaml").read_text())
    tree["settings"]["training"]["lr"] = 0.5
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(tree))
    changed = Folder(read_table(tmp_path / "small.yaml"), folder.places, folder.root)
    assert name in [c.stem for c in changed.missing()]
    assert changed.results() == []
    before = (tmp_path / "runs" / name / "model" / "model.safetensors").read_bytes()
    changed.run(name, tmp_path / "runs", threads=1)
    assert (tmp_path / "runs" / name / "model" / "model.safetensors").read_bytes() != before, "the old model is no result"
    assert name not in [c.stem for c in changed.missing()]


def test_a_row_that_is_scored_on_another_split_too_is_scored_again_and_not_trained(folder, tmp_path):
    name = stem(folder, "a", "variant")
    before = json.loads(folder.run(name, tmp_path / "runs", threads=1).read_text())
    tree = yaml.safe_load((tmp_path / "small.yaml").read_text())
    del tree["methods"]["variant"]["splits"]
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(tree))
    more = Folder(read_table(tmp_path / "small.yaml"), folder.places, folder.root)
    assert name in [c.stem for c in more.missing()]
    words = ["bench", str(tmp_path / "small.yaml"), "--data", str(tmp_path), "--results", str(folder.root), "--dry-run"]
    words += ["--only", "a / narrow / variant / seed 0"]
    assert CliRunner().invoke(app, words).stdout.startswith("to do")
    assert [r["method"] for r in more.results()] == ["variant"], "what is known is shown"
    model = tmp_path / "runs" / name / "model" / "model.safetensors"
    written = model.stat().st_mtime_ns
    after = json.loads(more.run(name, tmp_path / "runs", threads=1).read_text())
    assert model.stat().st_mtime_ns == written
    assert (after["val"]["miou"], after["minutes"]) == (before["val"]["miou"], before["minutes"])
    assert "miou" in after["test"]
    assert name not in [c.stem for c in more.missing()]
    assert CliRunner().invoke(app, words).stdout.startswith("done")


def test_a_method_that_has_changed_makes_its_old_results_none(folder, monkeypatch):
    def low() -> Cell:
        return next(c for c in folder.cells() if c.method == "low")

    recorded = as_tree(low().config)
    assert differences(low(), parse_record(recorded, "a result")) == []
    without = copy.deepcopy(recorded)
    del without["training"]["teacher_noise"]
    assert differences(low(), parse_record(without, "a result")) == [], "a default that came later counts as it is"
    monkeypatch.setitem(METHODS, "partial_ce", METHODS["partial_ce"] | {"entropy": {"weight": 0.5}})
    assert any("entropy" in key for key in differences(low(), parse_record(recorded, "a result")))


def test_a_stopped_cell_goes_on_from_its_checkpoint(folder, tmp_path):
    name = stem(folder, "a", "low")
    whole = json.loads(folder.run(name, tmp_path / "one", threads=1).read_text())
    folder.path(folder.find(name)).unlink()
    folder.run(name, tmp_path / "two", threads=1)
    (tmp_path / "two" / name / "model" / "model.safetensors").unlink()
    (tmp_path / "two" / name / "model").rename(tmp_path / "gone")
    checkpoints = tmp_path / "two" / name / "checkpoints"
    (checkpoints / LAST).rename(checkpoints / PREVIOUS)  # killed while it put a new one in its place
    again = json.loads(folder.run(name, tmp_path / "two", threads=1).read_text())
    assert again["test"] == whole["test"]
    assert again["minutes"] is None  # of a training in two parts nobody knows how long it took


def test_tuning_takes_what_is_best_on_val(tmp_path):
    folder = Folder(read_table(write_table(tmp_path, tuned=True)), Places(tmp_path), tmp_path / "results")
    scores = {"losses.entropy.weight=0.1": 0.6, "losses.entropy.weight=1.0": 0.7, "losses.total_variation.weight=0.1": 0.5}

    def result(cell: Cell, miou: float) -> str:
        config = json.loads(cell.config.model_dump_json())
        return json.dumps({"config": config, "val": {"miou": miou, "mean_dice": 0}})

    for cell in folder.cells():
        if cell.choice is None or (cell.data, cell.network) != ("a", "narrow"):
            continue
        value = next((v for k, v in scores.items() if cell.key.endswith(k)), None)
        if value is not None:
            folder.path(cell).parent.mkdir(parents=True, exist_ok=True)
            folder.path(cell).write_text(result(cell, value))
    assert folder.chosen() == {("a", "narrow", "entropy"): {"losses.entropy.weight": 1.0}}  # the other is half done


def test_processes_run_what_is_missing_and_a_failure_is_told(folder, tmp_path):
    """The processes here copy a result or fail; the one at the end is the command line's own."""
    script = tmp_path / "worker.py"
    script.write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "from scribbleseg.bench.run import Folder\n"
        "from scribbleseg.bench.table import Places, read_table\n"
        "root = Path(sys.argv[1])\n"
        "folder = Folder(read_table(root / 'small.yaml'), Places(root), root / 'results')\n"
        "cell = folder.find(sys.argv[2])\n"
        "if cell.seed: sys.exit('no room for seed 1')\n"
        "folder.path(cell).parent.mkdir(exist_ok=True)\n"
        "config = cell.config.model_dump_json()\n"
        'folder.path(cell).write_text(\'{"config": %s, "val": {"miou": 0.5}, "test": {"miou": 0.5}}\' % config)\n'
    )
    said: list[str] = []
    failed = run_table(folder, [sys.executable, str(script), str(tmp_path)], only=["a / narrow / low"], jobs=2, say=said.append)
    assert failed == ["a / narrow / low / seed 1"]
    assert any("val mIoU 0.500" in line for line in said)
    assert any("no room for seed 1" in line for line in said)
    assert [c.key for c in folder.missing(["a / narrow / low"])] == failed


def test_an_interrupt_begins_no_other_process(folder, tmp_path):
    script = tmp_path / "worker.py"
    script.write_text("import sys\nopen(sys.argv[1], 'a').write('begun ')\nsys.exit(1)\n")

    def interrupt(line: str) -> None:
        if "failed" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_table(folder, [sys.executable, str(script), str(tmp_path / "begun")], say=interrupt)
    assert (tmp_path / "begun").read_text().count("begun") <= 2  # of sixteen; one more may begin before the news is out


def test_a_word_that_is_in_no_cells_name_is_refused_with_a_hint(folder):
    with pytest.raises(ConfigError, match="did you mean 'narrow'"):
        folder.missing(["a / narrow / low", "narow"])


def test_an_unknown_cell_is_refused(folder, tmp_path):
    with pytest.raises(ConfigError, match="a cell of the table"):
        folder.run("nonsense", tmp_path / "runs")


@pytest.mark.slow
def test_the_command_runs_a_table_and_writes_its_page(folder, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- bench small: begin -->\n<!-- bench small: end -->\n")
    command = [sys.executable, "-m", "scribbleseg", "bench", "small.yaml", "--data", ".", "--threads", "1", "--jobs", "2"]
    subprocess.run(command, cwd=tmp_path, check=True)
    subprocess.run([*command, "--page", "page.md"], cwd=tmp_path, check=True)
    assert page.read_text().count("| low |") == 5  # three tables, two of which have variants as well
    assert Folder(folder.table, folder.places, tmp_path / "results" / "small").missing() == []
