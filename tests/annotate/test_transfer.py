from __future__ import annotations

import io
import json
import os
import zipfile

import numpy as np
import pytest
from PIL import Image as Pillow

from scribbleseg.annotate.learner import Learner
from scribbleseg.annotate.predicted import Progress, export_predictions
from scribbleseg.annotate.project import Project
from scribbleseg.annotate.transfer import export_model
from scribbleseg.data.formats import FORMATS
from scribbleseg.errors import DataError, ScribblesegError
from tests.annotate.conftest import page_of, page_of_project
from tests.annotate.test_drawing import labels_of, state_of
from tests.fake.drawing import add, op, send
from tests.fake.learning import Learned

WRITTEN = [name for name, each in FORMATS.items() if each.writes]


def bring(page, data, name="strokes.zip", **texts):
    return page.post("/api/import", files={"file": (name, data, "application/octet-stream")}, data=texts)


def exported(page, what):
    answer = page.get(f"/api/export/{what}")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/zip"
    return answer.content


def draw(page):
    send(page, 1, add(1, ((5, 5), (50, 9)), 5), add(0, ((2, 30), (50, 30)), 5))
    return labels_of(page, 1)


@pytest.mark.parametrize("name", WRITTEN)
def test_strokes_go_out_in_every_format(page, name):
    draw(page)
    with zipfile.ZipFile(io.BytesIO(exported(page, f"strokes?format={name}"))) as archive:
        assert archive.testzip() is None
        assert [n for n in archive.namelist() if "p0" in n or n.endswith((".json", ".xml"))]
    assert not list((page.project.state / "exports").iterdir())


@pytest.mark.parametrize("name", ["dataset", "index", "strokes"])
def test_what_went_out_comes_back_and_can_be_undone(page, name):
    drawn = draw(page)
    archive = exported(page, f"strokes?format={name}")
    send(page, 1, op("clear"))
    told = bring(page, archive, format=name).json()
    assert (told["converted"], told["failed"]) == (1, [])
    assert (labels_of(page, 1) == drawn).all()
    while state_of(page, 1)["strokes"] or state_of(page, 1)["has_base"]:
        assert send(page, 1, op("undo")).status_code == 200
    assert (labels_of(page, 1) == 255).all()


def test_unknown_classes_are_added_and_images_of_other_names_told(page):
    tree = {"version": 1, "size": [60, 40], "strokes": [{"class": 2, "width_px": 3, "points": [[5, 5], [9, 9]]}]}
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("strokes/p1.json", json.dumps(tree))
        archive.writestr("strokes/stranger.json", json.dumps(tree))
        archive.writestr("names.txt", "background\nobject\nleaf <b>\n")
    told = bring(page, data.getvalue(), format="strokes").json()
    assert told["converted"] == 1
    assert [failed["where"] for failed in told["failed"]] == ["stranger"]
    assert [c["name"] for c in page.get("/api/project").json()["classes"]] == ["background", "object", "leaf <b>"]
    assert set(np.unique(labels_of(page, 2))) == {2, 255}


@pytest.mark.parametrize("name", ["../../evil.json", "/etc/evil.json", "strokes/../../evil.json", "a\\..\\..\\evil.json"])
def test_archives_that_leave_the_folder(page, folder, name):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(name, "{}")
    assert bring(page, data.getvalue()).status_code == 422
    assert not list(folder.parent.rglob("evil.json"))
    assert not list((page.project.state / "imports").iterdir())


def test_archives_of_enormous_files(page, monkeypatch):
    import scribbleseg.annotate.transfer as transfer

    monkeypatch.setattr(transfer, "MAX_UNPACKED", 1000)
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.json", " " * 10_000)
    assert bring(page, data.getvalue()).status_code == 422


@pytest.mark.parametrize(("name", "data"), [("x.zip", b"PK broken"), ("x.json", b"{"), ("../x", b""), ("x.bin", b"\0" * 99)])
def test_files_that_are_no_strokes(page, name, data):
    answer = bring(page, data, name)
    assert answer.status_code == 422
    assert set(answer.json()) == {"where", "expected", "got", "do"}


def test_nothing_to_export_is_said(page):
    for what in ("strokes?format=dataset", "strokes?format=nothing", "predictions?format=png", "predictions?format=x", "model"):
        assert page.get(f"/api/export/{what}").status_code == 422


def test_predictions_of_every_image_go_out_at_its_size(folder):
    with page_of(folder, learner=Learned()) as page:
        for kind, suffix in (("png", "png"), ("tiff", "tif"), ("geojson", "geojson")):
            with zipfile.ZipFile(io.BytesIO(exported(page, f"predictions?format={kind}"))) as archive:
                assert archive.namelist() == [*(f"p{k}.{suffix}" for k in range(3)), "names.txt", "about.txt"]
                assert archive.testzip() is None
                assert archive.read("about.txt").decode() == "model: a stand-in, no. 3\nimages: 3 of 3\n"
                name = next(n for n in archive.namelist() if n.endswith(suffix))
                if kind == "png":
                    mask = np.asarray(Pillow.open(io.BytesIO(archive.read(name))))
                    assert mask.shape == (40, 60)
                    assert (mask[:, :30] == 0).all()
                    assert (mask[:, 30:] == 1).all()
                if kind == "geojson":
                    assert json.loads(archive.read(name))["features"]


