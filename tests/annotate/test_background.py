"""The background training, as a page sees it: real processes, started, stopped, killed, found again and resumed."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from scribbleseg.annotate.background import PROCESS, RUN, Training, latest, new_folder, settings
from scribbleseg.annotate.holdout import choose
from scribbleseg.annotate.learner import Learner
from scribbleseg.annotate.owned import owned
from scribbleseg.annotate.snapshot import write_snapshot
from scribbleseg.config import RunConfig, parse_config
from scribbleseg.data.folder import open_dataset
from scribbleseg.data.training_labels import check_training_labels
from scribbleseg.errors import DataError
from scribbleseg.records import UNLABELLED
from scribbleseg.training.checkpoint_file import LAST, PREVIOUS
from scribbleseg.trees import merge
from tests.annotate.project import FakeProject, right_stroke
from tests.training.test_run import SMALL

needs_posix = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


@pytest.fixture
def project(tmp_path: Path) -> FakeProject:
    one = FakeProject(tmp_path / "data")
    for image in (1, 2):
        for row in (10, 30, 50):
            one.draw(image, right_stroke(one, image, 0, row), right_stroke(one, image, 1, row))
    return one


def drawn(project: FakeProject) -> dict[str, Any]:
    return {
        project.stem(image): ((64, 96), owned(project.strokes(image), project.labels(image))) for image in sorted(project.drawn)
    }


def small(root: Path, max_steps: int) -> RunConfig:
    return parse_config(merge(SMALL, {"data": {"root": str(root)}, "training": {"max_steps": max_steps}}))


@pytest.fixture
def training(project: FakeProject) -> Any:
    one = Training(new_folder(project.state / "runs"))
    yield one
    one.stop()


def begin(training: Training, project: FakeProject, max_steps: int) -> None:
    root = write_snapshot(training.folder, project.dataset(), drawn(project), np.random.default_rng(0))
    training.start(small(root, max_steps))


def until(true: Any, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


def test_a_snapshot_holds_every_stroke_but_those_held_out(project: FakeProject, tmp_path: Path) -> None:
    strokes = drawn(project)
    root = write_snapshot(tmp_path / "0001", project.dataset(), strokes, np.random.default_rng(0))
    held = set(json.loads((tmp_path / "0001" / "held_out.json").read_text())["keys"])
    assert len(held) >= 2
    snapshot = open_dataset(root)
    check_training_labels(snapshot, snapshot.stems("train"), "scribbles")
    assert snapshot.rgb(snapshot.stems("train")[0]).shape == (64, 96, 3)
    assert not snapshot.has_masks()
    for stem, (_, own) in strokes.items():
        labels = snapshot.labels(stem, "scribbles").reshape(-1)
        for each in own:
            expected = UNLABELLED if f"{stem}/{each.key}" in held else each.label
            assert (labels[each.pixels] == expected).all()
    assert held == choose(
        [(f"{stem}/{each.key}", each.label) for stem, (_, own) in strokes.items() for each in own], np.random.default_rng(0)
    )


def test_one_class_cannot_be_trained(project: FakeProject, tmp_path: Path) -> None:
    strokes = {stem: (size, [each for each in own if each.label == 0]) for stem, (size, own) in drawn(project).items()}
    with pytest.raises(DataError, match="two classes"):
        write_snapshot(tmp_path / "0001", project.dataset(), strokes, np.random.default_rng(0))


def test_settings_leave_a_core_and_take_the_backbone(tmp_path: Path) -> None:
    plain = settings(tmp_path, 900, None, accelerated=False)
    assert plain.method == "dfr"
    assert plain.training.threads == max(1, (os.cpu_count() or 1) - 1)
    assert plain.data.longest_px == 0
    large = settings(tmp_path, 9000, tmp_path / "weights", accelerated=True, max_steps=7)
    assert (large.training.max_steps, large.data.longest_px) == (7, 1024)
    assert large.model.backbone == str((tmp_path / "weights").resolve())


def test_a_training_runs_to_its_end_and_gives_a_network(training: Training, project: FakeProject) -> None:
    begin(training, project, 4)
    assert training.state() == "running"
    process = training.process()
    assert process is not None
    assert process.nice() > psutil.Process().nice()
    until(lambda: training.state() != "running")
    status = training.status()
    assert (status["state"], status["step"], status["max_steps"]) == ("done", 4, 4), training.complaint()
    assert status["losses"]["partial_cross_entropy"]
    network = training.network()
    assert network is not None
    assert network.model.names == project.names


@needs_posix
def test_stopped_killed_found_again_and_resumed(training: Training, project: FakeProject) -> None:
    begin(training, project, 20_000)
    until(training.stamp)
    again = latest(project.state / "runs")  # a server that was started anew
    assert again is not None
    assert again.state() == "running"
    network = again.network()
    assert network is not None
    assert 0 < network.step < 20_000
    process = training.process()
    assert process is not None
    process.send_signal(signal.SIGKILL)
    until(lambda: again.state() == "failed")
    assert "killed" in again.status()["message"]
    checkpoints = training.folder / RUN / "checkpoints"
    (checkpoints / LAST).rename(checkpoints / PREVIOUS)  # as if it had been killed while it put a new one in its place
    again.resume()
    assert again.state() == "running"
    until(lambda: again.status()["step"] > network.step)
    again.stop()
    assert again.state() == "stopped"
    assert again.process() is None


def test_another_process_with_its_number_is_not_taken_for_it(training: Training, project: FakeProject) -> None:
    (training.folder / PROCESS).write_text(json.dumps({"pid": os.getpid(), "born": 1.0}))
    assert training.process() is None
    assert training.state() == "failed"


def test_what_training_complains_of_reaches_the_page(training: Training, project: FakeProject) -> None:
    begin(training, project, 20_000)  # or it is done before it is stopped, where a background job ignores interrupts
    training.stop()
    for path in (training.folder / "snapshot" / "scribbles").iterdir():
        path.write_bytes(b"no picture")
    training.resume()
    until(lambda: training.state() != "running")
    status = training.status()
    assert status["state"] == "failed"
    assert "scribbles" in status["message"]
    assert "Traceback" not in status["message"]


@pytest.mark.parametrize("text", ["", "step,train/total\n", "step,train/total\n9,0.5\n19,0.", "\x00\xff", "step\nnan\n"])
def test_half_written_files_are_no_obstacle(training: Training, text: str) -> None:
    (training.folder / RUN).mkdir()
    (training.folder / RUN / "metrics.csv").write_text(text, encoding="latin-1")
    (training.folder / PROCESS).write_text("{")
    status = training.status()
    assert status["state"] == "failed"
    assert status["step"] in (0, 10)


def test_the_learner_starts_weighs_and_tells(project: FakeProject, monkeypatch: Any) -> None:
    from scribbleseg.annotate import rival

    monkeypatch.setattr(rival, "settings", lambda root, *words: small(root, 4))
    learner = Learner(project, "cpu")
    learner.look_at(1)
    learner.train("start", 4)
    until(lambda: learner.status()["training"]["state"] == "done")
    until(
        lambda: "has not seen" in learner.status()["shown"]["why"] or "nothing can be said" in learner.status()["shown"]["why"]
    )
    until(lambda: learner.prediction(1, "network"))
    found = learner.prediction(1, "network")
    assert found is not None
    assert found.kind == "network"
    assert found.sure is not None
    assert found.sure.min() >= 255 // 2  # of two classes
    assert found.seen
    assert found.trained_on == 2
    shown = learner.status()["shown"]["kind"]
    scores = found.scores
    assert scores["network"]["strokes"] == scores["instant"]["strokes"] == learner.status()["training"]["held_out"]
    if scores["network"]["value"] is not None:
        assert (shown == "network") == (scores["network"]["value"] > scores["instant"]["value"])
    learner.train("resume")
    until(lambda: "done" in learner.status()["training"]["message"])
    assert learner.status()["training"]["state"] == "done"
    assert learner.status()["instant"]["state"] == "ready"
    learner.close()
