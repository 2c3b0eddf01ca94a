"""The folder for the Hub: it is the model, and its card says what is known and nothing else."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import ModelCard

from scribbleseg.config import dump_config, parse_config
from scribbleseg.errors import ConfigError, ModelError, ScribblesegError, StorageError
from scribbleseg.export import hub
from scribbleseg.export.hub import FILES, export_hub
from scribbleseg.models.folder import load_model, save_model
from scribbleseg.predict import probabilities
from scribbleseg.provenance import provenance
from scribbleseg.records import DistanceSums, Scores
from scribbleseg.scores import read_scores, write_scores
from tests.fake.exported import NAMES, RESNET, make_model, picture


def make_run(root: Path) -> Path:
    """Write a run folder as a training leaves it."""
    run = root / "run"
    make_model(run / "model")
    tree = {"seed": 7, "method": "dfr", "data": {"root": str(root / "secret place" / "leaves")}, "model": RESNET}
    (run / "config.yaml").write_text(dump_config(parse_config(tree).resolved()))
    (run / "run.json").write_text(json.dumps(provenance(7)))
    return run


SCORES = {
    "source": "run",
    "data": "leaves",
    "split": "test",
    "num_images": 12,
    "miou": 0.71234567,
    "foreground_dice": 0.8,
    "pixel_accuracy": 0.93,
    "boundary_miou": None,
    "hd95": 12.5,
    "assd": None,
    "distance_unit": "px",
    "intervals": {"miou": [0.61, 0.79], "pixel_accuracy": [0.9, 0.95], "foreground_dice": [None, None]},
    "classes": {
        name: {"iou": iou, "dice": 0.8, "precision": 0.7, "recall": None, "iou_interval": [0.5, 0.9]}
        for name, iou in zip(NAMES, (0.9, 0.6123, None), strict=True)
    },
    "confusion": [[1, 0, 0], [0, 1, 0], [0, 0, 0]],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("hub"))


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    (tmp_path / "scores.json").write_text(json.dumps(SCORES))
    return tmp_path / "scores.json"


def test_the_folder_is_the_model(run, tmp_path):
    found = export_hub(run, tmp_path / "leaves")
    assert sorted(p.name for p in (tmp_path / "leaves").iterdir()) == sorted(FILES)
    assert found.difference == 0
    assert found.other == 0
    ours, theirs = load_model(run), load_model(tmp_path / "leaves")
    assert (theirs.names, theirs.window_px, theirs.longest_px) == (ours.names, ours.window_px, ours.longest_px)
    for size in ((64, 64), (150, 33)):
        assert torch.equal(probabilities(theirs, picture(1, size)), probabilities(ours, picture(1, size)))
    before = (run / "model" / "model.safetensors").read_bytes()
    assert (tmp_path / "leaves" / "model.safetensors").read_bytes() == before


def test_scores_go_into_the_index_and_come_back(run, tmp_path, scores):
    export_hub(run, tmp_path / "leaves", scores=scores, license="cc-by-nc-4.0")
    data = ModelCard.load(tmp_path / "leaves" / "README.md").data
    assert data.license == "cc-by-nc-4.0"
    assert (data.library_name, data.pipeline_tag, data.model_name) == ("scribbleseg", "image-segmentation", "leaves")
    found = {result.metric_type: result for result in data.eval_results}
    assert {key: result.metric_value for key, result in found.items()} == {
        "mean_iou": 0.71235,
        "dice": 0.8,
        "accuracy": 0.93,
        "hd95": 12.5,
    }, "what was not measured is not there"
    assert {(r.dataset_name, r.dataset_split, r.task_type) for r in found.values()} == {
        ("leaves", "test", "image-segmentation")
    }
    assert found["hd95"].metric_name == "mean HD95 (px)"
    text = (tmp_path / "leaves" / "README.md").read_text()
    index = yaml.safe_load(text.split("---")[1])["model-index"]
    assert index[0]["results"][0]["metrics"][0]["value"] == 0.71235
    assert "| mean IoU | 0.712 [0.610–0.790] |" in text
    assert "| leaf | 0.612 [0.500–0.900] | 0.800 | 0.700 | – |" in text
    assert "| rust on leaf | – |" in text
    assert "Not evaluated" not in text


def test_a_model_that_was_not_evaluated_says_so(run, tmp_path):
    export_hub(run, tmp_path / "leaves")
    text = (tmp_path / "leaves" / "README.md").read_text()
    head = yaml.safe_load(text.split("---")[1])
    assert not {"model-index", "metrics", "license"} & set(head)
    assert "Not evaluated" in text
    assert "**No licence is stated.**" in text
    assert ModelCard(text).data.eval_results is None


def test_what_the_card_knows_of_the_training(run, tmp_path):
    export_hub(run, tmp_path / "leaves")
    text = (tmp_path / "leaves" / "README.md").read_text()
    commit = str(provenance()["commit"])
    for known in (
        "| seed | 7 |",
        "| method | dfr |",
        "the scribbles of",
        "*leaves*",
        "| 2 | rust on leaf | `#56b4e9` |",
        "from random weights",
    ):
        assert known in text
    assert commit == "None" or f"| commit | {commit} |" in text
    assert "secret place" not in "".join((tmp_path / "leaves" / n).read_text() for n in FILES if not n.endswith("safetensors"))
    settings = parse_config(yaml.safe_load((tmp_path / "leaves" / "training_config.yaml").read_text()))
    assert settings.seed == 7
    assert str(settings.data.root) == "leaves"


def test_a_bare_model_folder_has_no_history(tmp_path):
    make_model(tmp_path / "model", longest_px=48)
    export_hub(tmp_path / "model", tmp_path / "leaves")
    text = (tmp_path / "leaves" / "README.md").read_text()
    assert "Nothing is known of its training" in text
    assert "No record was kept" in text
    assert "brought to 48 pixels" in text
    assert sorted(p.name for p in (tmp_path / "leaves").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ]


def test_scores_of_the_report_are_taken_while_they_are_of_this_model(tmp_path):
    run = make_run(tmp_path)
    (run / "scores_test.json").write_text(json.dumps(SCORES))
    export_hub(run, tmp_path / "one")
    assert ModelCard.load(tmp_path / "one" / "README.md").data.eval_results
    weights = run / "model" / "model.safetensors"
    later = (run / "scores_test.json").stat().st_mtime + 10
    os.utime(weights, (later, later))
    export_hub(run, tmp_path / "two")
    assert ModelCard.load(tmp_path / "two" / "README.md").data.eval_results is None


def test_class_names_cannot_break_the_card(tmp_path, monkeypatch):
    odd = ("a|b", "<script>x</script>", "c\n# d")
    model = replace(load_model(make_model(tmp_path / "model")), names=odd)
    monkeypatch.setattr(hub, "load_model", lambda folder: model)
    export_hub(tmp_path / "model", tmp_path / "leaves")
    text = (tmp_path / "leaves" / "README.md").read_text()
    assert r"| 0 | a\|b | " in text
    assert "<script>" not in text
    assert "\n# d" not in text


def test_errors(run, tmp_path, scores):
    (tmp_path / "other.json").write_text(json.dumps(SCORES | {"classes": {"cat": {}}}))
    with pytest.raises(ConfigError, match="scores of background, leaf, rust on leaf"):
        export_hub(run, tmp_path / "out", scores=tmp_path / "other.json")
    with pytest.raises(ConfigError, match="an identifier, as apache-2.0"):
        export_hub(run, tmp_path / "out", license="Do what you like")
    with pytest.raises(ScribblesegError, match="evaluate"):
        export_hub(run, tmp_path / "out", scores=tmp_path / "none.json")
    with pytest.raises(ModelError):
        export_hub(tmp_path, tmp_path / "out")
    (tmp_path / "there").mkdir()
    with pytest.raises(StorageError, match="there"):
        export_hub(run, tmp_path / "there")
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / "there").iterdir())


def test_a_folder_that_answers_otherwise_is_not_handed_on(run, tmp_path, monkeypatch):
    other = load_model(make_model(tmp_path / "other", seed=1))
    monkeypatch.setattr(hub, "save_model", lambda folder, model: save_model(folder, other))
    with pytest.raises(ModelError, match="the same answers"):
        export_hub(run, tmp_path / "leaves")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other"]


def test_real_scores_fit(run, tmp_path):
    """What `evaluate --json` writes, as it writes it."""
    confusion = np.array([[50, 2, 0], [3, 40, 0], [0, 0, 0]])
    shown = Scores(
        names=NAMES,
        confusion=confusion,
        border_confusion=confusion,
        border_px=3,
        boundary=np.ones((2, 3)),
        distances=DistanceSums("px", np.ones((3, 4))),
        reliability=None,
        replicates=np.stack([confusion] * 4),
        per_image=({"stem": "a", "miou": 0.5},),
        per_volume=(),
    )
    write_scores(tmp_path / "s.json", shown, source="run", data="leaves", split="test")
    assert read_scores(tmp_path / "s.json")["classes"]
    export_hub(run, tmp_path / "leaves", scores=tmp_path / "s.json")
    assert "mean_iou" in {r.metric_type for r in ModelCard.load(tmp_path / "leaves" / "README.md").data.eval_results}