def test_an_export_goes_on_over_images_that_cannot_be_predicted_and_leaves_nothing_behind(folder):
    class Failing(Learned):
        def predictions(self, images):
            for image in images:
                told.append(progress.tree())
                yield image, DataError("p1", "a picture", "a broken one", "mend it") if image == 2 else self.prediction(1)

    told, progress = [], Progress()
    project = Project(folder)
    data = b"".join(export_predictions(project, Failing(), "png", progress))
    project.close()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.namelist() == ["p0.png", "p2.png", "names.txt", "about.txt"]
        assert "images: 2 of 3\nnot predicted: p1" in archive.read("about.txt").decode()
    assert told == [None, {"done": 0, "of": 3}, {"done": 1, "of": 3}]
    assert progress.tree() is None
    assert not list((folder / ".scribbleseg" / "exports").iterdir())


def test_the_newest_model_is_that_of_the_last_run_whatever_the_clock_said(folder, tmp_path):
    project = Project(folder)
    for number in (1, 2, 10):
        model = project.state / "runs" / f"{number:04d}" / "run" / "model"
        model.mkdir(parents=True)
        (model / "model.safetensors").write_text(str(number))
        os.utime(model / "model.safetensors", (4e9 - number, 4e9 - number))
    with zipfile.ZipFile(export_model(project, tmp_path)) as archive:
        assert archive.read("model.safetensors") == b"10"
    project.close()


def test_an_export_that_is_broken_off_leaves_nothing_behind(folder):
    project, progress = Project(folder), Progress()
    parts = export_predictions(project, Learned(), "geojson", progress)
    next(parts)
    parts.close()
    project.close()
    assert progress.tree() is None
    assert not list((folder / ".scribbleseg" / "exports").iterdir())


def test_the_learner_predicts_images_that_nobody_looked_at_with_one_model(folder):
    project = Project(folder)
    learner = Learner(project, "cpu")
    with page_of_project(project, learner) as page:
        assert page.get("/api/export/predictions?format=png").status_code == 422
        send(page, 1, add(0, ((3, 3), (50, 3)), 5), add(1, ((3, 30), (50, 30)), 5))
        assert learner.wait(120)
        (folder / "p2.png").write_bytes(b"broken by now")
        with zipfile.ZipFile(io.BytesIO(exported(page, "predictions?format=png"))) as archive:
            assert archive.namelist() == ["p0.png", "p1.png", "names.txt", "about.txt"]
            told = archive.read("about.txt").decode()
            mask = np.asarray(Pillow.open(io.BytesIO(archive.read("p1.png"))))
        assert mask.shape == (40, 60)
        assert set(np.unique(mask)) <= {0, 1}
        assert told.startswith("model: instant, 2 strokes, no. ")
        assert "\nimages: 2 of 3\nnot predicted: " in told


def test_who_waits_for_a_prediction_is_told_when_the_learner_stops(folder):
    project = Project(folder)
    learner = Learner(project, "cpu")
    learner.close()
    with pytest.raises(ScribblesegError, match="stopped"):
        learner.predictions([1])
    project.close()


def test_a_prediction_is_shown_with_what_it_knew(folder):
    learner = Learned()
    with page_of(folder, learner=learner) as page:
        send(page, 1, add(1))
        told = page.get("/api/images/1/prediction").json()
        assert told["model"] == {"kind": "instant", "number": 3, "title": "a stand-in", "trained_on": 1, "seen": True}
        assert (told["version"], told["stale_strokes"], told["width"], told["height"]) == (0, 1, 30, 20)
        labels = np.asarray(Pillow.open(io.BytesIO(page.get("/api/images/1/prediction/labels").content)))
        assert labels.shape == (20, 30)
        assert page.get("/api/images/1/prediction/doubt").status_code == 200
        assert page.get("/api/images/1/prediction?model=network").status_code == 404
        assert page.get("/api/images").json()["doubt"] == [0.5, None, None]
        assert page.get("/api/next").json()["places"][0]["image"] == 1
        assert page.get("/api/status?image=1").json()["image"] == {"version": 1, "prediction_number": 3}
        assert page.post("/api/training", json={"action": "start", "max_steps": 5}).status_code == 200
        assert page.post("/api/training", json={"action": "fly"}).status_code == 422
    assert [call for call in learner.calls if call[0] != "look"] == [("strokes", 1), ("start", 5), ("close",)]
