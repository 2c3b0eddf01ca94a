from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from scribbleseg.check.run import check
from scribbleseg.data.folder import open_dataset
from scribbleseg.data.vector import read_strokes
from scribbleseg.training.run import train
from tests.annotate.conftest import page_of
from tests.fake.drawing import add, picture_folder, send
from tests.training.test_run import small

STEMS = ["2023/p0", "2024/p0", "2024/p1", "2024/summer/p0", "p0"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Pictures in folders, two of one name; and what is no picture of this folder."""
    root = picture_folder(tmp_path / "photos", 1, (64, 80))
    for folder, number in (("2023", 1), ("2024", 2), ("2024/summer", 1)):
        picture_folder(root / folder, number, (64, 80))
    for hidden in (".trash", "2024/.thumbnails", "2024/found/overlays"):
        picture_folder(root / hidden, 1)
    picture_folder(root / "2024" / "found", 1)  # what `predict --out photos/2024/found` leaves
    return root


def stems(page) -> list[str]:
    return list(page.get("/api/images").json()["stem"])


def image(page, stem: str) -> int:
    columns = page.get("/api/images").json()
    return int(columns["id"][columns["stem"].index(stem)])


def two_strokes(page, stem: str) -> None:
    send(page, image(page, stem), add(1, ((5, 5), (70, 9)), 5), add(0, ((2, 50), (70, 50)), 5))


def test_pictures_in_folders_are_listed_and_what_we_write_is_not(photos):
    for _ in range(2):  # also when the labels are there
        with page_of(photos) as page:
            assert stems(page) == STEMS
            two_strokes(page, "2024/p0")


def test_two_of_one_name_are_two_images(photos):
    with page_of(photos) as page:
        two_strokes(page, "2024/p0")
        send(page, image(page, "2023/p0"), add(1, ((40, 20),), 9))
        page.project.files.flush()
        one, other = (page.project.labels(image(page, stem)) for stem in ("2024/p0", "2023/p0"))
        assert one[20, 40] == 255
        assert other[20, 40] == 1
    assert len(read_strokes(photos / "strokes/2024/p0.json")[0]) == 2
    assert len(read_strokes(photos / "strokes/2023/p0.json")[0]) == 1
    dataset = open_dataset(photos)
    assert dataset.stems("train") == ("2023/p0", "2024/p0")
    assert np.array_equal(dataset.labels("2023/p0", "scribbles"), other)
    assert not np.array_equal(dataset.rgb("2024/p0"), dataset.rgb("2024/p1"))


def test_they_pass_the_check_and_are_trained_on(photos, tmp_path):
    with page_of(photos) as page:
        for stem in STEMS:
            two_strokes(page, stem)
        page.project.dataset()
    found = check(photos, jobs=1)
    assert found.usable
    model = train(small(photos, training={"max_steps": 2, "val_every": 2}), tmp_path / "run")
    assert (model / "model.safetensors").is_file()


def test_a_change_on_the_disk_and_a_restart_find_the_right_image(photos):
    with page_of(photos) as page:
        two_strokes(page, "2024/p0")
    (photos / "strokes/2024/p1.json").write_bytes((photos / "strokes/2024/p0.json").read_bytes())
    with page_of(photos) as page:
        page.project.swept.wait(60)
        columns = page.get("/api/images").json()
        assert dict(zip(columns["stem"], columns["strokes"], strict=True)) == {
            stem: 2 if stem in ("2024/p0", "2024/p1") else 0 for stem in STEMS
        }


@pytest.mark.parametrize("target", ["dataset", "strokes", "index", "napari", "coco", "cvat", "qupath"])
def test_strokes_are_exported_from_each_folder(photos, target):
    with page_of(photos) as page:
        for stem in ("2024/p0", "2023/p0"):
            two_strokes(page, stem)
        told = page.get(f"/api/export/strokes?format={target}")
        assert told.status_code == 200, told.text
        again = picture_folder(photos.parent / "again", 1, (64, 80))
        for folder in ("2023", "2024"):
            picture_folder(again / folder, 1, (64, 80))
        with page_of(again) as other:
            files = {"file": ("strokes.zip", told.content)}
            joined = other.post("/api/import", files=files, data={"format": target}).json()
            assert (joined["converted"], joined["failed"]) == (2, [])
            for stem in ("2024/p0", "2023/p0"):
                assert np.array_equal(other.project.labels(image(other, stem)), page.project.labels(image(page, stem)))


def test_an_import_without_folders_finds_a_name_that_is_there_once(photos):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive, page_of(photos) as page:
        two_strokes(page, "2024/p0")
        page.project.files.flush()
        for name in ("p0", "p1"):
            archive.write(photos / "scribbles/2024/p0.png", f"{name}.png")
    packed.seek(0)
    with page_of(photos) as page:
        files = {"file": ("labels.zip", packed.getvalue())}
        joined = page.post("/api/import", files=files, data={"format": "index"}).json()
        assert joined["converted"] == 2, joined
        assert (page.project.labels(image(page, "2024/p1")) != 255).any()
        assert (page.project.labels(image(page, "p0")) != 255).any(), "of several the one at the top has this very name"


def test_pictures_in_folders_alone_are_enough(tmp_path):
    picture_folder(tmp_path / "photos" / "2024", 2)
    with page_of(tmp_path / "photos") as page:
        assert stems(page) == ["2024/p0", "2024/p1"]


def test_a_folder_that_is_a_link_is_not_looked_into(photos):
    (photos / "2024" / "around").symlink_to(photos, target_is_directory=True)
    with page_of(photos) as page:
        assert stems(page) == STEMS


def test_the_labels_of_a_data_set_inside_are_no_pictures(photos):
    with page_of(photos / "2024") as page:
        send(page, 1, add())
    with page_of(photos) as page:
        assert stems(page) == STEMS


def test_a_folder_whose_name_is_in_the_way_of_a_label_file_is_told(photos):
    picture_folder(photos / "p0.json", 1)
    said: list[str] = []
    from scribbleseg.annotate.project import Project

    project = Project(photos, said.append)
    assert [row.stem for row in project.images()] == STEMS
    assert "p0.json/p0.png" in " ".join(said)
    project.close()
