from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scribbleseg.annotate.learner import Learner
from scribbleseg.records import Stroke
from tests.annotate.project import FakeProject, right_stroke


@pytest.fixture
def project(tmp_path: Path) -> FakeProject:
    return FakeProject(tmp_path / "data")


@pytest.fixture
def learner(project: FakeProject) -> Any:
    one = Learner(project, "cpu")
    yield one
    one.close()


def until(true: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def accuracy(project: FakeProject, learner: Learner, image: int) -> float:
    found = learner.prediction(image)
    assert found is not None
    return float((found.labels == project.truth(image)).mean())


def draw(project: FakeProject, learner: Learner, image: int, *strokes: Stroke) -> None:
    project.draw(image, *strokes)
    learner.strokes_changed(image)
    assert learner.wait(60)


def test_two_strokes_make_an_overlay_and_a_wrong_one_is_corrected(project: FakeProject, learner: Learner) -> None:
    learner.look_at(1)
    draw(project, learner, 1, right_stroke(project, 1, 0, 20))
    assert learner.prediction(1) is None
    assert learner.status()["instant"]["state"] == "waiting"
    draw(project, learner, 1, right_stroke(project, 1, 1, 20))
    found = learner.prediction(1)
    assert found is not None
    assert (found.kind, found.version, found.trained_on, found.seen) == ("instant", 2, 1, True)
    assert found.sure is not None
    assert found.labels.shape == found.doubt.shape == found.sure.shape == (64, 96)
    assert np.abs(found.doubt - 2.0 * (255 - found.sure)).max() <= 2, "of two classes: 1 − (p − (1 − p)) = 2 (1 − p)"
    assert accuracy(project, learner, 1) > 0.95
    first = found.number
    draw(project, learner, 1, right_stroke(project, 1, 1, 40))
    again = learner.prediction(1)
    assert again is not None
    assert again.number > first
    assert again.version == 3


def test_strokes_of_one_image_teach_all_images(project: FakeProject, learner: Learner) -> None:
    draw(project, learner, 1, right_stroke(project, 1, 0, 20), right_stroke(project, 1, 1, 20))
    learner.look_at(3)
    until(lambda: learner.prediction(3))
    assert accuracy(project, learner, 3) > 0.9
    found = learner.prediction(3)
    assert found is not None
    assert not found.seen
    until(lambda: len(learner.doubts()) == 4)
    until(lambda: learner.places(4))
    assert all(0 <= place.doubt <= 1 and place.x0 < place.x1 <= 96 and place.y0 < place.y1 <= 64 for place in learner.places(4))


def test_what_is_drawn_already_is_learnt_at_the_start(project: FakeProject) -> None:
    project.draw(2, right_stroke(project, 2, 0, 20), right_stroke(project, 2, 1, 20))
    learner = Learner(project, "cpu")
    learner.look_at(2)
    until(lambda: learner.prediction(2))
    assert accuracy(project, learner, 2) > 0.95
    learner.close()


def test_erased_strokes_teach_nothing(project: FakeProject, learner: Learner) -> None:
    draw(project, learner, 1, right_stroke(project, 1, 0, 20), right_stroke(project, 1, 1, 20))
    line = project.strokes(1)[1].points
    draw(project, learner, 1, Stroke(0, 9.0, line, tool="eraser"))
    until(lambda: learner.prediction(1) is None)
    assert "two classes" in learner.status()["instant"]["message"]


def test_an_image_that_cannot_be_read_is_told_and_the_rest_goes_on(project: FakeProject, learner: Learner) -> None:
    (project.root / "images" / f"{project.stem(2)}.png").write_bytes(b"no picture")
    project.draw(2, right_stroke(project, 1, 0, 20))
    learner.strokes_changed(2)
    until(lambda: learner.status()["instant"]["state"] == "failed")
    assert project.stem(2) in learner.status()["instant"]["message"]
    draw(project, learner, 1, right_stroke(project, 1, 0, 20), right_stroke(project, 1, 1, 20))
    until(lambda: learner.prediction(1))


def test_classes_in_another_order_are_learnt_again(project: FakeProject, learner: Learner) -> None:
    draw(project, learner, 1, right_stroke(project, 1, 0, 20), right_stroke(project, 1, 1, 20))
    assert accuracy(project, learner, 1) > 0.95
    project.drawn[1] = tuple(Stroke(1 - s.label, s.width_px, s.points) for s in project.strokes(1))
    learner.classes_changed()
    assert learner.wait(60)
    learner.look_at(1)
    until(lambda: learner.prediction(1))
    assert accuracy(project, learner, 1) < 0.05


def test_every_method_returns_at_once_while_it_learns(project: FakeProject, learner: Learner, monkeypatch: Any) -> None:
    from scribbleseg.annotate import feature_cache

    asked = []

    def slow(*words: Any) -> Any:
        asked.append(words)
        time.sleep(3)
        raise AssertionError

    monkeypatch.setattr(feature_cache, "compute", slow)
    project.draw(1, right_stroke(project, 1, 0, 20), right_stroke(project, 1, 1, 20))
    learner.strokes_changed(1)
    until(lambda: asked)
    learner.look_at(2)
    learner.strokes_changed(1)
    assert learner.prediction(1) is None
    assert learner.places(3) == []
    assert learner.status()["instant"]["state"] == "working"
    assert len(asked) == 1, "all of that while the thread was busy"


def test_features_are_computed_once(project: FakeProject, tmp_path: Path, monkeypatch: Any) -> None:
    from scribbleseg.annotate import feature_cache
    from scribbleseg.annotate.mind import Mind

    counted: list[int] = []
    real = feature_cache.compute
    monkeypatch.setattr(feature_cache, "compute", lambda *words: (counted.append(1), real(*words))[1])
    project.draw(1, right_stroke(project, 1, 0, 20), right_stroke(project, 1, 1, 20))
    first = Mind(project, "cpu", None)
    first.learn({1})
    one = first.instant(1)
    again = Mind(project, "cpu", None)  # as after a restart
    again.learn({1})
    two = again.instant(1)
    assert len(counted) == 1
    assert one is not None
    assert two is not None
    assert np.array_equal(one.labels, two.labels)


def test_it_learns_from_the_servers_own_project(tmp_path: Path) -> None:
    import json

    from scribbleseg.annotate.project import Project
    from tests.fake.datasets import make_dataset

    root = make_dataset(tmp_path / "data", 3, (64, 96), 2)
    project = Project(root)
    learner = Learner(project, "cpu")
    try:
        # What came with the folder was taken over as masks: nobody calls strokes_changed for it.
        image = project.images()[0].id
        learner.look_at(image)
        until(lambda: learner.prediction(image))
        found = learner.prediction(image)
        assert found is not None
        truth = project.opened.labels(project.images()[0].stem, "masks")
        assert (found.labels == truth).mean() > 0.9
        json.dumps([learner.status(), found.scores, found.version], allow_nan=False)
    finally:
        learner.close()
        project.close()
