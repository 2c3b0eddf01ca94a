from __future__ import annotations

import contextlib
import io
import json
import sqlite3
import time

import numpy as np
import pytest
from PIL import Image as Pillow

from scribbleseg.annotate.learner import Learner
from scribbleseg.annotate.project import Project
from scribbleseg.data.vector import read_strokes
from tests.annotate.conftest import page_of, page_of_project
from tests.fake.drawing import add, op, send


def replace(folder, size, name="p0.png"):
    """Put a picture of another (height, width) in the place of one."""
    rgb = np.random.default_rng(1).integers(0, 255, (*size, 3), dtype=np.uint8)
    Pillow.fromarray(rgb).save(folder / name)


def state(page, image=1):
    return page.get(f"/api/images/{image}").json()


def size_of(answer):
    return Pillow.open(io.BytesIO(answer.content)).size


@pytest.fixture(params=["running", "restarted"])
def replaced(request, folder):
    """A page on which a picture of 60 × 40 with two strokes became one of 30 × 50."""
    if request.param == "running":
        with page_of(folder) as page:
            yield draw_and_replace(page, folder)
    else:
        with page_of(folder) as page:
            draw_and_replace(page, folder)
        with page_of(folder) as page:
            page.project.swept.wait(60)
            yield page


def draw_and_replace(page, folder):
    send(page, 1, add(1, ((3, 3), (20, 3)), 3), add(0, ((50, 20), (55, 20)), 3))
    page.get("/api/images/1/thumbnail")
    page.project.files.flush()
    replace(folder, (50, 30))
    return page


def test_it_is_told_and_the_strokes_are_kept(replaced, folder):
    told = state(replaced)
    assert (told["width"], told["height"]) == (30, 50)
    assert "30 × 50" in told["problem"]
    assert "was 60 × 40" in told["problem"]
    assert [stroke["points"] for stroke in told["strokes"]] == [[[3, 3], [20, 3]], [[50, 20], [55, 20]]]
    assert state(replaced, 2)["problem"] is None


def test_pictures_are_made_anew(replaced):
    assert size_of(replaced.get("/api/images/1/view")) == (30, 50)
    small = size_of(replaced.get("/api/images/1/thumbnail"))
    assert small[0] < small[1]
    assert size_of(replaced.get("/api/images/1/labels")) == (30, 50)


def test_its_files_stay_until_somebody_draws_who_sees_it(replaced, folder):
    state(replaced)
    replaced.project.files.flush()
    assert read_strokes(folder / "strokes/p0.json")[1] == (40, 60), "a training refuses labels of another size"
    assert send(replaced, 1, add(1, ((3, 40),), 3)).status_code == 200
    replaced.project.files.flush()
    strokes, size = read_strokes(folder / "strokes/p0.json")
    assert (len(strokes), size) == (3, (50, 30))
    assert state(replaced)["problem"] is None
    labels = replaced.project.labels(1)
    assert labels[3, 10] == labels[40, 3] == 1
    assert np.array_equal(np.asarray(Pillow.open(folder / "scribbles/p0.png")), labels)


def test_with_the_old_picture_all_is_as_before(replaced, folder):
    state(replaced)
    replace(folder, (40, 60))
    told = state(replaced)
    assert told["problem"] is None
    assert len(told["strokes"]) == 2
    assert replaced.project.labels(1)[20, 52] == 0


def test_a_page_that_shows_the_old_picture_does_not_draw_on_the_new_one(folder):
    with page_of(folder) as page:
        send(page, 1, add())
        version = state(page)["version"]
        replace(folder, (50, 30))
        answer = send(page, 1, add(), version=version)
        assert answer.status_code == 412
        told = answer.json()["image"]
        assert (told["width"], told["height"]) == (30, 50)
        assert "30 × 50" in told["problem"]
        assert len(told["strokes"]) == 1


def test_cleared_strokes_leave_no_problem_and_come_back_by_undo(replaced):
    send(replaced, 1, op("clear"))
    assert (state(replaced)["problem"], state(replaced)["strokes"]) == (None, [])
    send(replaced, 1, op("undo"))
    assert len(state(replaced)["strokes"]) == 2


def test_an_image_that_nobody_drew_on_is_simply_another(folder):
    with page_of(folder) as page:
        before = state(page)
        replace(folder, (50, 30))
        told = state(page)
        assert (told["width"], told["problem"], told["version"]) == (30, None, before["version"])


def test_a_base_of_the_old_size_is_cut_not_stretched(folder):
    labels = np.full((40, 60), 255, np.uint8)
    labels[2:6, 5:50] = 1
    (folder / "scribbles").mkdir()
    Pillow.fromarray(labels).save(folder / "scribbles" / "p0.png")
    with page_of(folder) as page:
        page.project.swept.wait(60)
        assert state(page)["has_base"]
        replace(folder, (50, 30))
        assert "was 60 × 40" in state(page)["problem"]
        found = page.project.labels(1)
        assert found.shape == (50, 30)
        assert np.array_equal(found[:40], labels[:, :30])
        assert (found[40:] == 255).all()


def test_a_picture_that_is_away_for_a_while_loses_no_stroke(folder):
    with page_of(folder) as page:
        send(page, 1, add())
        picture = (folder / "p0.png").read_bytes()
        (folder / "p0.png").unlink()
        assert page.project.labels(1).shape == (40, 60)
        (folder / "p0.png").write_bytes(picture)
        assert (state(page)["problem"], len(state(page)["strokes"])) == (None, 1)


def test_a_project_of_the_first_version_knows_the_size_it_was_drawn_at(folder):
    with page_of(folder) as page:
        send(page, 1, add())
    with contextlib.closing(sqlite3.connect(folder / ".scribbleseg" / "state.sqlite")) as old:
        for column in ("picture", "drawn_at", "drawn_version"):
            old.execute(f"ALTER TABLE images DROP COLUMN {column}")
        old.execute("PRAGMA user_version=1")
    with page_of(folder) as page:
        assert (state(page)["problem"], len(state(page)["strokes"])) == (None, 1)
        replace(folder, (50, 30))
        assert "was 60 × 40" in state(page)["problem"]
        assert send(page, 1, add(), version=1).status_code == 412  # by a page that shows the old picture


def test_nothing_is_learnt_from_strokes_that_may_lie_elsewhere(folder, monkeypatch):
    from scribbleseg.annotate import mind

    monkeypatch.setattr(mind, "SCAN_S", 0.2)
    project = Project(folder)
    learner = Learner(project, "cpu")
    with page_of_project(project, learner) as page:
        send(page, 1, add(0, ((3, 3), (20, 3)), 3), add(1, ((3, 30), (20, 30)), 3))
        assert learner.wait(120)
        assert learner.prediction(1) is not None
        replace(folder, (50, 30))
        until(lambda: learner.prediction(1) is None and "two classes" in learner.status()["instant"]["message"])
        send(page, 1, add(1, ((3, 40),), 3))
        assert learner.wait(120)
        found = learner.prediction(1)
        assert found is not None
        assert found.labels.shape == (50, 30)
        json.dumps(learner.status())


def until(true):
    end = time.monotonic() + 120
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)
