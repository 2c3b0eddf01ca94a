from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from scribbleseg.config import DataConfig
from scribbleseg.data.folder import open_dataset
from scribbleseg.data.images import read_index, write_png
from scribbleseg.data.strokes import with_strokes
from scribbleseg.data.training_labels import check_training_labels
from scribbleseg.data.vector import write_strokes
from scribbleseg.errors import ConfigError, DataError
from scribbleseg.records import Stroke
from tests.fake.datasets import make_dataset, write_lines


def change(root: Path, **keys: Any) -> Path:
    """Change keys of the yaml; None takes one away."""
    tree = yaml.safe_load((root / "dataset.yaml").read_text()) | keys
    (root / "dataset.yaml").write_text(yaml.safe_dump({k: v for k, v in tree.items() if v is not None}))
    return root


def told(error: pytest.ExceptionInfo[DataError]) -> str:
    """The message; each has all its four parts."""
    parts = error.value
    assert all([parts.where, parts.expected, parts.got, parts.do])
    return str(parts)


class TestOpening:
    def test_a_whole_data_set(self, dataset_root):
        dataset = open_dataset(dataset_root)
        assert dataset.names == ("background", "leaf", "stone")
        assert dataset.stems("train") == ("image_000", "image_001")
        assert dataset.has_masks()
        rgb, strokes, mask = (
            dataset.rgb("image_000"),
            dataset.labels("image_000", "scribbles"),
            dataset.labels("image_000", "masks"),
        )
        assert rgb.shape == (48, 64, 3)
        assert strokes.shape == mask.shape == (48, 64)
        assert set(np.unique(strokes)) == {0, 1, 2, 255}
        assert (strokes == mask)[strokes != 255].all()

    def test_the_root_may_be_text(self, dataset_root):
        assert open_dataset(str(dataset_root)) == open_dataset(dataset_root)

    def test_names_stand_in_the_order_of_their_ids(self, dataset_root):
        change(dataset_root, names={2: "c", 0: "a", 1: "b"})
        assert open_dataset(dataset_root).names == ("a", "b", "c")

    def test_no_folder(self, tmp_path):
        with pytest.raises(DataError, match="no such folder") as error:
            open_dataset(tmp_path / "nowhere")
        assert str(tmp_path / "nowhere") in told(error)

    def test_no_yaml(self, tmp_path):
        with pytest.raises(DataError, match=r"no dataset\.yaml in it") as error:
            open_dataset(tmp_path)
        assert "a folder with a dataset.yaml" in told(error)

    @pytest.mark.parametrize("content", [b"names: [1, 2", b"\xff\xfe\x00\x01", b"a: b: c"])
    def test_not_yaml(self, dataset_root, content):
        (dataset_root / "dataset.yaml").write_bytes(content)
        with pytest.raises(DataError, match="a readable YAML file") as error:
            open_dataset(dataset_root)
        assert "dataset.yaml" in told(error)

    @pytest.mark.parametrize("content", ["", "- a\n- b\n", "3\n"])
    def test_not_a_mapping(self, dataset_root, content):
        (dataset_root / "dataset.yaml").write_text(content)
        with pytest.raises(DataError, match=r"dataset\.yaml(.|\n)*valid dictionary"):
            open_dataset(dataset_root)

    @pytest.mark.parametrize(
        ("wrong", "right"), [("scribles", "scribbles"), ("unlabeled", "unlabelled"), ("mask", "masks"), ("split", "splits")]
    )
    def test_unknown_key_names_the_nearest(self, dataset_root, wrong, right):
        change(dataset_root, **{wrong: "x"})
        with pytest.raises(DataError, match=f"did you mean '{right}'") as error:
            open_dataset(dataset_root)
        assert f"'{wrong}'" in told(error)

    @pytest.mark.parametrize("key", ["name", "names", "splits"])
    def test_missing_key(self, dataset_root, key):
        change(dataset_root, **{key: None})
        with pytest.raises(DataError, match=rf"dataset\.yaml: {key}\n(.|\n)*Field required"):
            open_dataset(dataset_root)

    @pytest.mark.parametrize("names", [{0: "a"}, {1: "a", 2: "b"}, {0: "a", 2: "b"}, {}])
    def test_ids_with_gaps(self, dataset_root, names):
        change(dataset_root, names=names)
        with pytest.raises(DataError, match="class ids must run from 0 without gaps, at least two"):
            open_dataset(dataset_root)

    @pytest.mark.parametrize(
        ("keys", "words"),
        [
            ({"names": ["a", "b"]}, "names"),
            ({"names": {0: "a", 1: "b", 255: "c"}}, "less than 255"),
            ({"unlabelled": 256}, "unlabelled"),
            ({"volume": r"volume\d+_"}, "needs a group"),
            ({"volume": "("}, "volume"),
        ],
    )
    def test_wrong_values(self, dataset_root, keys, words):
        change(dataset_root, **keys)
        with pytest.raises(DataError, match=words):
            open_dataset(dataset_root)


