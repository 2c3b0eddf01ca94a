from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image as Pillow

from scribbleseg.data.folder import open_dataset
from scribbleseg.data.vector import rasterise, read_strokes
from tests.annotate.conftest import page_of
from tests.fake.datasets import make_dataset
from tests.fake.drawing import add, change, op, picture_folder, send, stroke


def labels_of(client, image):
    answer = client.get(f"/api/images/{image}/labels")
    assert answer.headers["content-type"] == "image/png"
    picture = Pillow.open(io.BytesIO(answer.content))
    assert picture.mode == "L"
    return np.asarray(picture)


def state_of(client, image):
    return client.get(f"/api/images/{image}").json()


def test_a_folder_of_pictures_becomes_a_data_set_and_no_picture_is_touched(folder):
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.glob("*.png")}
    with page_of(folder) as page:
        assert page.get("/api/images").json()["stem"] == ["p0", "p1", "p2"]
        assert send(page, 2, add(1), add(0, ((2, 30), (50, 30)))).status_code == 200
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.glob("*.png")} == before
    dataset = open_dataset(folder)
    assert dataset.names == ("background", "object")
    assert dataset.stems("train") == ("p1",)


def test_a_training_reads_what_the_page_drew(folder):
    with page_of(folder) as page:
        send(page, 1, add(1), add(0, ((2, 30), (50, 30))), add(0, ((10, 10),), 9, "eraser"))
        drawn = labels_of(page, 1)
        assert set(np.unique(drawn)) == {0, 1, 255}
        assert (page.project.dataset().labels("p0", "scribbles") == drawn).all()
    dataset = open_dataset(folder)
    assert (dataset.labels("p0", "scribbles") == drawn).all()
    strokes, size = read_strokes(folder / "strokes" / "p0.json")
    assert (rasterise(strokes, size) == drawn).all()


def test_undo_and_redo_reach_back_to_the_first_stroke_and_survive_a_restart(folder):
    with page_of(folder) as page:
        seen = [labels_of(page, 1)]
        first, second = add(1), add(0, ((2, 30), (50, 30)))
        for command in (first, second, op("reclass", stroke=first["id"], **{"class": 0}), op("remove", stroke=second["id"])):
            assert send(page, 1, command).status_code == 200
            seen.append(labels_of(page, 1))
        send(page, 1, op("clear"))
        assert (labels_of(page, 1) == 255).all()
    with page_of(folder) as page:
        for expected in reversed(seen):
            assert state_of(page, 1)["can_undo"]
            send(page, 1, op("undo"))
            assert (labels_of(page, 1) == expected).all()
        assert not state_of(page, 1)["can_undo"]
        assert send(page, 1, op("undo")).status_code == 422
        for expected in seen[1:]:
            send(page, 1, op("redo"))
            assert (labels_of(page, 1) == expected).all()
        answer = send(page, 1, add(1)).json()
        assert (answer["can_undo"], answer["can_redo"]) == (True, False)


def test_a_command_sent_again_is_not_done_again(page):
    command = add(1)
    first, again = (send(page, 1, command, version=0) for _ in range(2))
    assert first.json() == again.json()
    both = send(page, 1, command, add(0), version=0)
    assert (both.status_code, both.json()["strokes"], both.json()["version"]) == (200, 2, 2)


def test_another_tab_is_told_and_nothing_of_its_request_is_done(page):
    send(page, 1, add(1), version=0)
    refused = send(page, 1, add(0), add(0), version=0)
    assert refused.status_code == 412
    assert refused.json()["image"]["version"] == 1
    assert len(refused.json()["image"]["strokes"]) == 1
    assert state_of(page, 1)["version"] == 1


def test_of_several_commands_all_are_done_or_none(page):
    assert send(page, 1, add(1), op("remove", stroke="nobody")).status_code == 422
    assert (state_of(page, 1)["version"], state_of(page, 1)["strokes"]) == (0, [])
    assert send(page, 1, add(1), version=0).status_code == 200


def test_a_version_is_needed(page):
    assert page.post("/api/images/1/commands", json={"commands": [add(1)]}).status_code == 422


def test_done_survives_a_restart(folder):
    with page_of(folder) as page:
        assert page.put("/api/images/3/done", json={"done": True}).status_code == 200
    with page_of(folder) as page:
        assert page.get("/api/images").json()["done"] == [False, False, True]


