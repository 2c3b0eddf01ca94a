"""What the writers promise beside labels that come back: places in the patient, ilastik's layout, what cannot be held."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
import yaml
from PIL import Image

from scribbleseg.data.convert import convert
from scribbleseg.data.folder import open_dataset
from scribbleseg.data.formats.contents import Options
from scribbleseg.data.formats.ilastik_project import BLOCK_PX, written_project
from scribbleseg.data.images import image_size
from scribbleseg.data.vector import write_strokes
from scribbleseg.errors import DataError
from scribbleseg.records import Stroke
from tests.data.formats.test_round_trips import LINES, draw_lines, labels_of
from tests.fake.annotations import write_nifti, write_pictures
from tests.fake.datasets import make_dataset, write_image

AFFINE = np.array([[0.0, -1.5, 0.0, 10.0], [1.25, 0.0, 0.0, -20.0], [0.0, 0.0, 8.0, 5.0], [0.0, 0.0, 0.0, 1.0]])


class TestNifti:
    def test_a_slice_stays_where_it_lies_in_the_patient(self, tmp_path):
        labels = np.full((7, 9, 4), 255, np.uint8)
        labels[2, 3:6, 1:3], labels[5, 1:4, 1:3] = 0, 1
        image = nibabel.Nifti1Image(labels, AFFINE)
        image.header.set_xyzt_units("mm")
        (tmp_path / "in").mkdir()
        nibabel.save(image, tmp_path / "in/p1_scribble.nii")
        nibabel.save(nibabel.Nifti1Image(np.arange(7 * 9 * 4, dtype=np.int16).reshape(7, 9, 4), AFFINE), tmp_path / "in/p1.nii")
        assert convert(tmp_path / "in", tmp_path / "out", target="nifti").converted == 2
        for k in (1, 2):
            for name in (f"p1_slice_{k:04d}_scribble", f"p1_slice_{k:04d}"):
                found = nibabel.load(tmp_path / f"out/{name}.nii.gz")
                np.testing.assert_allclose(found.affine @ (3, 4, 0, 1), AFFINE @ (3, 4, k, 1))
                assert found.header.get_xyzt_units()[0] == "mm"
            np.testing.assert_array_equal(
                np.asarray(nibabel.load(tmp_path / f"out/p1_slice_{k:04d}_scribble.nii.gz").dataobj)[..., 0], labels[..., k]
            )

    def test_scans_of_our_own_folder_keep_their_place_too(self, tmp_path):
        write_nifti(tmp_path / "data/images/p.nii", np.arange(8 * 6 * 3, dtype=np.uint8).reshape(8, 6, 3))
        labels = np.full((6, 8), 255, np.uint8)
        labels[1, 1:4], labels[4, 2:5] = 0, 1
        write_image(tmp_path / "data/scribbles/p@002.png", labels)
        (tmp_path / "data/train.txt").write_text("p@002\n")
        spec = {"name": "n", "names": {0: "background", 1: "leaf"}, "splits": {"train": "train.txt"}}
        (tmp_path / "data/dataset.yaml").write_text(yaml.safe_dump(spec))
        convert(tmp_path / "data", tmp_path / "out", target="nifti")
        found = nibabel.load(tmp_path / "out/p@002_scribble.nii.gz")
        np.testing.assert_allclose(found.affine @ (0, 0, 0, 1), (0, 0, 2, 1))
        np.testing.assert_array_equal(np.asarray(found.dataobj)[..., 0].T, labels)

    def test_without_a_place_the_header_says_so(self, tmp_path):
        convert(make_dataset(tmp_path / "data"), tmp_path / "out", target="nifti")
        header = nibabel.load(tmp_path / "out/image_000_scribble.nii.gz").header
        assert (int(header["sform_code"]), int(header["qform_code"])) == (0, 0)

    def test_colours_come_back(self, tmp_path):
        root = make_dataset(tmp_path / "data")
        convert(root, tmp_path / "nifti", target="nifti")
        convert(tmp_path / "nifti", tmp_path / "out")
        before, after = open_dataset(root), open_dataset(tmp_path / "out")
        np.testing.assert_array_equal(after.rgb("image_000"), before.rgb("image_000"))


class TestIlastik:
    def test_the_layout_is_ilastiks(self, tmp_path):
        """Names of groups, axes and blocks as ilastik 1.4 writes them; the project is found beside its pictures."""
        root = make_dataset(tmp_path / "data", num_images=3)
        convert(root, tmp_path / "out", target="ilastik")
        labels = labels_of(root)
        with h5py.File(tmp_path / "out/project.ilp") as file:
            assert file["workflowName"][()] == b"Pixel Classification"
            assert file["PixelClassification/LabelNames"][()].tolist() == [b"background", b"leaf", b"stone"]
            assert file["PixelClassification/LabelColors"].shape == (3, 3)
            assert list(file["Input Data/infos"]) == ["lane0000", "lane0001", "lane0002"]
            for lane in range(3):
                info = file[f"Input Data/infos/lane{lane:04d}/Raw Data"]
                picture = tmp_path / "out" / info["filePath"][()].decode()
                assert image_size(picture) == (48, 64)
                assert info["shape"][()].tolist() == [48, 64, 3]
                assert [axis["key"] for axis in json.loads(info["axistags"][()])["axes"]] == ["y", "x", "c"]
                seen = np.zeros((48, 64, 1), np.uint8)
                for block in file[f"PixelClassification/LabelSets/labels{lane:03d}"].values():
                    (top, bottom), (left, right), channel = (
                        tuple(map(int, span.split(":"))) for span in str(block.attrs["blockSlice"]).strip("[]").split(",")
                    )
                    assert channel == (0, 1)
                    seen[top:bottom, left:right] = block[()]
                expected = labels[picture.stem]
                np.testing.assert_array_equal(seen[..., 0], np.where(expected == 255, 0, expected + 1))

    def test_only_blocks_with_labels_are_written(self, tmp_path):
        labels = np.zeros((BLOCK_PX + 10, 2 * BLOCK_PX), np.uint8)
        labels[-1, -1] = 3
        with written_project(tmp_path / "p.ilp", ("a", "b", "c")) as add:
            add("images/x.png", 1, labels)
        with h5py.File(tmp_path / "p.ilp") as file:
            (block,) = file["PixelClassification/LabelSets/labels000"].values()
            assert block.attrs["blockSlice"] == f"[{BLOCK_PX}:{BLOCK_PX + 10},{BLOCK_PX}:{2 * BLOCK_PX},0:1]"

    def test_the_label_images_alone_hold_the_same(self, tmp_path):
        root = make_dataset(tmp_path / "data", num_images=3)
        convert(root, tmp_path / "made", target="ilastik")
        (tmp_path / "made/project.ilp").unlink()
        convert(tmp_path / "made", tmp_path / "out", source="ilastik")
        for stem, labels in labels_of(root).items():
            np.testing.assert_array_equal(labels_of(tmp_path / "out")[stem], labels)

    def test_folders_in_names_are_kept(self, tmp_path):
        root = make_dataset(tmp_path / "data", num_images=2)
        for kind in ("images", "scribbles", "masks"):
            for k in range(2):
                (root / kind / f"arm{k}").mkdir()
                (root / kind / f"image_00{k}.png").rename(root / kind / f"arm{k}/x.png")
        for split in ("train", "val", "test"):
            (root / f"splits/{split}.txt").write_text("arm0/x\narm1/x\n")
        convert(root, tmp_path / "made", target="ilastik")
        convert(tmp_path / "made", tmp_path / "out")
        assert sorted(labels_of(tmp_path / "out")) == ["arm0/x", "arm1/x"]

    def test_a_name_that_means_several_files_to_ilastik_is_left_out(self, tmp_path):
        root = make_dataset(tmp_path / "data", num_images=3)
        convert(root, tmp_path / "copy")
        for kind in ("images", "scribbles", "masks"):
            (tmp_path / f"copy/{kind}/image_000.png").rename(tmp_path / f"copy/{kind}/a[1].png")
        (tmp_path / "copy/train.txt").write_text("a[1]\nimage_001\n")
        summary = convert(tmp_path / "copy", tmp_path / "out", target="ilastik")
        assert [stem for stem, _ in summary.failed] == ["a[1]"]
        assert not list((tmp_path / "out").rglob("a[[]*"))


def open_rgb(path: Path) -> bool:
    with Image.open(path) as picture:
        return picture.mode == "RGB"


@pytest.mark.parametrize("name", ["ilastik", "nnunet"])
def test_all_pictures_get_the_same_channels(name, tmp_path):
    """nnU-Net and ilastik refuse a set of grey and RGB pictures: grey becomes RGB, colours never grey."""
    root = make_dataset(tmp_path / "data", num_images=3, spec={"splits": {"train": "all.txt"}})
    (root / "all.txt").write_text("image_000\nimage_001\nimage_002\n")
    path = root / "images/image_001.png"
    write_image(path, np.full((48, 64), 90, np.uint8))
    convert(root, tmp_path / "out", target=name)
    pictures = sorted((tmp_path / "out").glob("images*/*.png"))
    assert [open_rgb(p) for p in pictures] == [True] * 3
    (root / "all.txt").write_text("image_001\nimage_000\nimage_002\n")
    summary = convert(root, tmp_path / "other", target=name)
    assert summary.converted == 1
    assert {error.got for _, error in summary.failed} == {"colours"}


class TestScribbleSup:
    def set_of(self, root, *strokes):
        write_pictures(root / "images", ["a", "b"], (20, 30))
        for stem in "ab":
            write_strokes(root / f"strokes/{stem}.json", strokes if stem == "a" else strokes[:1], (20, 30))
        return root

    def test_points_between_pixels_keep_their_place(self, tmp_path):
        root = make_dataset(tmp_path / "data", num_images=3, size=(37, 53))
        draw_lines(root, **LINES["scribblesup"])
        convert(root, tmp_path / "made", target="scribblesup")
        assert "<X>4.75</X>" in (tmp_path / "made/image_000.xml").read_text()
        convert(tmp_path / "made", tmp_path / "out")
        assert (tmp_path / "out/strokes/image_000.json").is_file()

    def test_whole_pixels_are_whole_numbers(self, tmp_path):
        line = Stroke(0, 3.0, np.array([[2.5, 3.5], [20.5, 3.5]]))
        other = Stroke(1, 3.0, np.array([[2.5, 13.5], [20.5, 13.5]]))
        convert(
            self.set_of(tmp_path / "in", line, other),
            tmp_path / "out",
            Options(names=("background", "dog")),
            target="scribblesup",
        )
        text = (tmp_path / "out/a.xml").read_text()
        assert "<X>2</X>" in text
        assert "<tag>dog</tag>" in text

    @pytest.mark.parametrize(
        ("extra", "got"),
        [
            (Stroke(0, 3.0, np.array([[2.5, 3.5]]), "eraser"), "an eraser"),
            (Stroke(1, 5.0, np.array([[2.5, 13.5]])), "3, 5"),
        ],
    )
    def test_what_lines_without_width_cannot_say_is_left_out(self, extra, got, tmp_path):
        line = Stroke(0, 3.0, np.array([[2.5, 3.5], [20.5, 3.5]]))
        root = self.set_of(tmp_path / "in", line, extra)
        summary = convert(root, tmp_path / "out", Options(names=("background", "dog")), target="scribblesup")
        assert [(stem, error.got) for stem, error in summary.failed] == [("a", got)]
        assert not (tmp_path / "out/a.xml").exists()

    def test_masks_are_refused(self, tmp_path):
        with pytest.raises(DataError, match="pixels alone"):
            convert(make_dataset(tmp_path / "data"), tmp_path / "out", target="scribblesup")