class TestSplits:
    def test_unknown_split_names_the_nearest(self, dataset_root):
        with pytest.raises(DataError, match="did you mean 'train'") as error:
            open_dataset(dataset_root).stems("trian")
        assert "a split 'trian'" in told(error)

    @pytest.mark.parametrize("content", ["", "\n  \n\n"])
    def test_empty_list(self, dataset_root, content):
        (dataset_root / "splits" / "train.txt").write_text(content)
        with pytest.raises(DataError, match=r"train\.txt(.|\n)*at least one(.|\n)*an empty list"):
            open_dataset(dataset_root).stems("train")

    def test_missing_list(self, dataset_root):
        (dataset_root / "splits" / "val.txt").unlink()
        with pytest.raises(DataError, match=r"val\.txt(.|\n)*a list of stems, one a line"):
            open_dataset(dataset_root).stems("val")

    def test_undecodable_list(self, dataset_root):
        (dataset_root / "splits" / "val.txt").write_bytes(b"\xff\xfe\xfa")
        with pytest.raises(DataError, match=r"val\.txt(.|\n)*a list of stems"):
            open_dataset(dataset_root).stems("val")

    @pytest.mark.parametrize("stem", ["../image_000", "a/../../image_000", "/etc/image_000"])
    def test_path_that_leaves_the_folder(self, dataset_root, stem):
        write_lines(dataset_root / "splits" / "train.txt", ["image_000", stem])
        with pytest.raises(DataError, match="a path outside"):
            open_dataset(dataset_root).stems("train")

    def test_blank_lines_spaces_and_windows_line_ends(self, dataset_root):
        (dataset_root / "splits" / "train.txt").write_bytes(b" image_000 \r\n\r\nimage_001\r\n")
        assert open_dataset(dataset_root).stems("train") == ("image_000", "image_001")

    def test_dots_inside_a_name_are_no_escape(self, dataset_root):
        write_lines(dataset_root / "splits" / "train.txt", ["scan..1", "sub/scan.2"])
        assert open_dataset(dataset_root).stems("train") == ("scan..1", "sub/scan.2")