def test_classes_are_renumbered_everywhere_at_once(folder):
    with page_of(folder) as page:
        assert change(page, op="add", name="leaf").status_code == 200
        send(page, 1, add(2), add(0, ((2, 30), (50, 30))))
        before = labels_of(page, 1)
        answer = change(page, op="reorder", order=[2, 0, 1]).json()
        assert [c["name"] for c in answer["classes"]] == ["leaf", "background", "object"]
        after = labels_of(page, 1)
        assert ((after == 0) == (before == 2)).all()
        assert ((after == 1) == (before == 0)).all()
        assert send(page, 1, add(2), version=2).status_code == 412  # a tab that still has the old numbers
    assert open_dataset(folder).names == ("leaf", "background", "object")
    assert (open_dataset(folder).labels("p0", "scribbles") == after).all()


def test_a_stroke_that_names_its_class_by_key_means_it_under_any_numbering(folder):
    with page_of(folder) as page:
        known = {c["name"]: c["key"] for c in change(page, op="add", name="leaf").json()["classes"]}
        first = add(2) | {"stroke": stroke(2) | {"class_key": known["leaf"]}}
        assert send(page, 1, first, version=0).status_code == 200
        change(page, op="reorder", order=[2, 0, 1])
        late = [
            {"id": "late", "op": "add", "stroke": stroke(1, ((2, 30), (50, 30))) | {"class_key": known["object"]}},
            {"id": "later", "op": "reclass", "stroke": first["id"], "class": 0, "class_key": known["background"]},
        ]
        assert send(page, 1, late[0], add(0), version=1).status_code == 412  # one of them says an old number only
        answer = send(page, 1, *late, version=1)  # drawn by a tab that had not heard of the new order
        assert (answer.status_code, answer.json()["version"]) == (200, 4)
        assert send(page, 1, *late, version=1).json()["version"] == 4  # the answer was lost: not done twice
        assert [(s["class"], s["class_key"]) for s in state_of(page, 1)["strokes"]] == [
            (1, known["background"]),
            (2, known["object"]),
        ]
        fresh = {"id": "new", "op": "add", "stroke": stroke(2) | {"class_key": known["object"]}}
        assert send(page, 1, fresh, version=1).status_code == 412  # somebody drew in between
        assert page.get("/api/project").json()["class_ids"] == {
            str(known[n]): k for k, n in enumerate(("leaf", "background", "object"))
        }
    assert set(np.unique(open_dataset(folder).labels("p0", "scribbles"))) == {1, 2, 255}


def test_the_key_of_a_merged_class_is_the_one_it_became_and_that_of_a_deleted_one_is_refused(folder):
    with page_of(folder) as page:
        change(page, op="add", name="leaf")
        keys = [c["key"] for c in change(page, op="add", name="stem").json()["classes"]]
        change(page, op="merge", into=1, **{"class": 3})
        change(page, op="delete", **{"class": 2})
        drawn = [{"id": f"k{key}", "op": "add", "stroke": stroke(0) | {"class_key": key}} for key in keys]
        assert send(page, 1, drawn[3], version=0).status_code == 200
        assert [s["class"] for s in state_of(page, 1)["strokes"]] == [1]
        refused = send(page, 1, drawn[2])
        assert refused.status_code == 422
        assert "gone" in refused.json()["got"]
        assert len(state_of(page, 1)["strokes"]) == 1


def test_merging_keeps_strokes_and_deleting_takes_them_away(folder):
    with page_of(folder) as page:
        change(page, op="add", name="leaf")
        change(page, op="add", name="stem")
        send(page, 1, add(2), add(3, ((2, 30), (50, 30))), add(0, ((2, 38), (50, 38)), 1))
        merged = change(page, op="merge", into=2, **{"class": 3}).json()
        assert merged["strokes_touched"] == 1
        assert [c["strokes"] for c in merged["classes"]] == [1, 0, 2]
        deleted = change(page, op="delete", **{"class": 2}).json()
        assert deleted["strokes_touched"] == 2
        assert set(np.unique(labels_of(page, 1))) == {0, 255}
        assert change(page, op="delete", **{"class": 1}).status_code == 422
    with page_of(folder) as page:
        assert [c["name"] for c in page.get("/api/project").json()["classes"]] == ["background", "object"]
        assert set(np.unique(labels_of(page, 1))) == {0, 255}


@pytest.mark.parametrize("name", ["", "  ", "object", "a\nb", "x" * 201, "\x00"])
def test_names_that_no_class_can_have(page, name):
    assert change(page, op="add", name=name).status_code == 422


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "yes: [no", "null", "é — ' \"", "{}", "#x", "12"])
def test_names_go_into_the_data_set_as_they_are(folder, name):
    with page_of(folder) as page:
        assert change(page, op="rename", name=name, **{"class": 1}).status_code == 200
    assert open_dataset(folder).names == ("background", name)


