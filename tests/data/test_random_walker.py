from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from scribbleseg.config import RandomWalkerConfig
from scribbleseg.data.folder import open_dataset
from scribbleseg.data.images import read_index, write_png
from scribbleseg.data.loader import load_sample
from scribbleseg.data.random_walker import random_walker, require_walker, with_random_walker
from scribbleseg.errors import ConfigError, StorageError
from tests.fake.datasets import make_dataset
from tests.reference import pseudo_labels as truth

U = 255


def toy(size=(6, 7), num_classes=3, grey=False, seed=2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    rgb = rng.random((*size, 3))
    scribbles = np.full(size, U, np.uint8)
    scribbles[1, 1:3], scribbles[-2, 2:4], scribbles[2:4, -1] = 0, 1, num_classes - 1
    return (np.repeat(rgb[..., :1], 3, -1) if grey else rgb), scribbles


def two_halves() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A dark left part and a bright right one, with noise and a stroke each."""
    rng = np.random.default_rng(0)
    mask = np.zeros((24, 32), np.uint8)
    mask[:, 20:] = 1
    mask[8:12, 16:20] = 1
    rgb = np.where(mask[..., None] == 1, 0.8, 0.2) + rng.normal(0, 0.03, (24, 32, 3))
    scribbles = np.full(mask.shape, U, np.uint8)
    scribbles[3:20, 2], scribbles[5:18, 29] = 0, 1
    return rgb.clip(0, 1), scribbles, mask


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("beta", [0.0, 20.0, 100.0])
def test_labels_are_those_of_the_linear_system(beta, grey):
    rgb, scribbles = toy(grey=grey)
    probs = truth.random_walker(rgb[..., :1] if grey else rgb, scribbles, beta, 3)
    np.testing.assert_allclose(probs.sum(0), 1, atol=1e-9)
    labels = random_walker(rgb, scribbles, beta=beta)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, probs.argmax(0))
    known = np.unique(probs.max(0).round(9))
    for least in (known[1:] + known[:-1]) / 2:  # between any two that differ
        expected = np.where(probs.max(0) < least, U, probs.argmax(0))
        assert 0 < (expected == U).sum() < expected.size
        np.testing.assert_array_equal(random_walker(rgb, scribbles, beta=beta, min_probability=least), expected)


def test_two_strokes_fill_a_picture_of_two_parts():
    rgb, scribbles, mask = two_halves()
    np.testing.assert_array_equal(random_walker(rgb, scribbles), mask)
    assert (random_walker(rgb, scribbles, beta=0.0) != mask).mean() > 0.1, "without colour it cannot know"


def test_strokes_keep_their_class():
    rgb, scribbles, _ = two_halves()
    scribbles[5:18, 28] = 0  # against all appearance
    for least in (0.0, 1.0):
        labels = random_walker(rgb, scribbles, min_probability=least)
        np.testing.assert_array_equal(labels[scribbles != U], scribbles[scribbles != U])


def test_classes_that_are_not_drawn_are_no_labels():
    """WSL4MIS calls all of such a slice background."""
    rgb, scribbles, mask = two_halves()
    labels = random_walker(rgb, np.where(scribbles == 0, 3, np.where(scribbles == 1, 7, U)))
    np.testing.assert_array_equal(labels, np.where(mask == 0, 3, 7))


@pytest.mark.parametrize("drawn", [[], [2]])
def test_one_class_or_none_decides_nothing(drawn):
    rgb, scribbles, _ = two_halves()
    scribbles = np.full_like(scribbles, U)
    for c in drawn:
        scribbles[4, 4:9] = c
    np.testing.assert_array_equal(random_walker(rgb, scribbles), scribbles)


def test_nothing_left_to_decide():
    rgb, _, mask = two_halves()
    np.testing.assert_array_equal(random_walker(rgb, mask), mask)


def test_a_picture_without_contrast_is_walked_evenly():
    rgb, scribbles = toy(size=(5, 8))
    probs = truth.random_walker(np.full_like(rgb, 0.4), scribbles, 100.0, 3)
    least = 0.6
    labels = random_walker(np.full_like(rgb, 0.4), scribbles, min_probability=least)
    np.testing.assert_array_equal(labels, np.where(probs.max(0) < least, U, probs.argmax(0)))


def test_arguments_are_left_alone():
    rgb, scribbles, _ = two_halves()
    before = rgb.copy(), scribbles.copy()
    random_walker(rgb, scribbles, min_probability=0.9)
    np.testing.assert_array_equal(rgb, before[0])
    np.testing.assert_array_equal(scribbles, before[1])


class TestInvariance:
    @pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
    def test_flips(self, axes):
        rgb, scribbles = toy()
        flipped = random_walker(np.flip(rgb, axes), np.flip(scribbles, axes))
        np.testing.assert_array_equal(np.flip(flipped, axes), random_walker(rgb, scribbles))

    def test_renumbering_classes(self):
        rgb, scribbles = toy()
        table = np.full(256, U, np.uint8)
        table[:3] = [4, 1, 2]
        np.testing.assert_array_equal(random_walker(rgb, table[scribbles]), table[random_walker(rgb, scribbles)])

    def test_brightness(self):
        rgb, scribbles, _ = two_halves()
        np.testing.assert_array_equal(random_walker(rgb * 0.5 + 0.3, scribbles), random_walker(rgb * 0.5, scribbles))


class TestFolder:
    numbers = RandomWalkerConfig()

    def walk(self, root: Path, out: Path, longest_px: int = 0, keep: bool = False, numbers=numbers):
        dataset = open_dataset(root)
        return with_random_walker(dataset, dataset.stems("train"), numbers, longest_px, out, keep=keep)

    def test_labels_are_read_like_any_others(self, dataset_root, tmp_path):
        dataset = self.walk(dataset_root, tmp_path / "walked")
        stems = dataset.stems("train")
        assert sorted(p.stem for p in (tmp_path / "walked").iterdir()) == sorted(stems)
        for stem in stems:
            rgb, scribbles, mask = dataset.rgb(stem), *(dataset.labels(stem, kind) for kind in ("scribbles", "masks"))
            labels = dataset.labels(stem, "random_walker", mask.shape)
            np.testing.assert_array_equal(labels, random_walker(rgb, scribbles))
            assert (labels == mask).mean() > 0.97
            np.testing.assert_array_equal(load_sample(dataset, stem, "random_walker").labels.numpy(), labels)
            np.testing.assert_array_equal(dataset.labels(stem, "scribbles"), scribbles)

    def test_no_mask_is_read(self, tmp_path):
        root = make_dataset(tmp_path / "data")
        self.walk(root, tmp_path / "with")
        shutil.rmtree(root / "masks")
        self.walk(root, tmp_path / "without")
        for path in (tmp_path / "with").iterdir():
            assert path.read_bytes() == (tmp_path / "without" / path.name).read_bytes()

    def test_files_are_kept_where_asked_and_missing_ones_made(self, dataset_root, tmp_path):
        out = tmp_path / "walked"
        first, second = (out / f"{stem}.png" for stem in open_dataset(dataset_root).stems("train"))
        self.walk(dataset_root, out)
        whole = first.read_bytes(), second.read_bytes()
        mine = np.full((48, 64), 1, np.uint8)
        write_png(first, mine)
        second.unlink()
        dataset = self.walk(dataset_root, out, keep=True)
        np.testing.assert_array_equal(dataset.labels(first.stem, "random_walker"), mine)
        assert second.read_bytes() == whole[1]
        self.walk(dataset_root, out)
        assert first.read_bytes() == whole[0]

    def test_the_walk_is_at_the_size_of_training(self, dataset_root, tmp_path):
        for path in (dataset_root / "scribbles").iterdir():
            strokes = read_index(path)
            strokes[10, 10] = 2  # halving loses this dot
            write_png(path, strokes)
        dataset = self.walk(dataset_root, tmp_path / "small", longest_px=32)
        for stem in dataset.stems("train"):
            labels, strokes, mask = (dataset.labels(stem, kind) for kind in ("random_walker", "scribbles", "masks"))
            assert labels.shape == (48, 64)
            np.testing.assert_array_equal(labels[strokes != U], strokes[strokes != U])
            blocks = labels.reshape(24, 2, 32, 2).swapaxes(1, 2).reshape(24, 32, 4)
            apart = (strokes == U).reshape(24, 2, 32, 2).swapaxes(1, 2).reshape(24, 32, 4).all(-1)
            assert (blocks[apart] == blocks[apart][:, :1]).all(), "a pixel of the small picture is four of the large"
            assert (labels == mask).mean() > 0.9

    def test_numbers_are_passed_on(self, dataset_root, tmp_path):
        unsure = self.walk(dataset_root, tmp_path / "a", numbers=RandomWalkerConfig(beta=1.0, min_probability=0.9))
        sure = self.walk(dataset_root, tmp_path / "b")
        stem = sure.stems("train")[0]
        assert not (sure.labels(stem, "random_walker") == U).any()
        expected = random_walker(unsure.rgb(stem), unsure.labels(stem, "scribbles"), beta=1.0, min_probability=0.9)
        assert (expected == U).any()
        np.testing.assert_array_equal(unsure.labels(stem, "random_walker"), expected)

    def test_a_place_that_cannot_be_written(self, dataset_root, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(StorageError):
            self.walk(dataset_root, tmp_path / "file")


def test_without_scikit_image_the_error_says_what_to_install(monkeypatch):
    assert require_walker().random_walker
    monkeypatch.setitem(sys.modules, "skimage", None)
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    with pytest.raises(ConfigError, match=r'pip install "scribbleseg\[walker\]"') as error:
        require_walker()
    assert error.value.where == "data.labels: random_walker"