class TestLabels:
    def test_missing_scribble(self, dataset_root):
        (dataset_root / "scribbles" / "image_001.png").unlink()
        with pytest.raises(DataError, match="a label file in scribbles for every stem") as error:
            open_dataset(dataset_root).labels("image_001", "scribbles")
        assert "image_001" in told(error)
        assert "take the stem off the split list" in told(error)

    def test_missing_image(self, dataset_root):
        (dataset_root / "images" / "image_001.png").unlink()
        with pytest.raises(DataError, match="no such file") as error:
            open_dataset(dataset_root).rgb("image_001")
        assert "image_001" in told(error)

    def test_masks_that_the_yaml_does_not_name(self, tmp_path):
        dataset = open_dataset(make_dataset(tmp_path / "data", with_masks=False))
        assert not dataset.has_masks()
        with pytest.raises(DataError, match="a `masks` folder") as error:
            dataset.labels("image_000", "masks")
        assert "--labels scribbles" in told(error)

    def test_masks_that_are_named_but_not_there(self, dataset_root):
        shutil.rmtree(dataset_root / "masks")
        assert not open_dataset(dataset_root).has_masks()

    def test_another_size_than_the_image(self, dataset_root):
        write_png(dataset_root / "scribbles" / "image_000.png", np.full((24, 32), 255, np.uint8))
        with pytest.raises(DataError, match=re.escape("the size of its image, 64 × 48 pixels")) as error:
            open_dataset(dataset_root).labels("image_000", "scribbles", (48, 64))
        assert "32 × 24" in told(error)

    @pytest.mark.parametrize("kind", ["scribbles", "masks"])
    def test_id_outside_the_names(self, dataset_root, kind):
        labels = np.full((48, 64), 255, np.uint8)
        labels[0, 0], labels[1, 1], labels[2, 2] = 1, 3, 77
        write_png(dataset_root / kind / "image_000.png", labels)
        with pytest.raises(DataError, match="id 3, 77") as error:
            open_dataset(dataset_root).labels("image_000", kind)
        assert "0 background, 1 leaf, 2 stone; 255 where nobody drew" in told(error)
        assert "add the class to `names`" in told(error)

    def test_colours_in_place_of_ids(self, dataset_root):
        Image.new("RGB", (64, 48)).save(dataset_root / "scribbles" / "image_000.png")
        with pytest.raises(DataError, match="export label ids, not colours"):
            open_dataset(dataset_root).labels("image_000", "scribbles")

    def test_another_unlabelled_value_becomes_255(self, tmp_path):
        # ACDC's scribbles: classes 0 to 3, and 4 where nobody drew.
        as_4 = open_dataset(make_dataset(tmp_path / "a", num_classes=4, unlabelled=4))
        as_255 = open_dataset(make_dataset(tmp_path / "b", num_classes=4))
        with Image.open(tmp_path / "a" / "scribbles" / "image_000.png") as stored:
            assert set(np.unique(np.asarray(stored)).tolist()) == {0, 1, 2, 3, 4}
        np.testing.assert_array_equal(as_4.labels("image_000", "scribbles"), as_255.labels("image_000", "scribbles"))

    def test_a_value_cannot_be_a_class_and_mean_unlabelled(self, dataset_root):
        change(dataset_root, unlabelled=0)
        with pytest.raises(DataError, match="unlabelled: 0 is also the id of a class"):
            open_dataset(dataset_root)

    def test_masks_use_the_same_value_for_what_is_not_known(self, tmp_path):
        root = make_dataset(tmp_path / "data", num_classes=4, unlabelled=4)
        mask = np.full((48, 64), 1, np.uint8)
        mask[:5] = 4
        write_png(root / "masks" / "image_000.png", mask)
        read = open_dataset(root).labels("image_000", "masks")
        np.testing.assert_array_equal(read, np.where(mask == 4, 255, mask))

    def test_the_stored_unlabelled_value_is_in_the_message(self, tmp_path):
        root = make_dataset(tmp_path / "data", num_classes=4, unlabelled=4)
        write_png(root / "scribbles" / "image_000.png", np.full((48, 64), 5, np.uint8))
        with pytest.raises(DataError, match=r"class ids 0 background, .*; 4 where nobody drew\n.*id 5"):
            open_dataset(root).labels("image_000", "scribbles")