def test_strokes_written_by_another_program_are_taken_over_and_can_be_undone(folder):
    with page_of(folder) as page:
        send(page, 1, add(1))
        ours = labels_of(page, 1)
        page.project.files.flush()
        path = folder / "strokes" / "p0.json"
        tree = json.loads(path.read_text())
        tree["strokes"][0]["points"] = [[3.0, 35.0], [50.0, 35.0]]
        path.write_text(json.dumps(tree))
        assert state_of(page, 1)["strokes"][0]["points"] == [[3.0, 35.0], [50.0, 35.0]]
        assert send(page, 1, add(0), version=1).status_code == 412
        theirs = labels_of(page, 1)
        send(page, 1, op("undo"))
        assert (labels_of(page, 1) == ours).all()
        send(page, 1, op("redo"))
        assert (labels_of(page, 1) == theirs).all()


def test_a_broken_strokes_file_is_kept_aside_and_ours_is_written(folder):
    with page_of(folder) as page:
        send(page, 1, add(1))
        page.project.files.flush()
        (folder / "strokes" / "p0.json").write_text('{"version": 1, "size": [60')
        assert "expected" in state_of(page, 1)["problem"]
        page.project.files.flush()
    assert len(read_strokes(folder / "strokes" / "p0.json")[0]) == 1
    assert [p.read_text() for p in (folder / ".scribbleseg" / "refused").iterdir()] == ['{"version": 1, "size": [60']


def test_labels_mended_by_hand_become_the_ground_and_are_never_overwritten(folder):
    with page_of(folder) as page:
        send(page, 1, add(1))
        page.project.files.flush()
        mended = np.full((40, 60), 255, np.uint8)
        mended[:10] = 0
        Pillow.fromarray(mended).save(folder / "scribbles" / "p0.png")
        assert state_of(page, 1)["has_base"]
        assert (labels_of(page, 1) == mended).all()
        send(page, 1, add(0, ((5, 5), (20, 5)), 6, "eraser"))
        assert labels_of(page, 1)[5, 10] == 255
        send(page, 1, op("undo"), op("undo"))
        assert not state_of(page, 1)["has_base"]


def test_a_data_set_with_labels_keeps_its_lists_and_labels(tmp_path):
    root = make_dataset(tmp_path / "set")
    was = open_dataset(root)
    lists = {path.name: path.read_text() for path in root.glob("*.txt")}
    stem = was.stems("train")[0]
    before = was.labels(stem, "scribbles")
    with page_of(root) as page:
        rows = page.get("/api/images").json()
        image = rows["id"][rows["stem"].index(stem)]
        assert (labels_of(page, image) == before).all()
        assert not state_of(page, image)["can_undo"]
        send(page, image, add(0, ((3, 3), (9, 9))))
        after = labels_of(page, image)
    assert (open_dataset(root).labels(stem, "scribbles") == after).all()
    assert (after != before).any()
    assert {path.name: path.read_text() for path in root.glob("*.txt")} == lists


def test_labels_that_came_with_the_data_set_are_told_before_all_files_are_looked_at(tmp_path, monkeypatch):
    from scribbleseg.annotate.files import Files

    monkeypatch.setattr(Files, "_sweep", lambda self: None)  # as if it had not come so far
    root = make_dataset(tmp_path / "set")
    stem = open_dataset(root).stems("train")[0]
    with page_of(root) as page:
        rows = page.get("/api/images").json()
        image = rows["id"][rows["stem"].index(stem)]
        assert (labels_of(page, image) == open_dataset(root).labels(stem, "scribbles")).all()


def test_twenty_pages_drawing_at_once_lose_nothing(folder):
    from concurrent.futures import ThreadPoolExecutor

    with page_of(folder) as page:

        def draw(number):
            done = []
            while len(done) < 5:
                command, image = add(number % 2, ((number, 3), (number, 30)), 1), 1 + number % 3
                if send(page, image, command).status_code == 200:
                    done.append((image, command["id"]))
            return done

        with ThreadPoolExecutor(20) as pool:
            done = [pair for each in pool.map(draw, range(20)) for pair in each]
        assert len(done) == 100
        for image in (1, 2, 3):
            ids = [s["id"] for s in state_of(page, image)["strokes"]]
            assert sorted(ids) == sorted(id_ for where, id_ in done if where == image)
    assert len(open_dataset(folder).stems("train")) == 3


def test_names_of_pictures_that_no_list_can_hold_are_left_out(tmp_path):
    folder = picture_folder(tmp_path / "odd")
    (folder / "p0.png").rename(folder / "new\nline.png")
    (folder / "p1.png").rename(folder / "<img src=x onerror=alert(1)>.png")
    with page_of(folder) as page:
        assert page.get("/api/images").json()["stem"] == ["<img src=x onerror=alert(1)>", "p2"]