class TestSplitLists:
    def test_a_byte_order_mark_and_windows_line_ends_are_no_part_of_a_stem(self, dataset_root):
        write = (dataset_root / "splits" / "train.txt").write_bytes
        write("image_000\r\nimage_001\r\n".encode("utf-8-sig"))
        assert open_dataset(dataset_root).stems("train") == ("image_000", "image_001")

    def test_a_stem_twice_is_refused(self, dataset_root):
        (dataset_root / "splits" / "train.txt").write_text("image_000\nimage_001\nimage_000\n")
        with pytest.raises(DataError, match="'image_000' twice"):
            open_dataset(dataset_root).stems("train")

    def test_a_name_with_suffix_is_explained(self, dataset_root):
        with pytest.raises(DataError, match="names without suffix"):
            open_dataset(dataset_root).image_path("image_000.png")

    def test_a_name_too_long_for_any_disk_is_no_file(self, dataset_root):
        with pytest.raises(DataError, match="no such file"):
            open_dataset(dataset_root).image_path("x" * 300)


class TestTrainingLabels:
    def counts(self, root: Path, kind: str = "scribbles") -> np.ndarray:
        dataset = open_dataset(root)
        return check_training_labels(dataset, dataset.stems("train"), kind).pixels

    def test_pixels_are_counted_per_class(self, dataset_root):
        expected = np.zeros(256, int)
        for stem in ("image_000", "image_001"):
            with Image.open(dataset_root / "scribbles" / f"{stem}.png") as picture:
                expected += np.bincount(np.asarray(picture).ravel(), minlength=256)
        np.testing.assert_array_equal(self.counts(dataset_root), expected[:3])
        assert int(self.counts(dataset_root, "masks").sum()) == 2 * 48 * 64

    def test_one_image_without_strokes_is_fine(self, dataset_root):
        write_png(dataset_root / "scribbles" / "image_000.png", np.full((48, 64), 255, np.uint8))
        assert (self.counts(dataset_root) > 0).all()

    def test_one_class_an_image_is_fine(self, dataset_root):
        for c, stem in enumerate(("image_000", "image_001")):
            labels = np.full((48, 64), 255, np.uint8)
            labels[3, :5] = c
            write_png(dataset_root / "scribbles" / f"{stem}.png", labels)
        found = check_training_labels(open_dataset(dataset_root), ["image_000", "image_001"], "scribbles")
        assert (found.pixels.tolist(), found.one_class) == ([5, 5, 0], 2)
        assert check_training_labels(open_dataset(dataset_root), ["image_000", "image_001"], "masks").one_class == 0

    @pytest.mark.parametrize(("value", "got"), [(255, "nothing labelled in 2 files"), (1, "only 'leaf' in 2 files")])
    def test_fewer_than_two_classes_in_the_split(self, dataset_root, value, got):
        for stem in ("image_000", "image_001"):
            write_png(dataset_root / "scribbles" / f"{stem}.png", np.full((48, 64), value, np.uint8))
        with pytest.raises(DataError, match=got) as error:
            self.counts(dataset_root)
        assert "labelled pixels of at least two classes" in told(error)
        assert "255 is what your tool writes where nobody drew" in told(error)
        assert str(dataset_root / "scribbles") in told(error)

    def test_a_wrong_file_is_found(self, dataset_root):
        write_png(dataset_root / "scribbles" / "image_001.png", np.full((48, 64), 9, np.uint8))
        with pytest.raises(DataError, match=r"image_001\.png"):
            self.counts(dataset_root)


class TestVolumes:
    def test_first_group_names_the_volume(self, tmp_path):
        dataset = open_dataset(make_dataset(tmp_path / "data", num_volumes=2))
        assert [dataset.volume_of(s) for s in ("volume00_000", "volume01_001", "strange")] == ["volume00", "volume01", None]

    def test_no_volumes(self, dataset_root):
        assert open_dataset(dataset_root).volume_of("image_000") is None


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_images_of_any_format(tmp_path, suffix):
    dataset = open_dataset(make_dataset(tmp_path / "data", suffix=suffix))
    plain = open_dataset(make_dataset(tmp_path / "plain"))
    assert dataset.image_path("image_000").suffix == suffix
    difference = np.abs(dataset.rgb("image_000") - plain.rgb("image_000"))
    assert difference.mean() < (0.05 if suffix == ".jpg" else 1e-7)


class TestVectorStrokes:
    """``strokes/STEM.json`` beside, or instead of, ``scribbles/STEM.png``."""

    @pytest.fixture
    def root(self, dataset_root: Path) -> Path:
        strokes = [Stroke(k, 1.0, np.array([[5.5, 4.5 + 20 * k], [50.5, 4.5 + 20 * k]])) for k in (0, 1)]
        for n in (0, 1):
            write_strokes(dataset_root / "strokes" / f"image_{n:03d}.json", strokes, (48, 64))
        return change(dataset_root, strokes="strokes")

    def drawn(self, root: Path, stem: str = "image_000", **config: Any) -> np.ndarray:
        return with_strokes(open_dataset(root), DataConfig(strokes=config)).labels(stem, "scribbles", (48, 64))

    def test_the_label_file_goes_first(self, root):
        assert np.array_equal(self.drawn(root), read_index(root / "scribbles" / "image_000.png"))

    def test_vectors_are_drawn_where_there_is_no_label_file(self, root):
        (root / "scribbles" / "image_000.png").unlink()
        labels = self.drawn(root)
        assert (labels[4, 5:51] == 0).all()
        assert (labels[24, 5:51] == 1).all()
        assert (labels != 255).sum() == 2 * 46
        assert check_training_labels(open_dataset(root), ["image_000", "image_001"], "scribbles").pixels.sum() > 2 * 46

    def test_without_a_scribbles_folder_at_all(self, root):
        shutil.rmtree(root / "scribbles")
        assert (self.drawn(root) != 255).sum() == 2 * 46
        with pytest.raises(DataError, match="a label file in scribbles"):
            self.drawn(root, "image_002")

    def test_another_width_is_drawn_even_where_there_is_a_label_file(self, root):
        labels = self.drawn(root, width_px=5)
        assert (labels[2:7, 5:51] == 0).all()
        assert (labels[:, 20] != 255).sum() == 2 * 5

    def test_another_width_of_vectors_that_are_not_there(self, root):
        with pytest.raises(DataError, match=r"image_002\.json(.|\n)*No such file"):
            self.drawn(root, "image_002", width_px=5)
        change(root, strokes=None)
        with pytest.raises(ConfigError, match=r"data\.strokes\.width_px"):
            self.drawn(root, width_px=5)

    def test_another_width_where_masks_are_read(self, root):
        with pytest.raises(ConfigError, match="width_px 5"):
            with_strokes(open_dataset(root), DataConfig(labels="masks", strokes={"width_px": 5}))

    def test_widened_strokes_can_be_shortened_too(self, root):
        short, whole = self.drawn(root, width_px=5, length=0.3), self.drawn(root, width_px=5)
        assert 0 < (short != 255).sum() < 0.5 * (whole != 255).sum()
        assert (short == whole)[short != 255].all()

    def test_255_is_unlabelled_in_them_whatever_it_is_in_the_files(self, tmp_path):
        root = change(make_dataset(tmp_path, unlabelled=9), strokes="strokes")
        write_strokes(root / "strokes" / "image_000.json", [Stroke(1, 1.0, np.array([[5.5, 5.5]]))], (48, 64))
        assert (self.drawn(root, width_px=1) != 255).sum() == 1

    @pytest.mark.parametrize(("label", "size", "expected"), [(3, (48, 64), "class ids"), (1, (48, 65), "size of its image")])
    def test_strokes_that_do_not_fit_the_data_set(self, root, label, size, expected):
        write_strokes(root / "strokes" / "image_000.json", [Stroke(label, 1.0, np.array([[5.5, 5.5]]))], size)
        with pytest.raises(DataError, match=expected) as error:
            self.drawn(root, width_px=1)
        assert error.value.where.endswith("image_000.json")

    def test_two_label_files_are_an_error_still(self, root):
        shutil.copy(root / "scribbles" / "image_000.png", root / "scribbles" / "image_000.tif")
        with pytest.raises(DataError, match="label file"):
            self.drawn(root)
