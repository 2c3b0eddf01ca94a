from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from scribbleseg.config import DataConfig, StrokesConfig
from scribbleseg.data.folder import open_dataset
from scribbleseg.data.images import read_index, write_png
from scribbleseg.data.loader import TrainingSamples, training_loader
from scribbleseg.data.random_walker import random_walker
from scribbleseg.data.strokes import drop, mislabel, redraw, shorten, strokes_of, with_strokes
from scribbleseg.data.training_labels import check_training_labels
from scribbleseg.errors import ConfigError, DataError
from scribbleseg.training.run import train
from tests.fake.datasets import make_dataset
from tests.training.test_run import small, weights

U = 255
SHARES = (0.0, 0.1, 0.3, 0.5, 0.8, 1.0)


def empty(height: int = 60, width: int = 120) -> np.ndarray:
    return np.full((height, width), U, np.uint8)


def drawn(points: list[tuple[int, int]], width: int = 3, size: tuple[int, int] = (120, 120), class_id: int = 1) -> np.ndarray:
    """One stroke through points (x, y)."""
    picture = Image.new("L", size, U)
    ImageDraw.Draw(picture).line(points, fill=class_id, width=width, joint="curve")
    return np.array(picture)


def ring(radius: float = 40, width: float = 3) -> np.ndarray:
    y, x = np.mgrid[:120, :120]
    return np.where(abs(np.hypot(y - 60, x - 60) - radius) < width / 2, 1, U).astype(np.uint8)


def tangle(seed: int = 0, number: int = 8) -> np.ndarray:
    """Strokes of five classes that cross, touch, and leave crumbs of each other."""
    rng = np.random.default_rng(seed)
    picture = Image.new("L", (160, 120), U)
    for _ in range(number):
        points = [(int(x), int(y)) for x, y in rng.integers(0, (160, 120), (int(rng.integers(2, 5)), 2))]
        ImageDraw.Draw(picture).line(points, fill=int(rng.integers(5)), width=int(rng.integers(1, 6)))
    return np.array(picture)


def rows_of_dots(number: int, num_classes: int = 2) -> np.ndarray:
    """Many short strokes, classes in turn."""
    labels = empty(4 * number, 9)
    for k in range(number):
        labels[4 * k : 4 * k + 2, 2:7] = k % num_classes
    return labels


def extent(labels: np.ndarray, axis: int) -> tuple[int, int]:
    """First and last line of pixels that holds a label."""
    lines = np.flatnonzero((labels != U).any(axis=1 - axis))
    return int(lines[0]), int(lines[-1])


class TestStrokesOf:
    def test_one_for_each_piece_of_a_class_by_their_first_pixels(self):
        labels = empty(5, 8)
        labels[1, 1:4] = 2
        labels[2, 4] = 2  # joined at a corner
        labels[2, 1:3] = 0  # touches the first
        labels[0, 6:8] = 2
        labels[4, 0] = labels[4, 7] = 1
        found = [(class_id, pixels.tolist()) for class_id, pixels in strokes_of(labels)]
        assert found == [(2, [6, 7]), (2, [9, 10, 11, 20]), (0, [17, 18]), (1, [32]), (1, [39])]

    def test_nothing_wraps_around_the_edge(self):
        labels = empty(4, 5)
        labels[1, 4] = labels[2, 0] = 3
        assert [pixels.tolist() for _, pixels in strokes_of(labels)] == [[9], [10]]

    def test_no_stroke(self):
        assert strokes_of(empty()) == []

    @pytest.mark.parametrize("seed", range(3))
    def test_together_they_are_the_labels(self, seed):
        labels, again = tangle(seed), empty(120, 160)
        for class_id, pixels in strokes_of(labels):
            again.flat[pixels] = class_id
        np.testing.assert_array_equal(again, labels)


class TestShorten:
    @pytest.mark.parametrize("seed", range(3))
    def test_the_whole_length_is_the_labels(self, seed):
        np.testing.assert_array_equal(shorten(tangle(seed), 1.0), tangle(seed))

    @pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
    @pytest.mark.parametrize("width", [1, 2, 3, 5, 8])
    @pytest.mark.parametrize("axis", [0, 1])
    def test_a_straight_line_keeps_its_middle(self, share, width, axis):
        labels = empty(140, 140)
        labels[20 : 20 + width, 10:110] = 4
        labels = labels if axis == 1 else labels.T.copy()
        kept = shorten(labels, share)
        low, high = extent(kept, axis)
        assert high + 1 - low == pytest.approx(100 * share, abs=2 + width // 3)
        assert (low + high) / 2 == pytest.approx(59.5, abs=1.5)
        inner = [slice(None)] * 2
        inner[axis] = slice(low + 3, high - 2)
        np.testing.assert_array_equal(kept[tuple(inner)], labels[tuple(inner)], "not at its full width")

    def test_half_of_a_slanted_line(self):
        labels = drawn([(10, 10), (110, 60)])
        low, high = extent(shorten(labels, 0.5), 1)
        assert (low, high) == (pytest.approx(35, abs=2), pytest.approx(85, abs=2))

    @pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.8])
    def test_a_curve_is_cut_along_itself(self, share):
        """A hook with arms of unlike length: its box would be cut elsewhere."""
        path = [(y, 20) for y in range(10, 100)] + [(100, x) for x in range(21, 60)] + [(y, 60) for y in range(99, 60, -1)]
        length = np.cumsum([0.0] + [float(np.hypot(b[0] - a[0], b[1] - a[1])) for a, b in pairwise(path)])
        labels = empty(120, 120)
        labels[tuple(zip(*path, strict=True))] = 3
        kept = shorten(labels, share)
        place = length[[kept[at] == 3 for at in path]] / length[-1]
        assert place.min() == pytest.approx(0.5 - share / 2, abs=0.01)
        assert place.max() == pytest.approx(0.5 + share / 2, abs=0.01)
        assert len(strokes_of(kept)) == 1

    def test_a_slanted_step_is_longer_than_a_straight_one(self):
        labels = empty(120, 140)
        labels[10, 10:71] = 1
        labels[np.arange(11, 71), np.arange(71, 131)] = 1
        (_, middle), *rest = strokes_of(shorten(labels, 0.0))
        assert (len(middle), rest) == (1, [])
        assert middle[0] % 140 == pytest.approx(70 + (60 * 2**0.5 - 60) / 2 / 2**0.5, abs=1)

    def test_a_spiral_is_followed_round(self):
        turn = np.linspace(0, 6 * np.pi, 400)
        points = [(int(x), int(y)) for x, y in zip(60 + 2.7 * turn * np.cos(turn), 60 + 2.7 * turn * np.sin(turn), strict=True)]
        labels = drawn(points, width=2)
        kept = shorten(labels, 0.5)
        assert len(strokes_of(kept)) == 1
        y, x = np.nonzero(kept != U)
        radius = np.hypot(y - 60, x - 60) / 2.7  # of an angle t, whose length goes with t²
        assert radius.min() == pytest.approx(6 * np.pi * 0.25**0.5, abs=1.2)
        assert radius.max() == pytest.approx(6 * np.pi * 0.75**0.5, abs=1.2)

    @pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.8])
    @pytest.mark.parametrize("width", [1.5, 3, 5])
    def test_a_loop_keeps_one_arc(self, share, width):
        labels = ring(width=width)
        kept = shorten(labels, share)
        assert len(strokes_of(kept)) == 1
        assert (kept != U).sum() / (labels != U).sum() == pytest.approx(share, abs=0.02)
        y, x = np.nonzero(kept != U)
        angles = np.sort(np.arctan2(y - 60, x - 60))
        gap = np.diff(np.append(angles, angles[0] + 2 * np.pi)).max()
        assert 1 - gap / (2 * np.pi) == pytest.approx(share, abs=0.03)

    def test_branches_end_at_one_distance_from_the_middle(self):
        labels = empty(121, 121)
        labels[60, 20:101] = labels[60:101, 60] = 2  # a T with three arms of 40
        y, x = np.nonzero(shorten(labels, 0.5) != U)
        assert {(int(y.max()), int(x.min()), int(x.max()))} <= {(60 + d, 60 - d, 60 + d) for d in (19, 20, 21)}

    @pytest.mark.parametrize("seed", range(5))
    def test_less_is_part_of_more_and_classes_stay(self, seed):
        labels = tangle(seed)
        before = labels.copy()
        kept = [shorten(labels, share) for share in SHARES]
        for less, more in pairwise(kept):
            assert ((less == more) | (less == U)).all()
        assert all(k.dtype == np.uint8 and k.shape == labels.shape for k in kept)
        np.testing.assert_array_equal(labels, before)

    @pytest.mark.parametrize("share", SHARES[1:-1])
    @pytest.mark.parametrize("seed", range(3))
    def test_every_stroke_keeps_its_share_and_stays_one(self, seed, share):
        labels = tangle(seed)
        kept, whole = strokes_of(shorten(labels, share)), strokes_of(labels)
        assert len(kept) == len(whole)
        left = shorten(labels, share).ravel()
        for _, pixels in whole:
            number = int((left[pixels] != U).sum())
            assert number >= share * len(pixels)
            assert number <= share * len(pixels) + 25, "a stroke of up to 5 pixels across is never shorter than that"

    @pytest.mark.parametrize(("width", "dot"), [(1, 1), (2, 1), (3, 3), (4, 3), (5, 5)])
    def test_a_click_is_a_dot_in_the_middle(self, width, dot):
        labels = empty()
        labels[20 : 20 + width, 10:110] = 1
        kept = shorten(labels, 0.0)
        (top, bottom), (left, right) = extent(kept, 0), extent(kept, 1)
        assert bottom + 1 - top == right + 1 - left == dot
        assert (left + right) / 2 == pytest.approx(59.5, abs=1.5)
        assert (top + bottom) / 2 == pytest.approx(20 + (width - 1) / 2, abs=0.5)

    @pytest.mark.parametrize(
        "labels", [drawn([(10, 10), (60, 100), (110, 10)]), ring(), tangle(1)], ids=["vee", "ring", "tangle"]
    )
    def test_a_click_is_inside_its_stroke(self, labels):
        """The middle of a ring's box is not."""
        kept = shorten(labels, 0.0).ravel()
        for class_id, pixels in strokes_of(labels):
            own = kept[pixels]
            assert 1 <= (own == class_id).sum() <= 25
        assert ((kept == labels.ravel()) | (kept == U)).all()

    @pytest.mark.parametrize("share", SHARES)
    def test_a_dot_and_a_pixel_stay_as_they_are(self, share):
        labels = empty(9, 9)
        labels[1:4, 1:4], labels[8, 8] = 1, 0
        np.testing.assert_array_equal(shorten(labels, share), labels)

    @pytest.mark.parametrize("share", SHARES)
    def test_nothing_drawn(self, share):
        np.testing.assert_array_equal(shorten(empty(), share), empty())


class TestDrop:
    def test_none_and_all(self):
        rng = np.random.default_rng(0)
        np.testing.assert_array_equal(drop(tangle(), 0.0, rng), tangle())
        np.testing.assert_array_equal(drop(tangle(), 1.0, rng), np.full_like(tangle(), U))
        np.testing.assert_array_equal(drop(empty(), 0.5, rng), empty())

    @pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
    def test_a_share_of_the_strokes_and_only_whole_ones(self, share):
        labels = rows_of_dots(1000)
        before = labels.copy()
        kept = drop(labels, share, np.random.default_rng(3))
        left = np.array([(kept.flat[pixels] != U).mean() for _, pixels in strokes_of(labels)])
        assert set(left) == {0.0, 1.0}
        assert 1 - left.mean() == pytest.approx(share, abs=0.05)  # three times its spread
        assert ((kept == labels) | (kept == U)).all()
        np.testing.assert_array_equal(labels, before)

    def test_what_is_lost_at_a_small_share_is_lost_at_a_larger_one(self):
        few, many = (drop(rows_of_dots(100), share, np.random.default_rng(0)) for share in (0.7, 0.3))
        assert ((few == many) | (few == U)).all()


class TestMislabel:
    @pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
    def test_strokes_keep_their_pixels_and_get_a_class_of_the_image(self, share):
        labels = rows_of_dots(600, num_classes=3)
        before = labels.copy()
        wrong = mislabel(labels, share, np.random.default_rng(1), num_classes=9)
        np.testing.assert_array_equal(wrong == U, labels == U)
        changed = []
        for class_id, pixels in strokes_of(labels):
            (now,) = np.unique(wrong.flat[pixels])
            changed.append((class_id, int(now)))
        assert np.mean([was != now for was, now in changed]) == pytest.approx(share, abs=0.05)
        if share:
            assert {pair for pair in changed if pair[0] != pair[1]} == {(a, b) for a in range(3) for b in range(3) if a != b}
        np.testing.assert_array_equal(labels, before)

    def test_where_one_class_is_drawn_it_becomes_any_other(self):
        labels = np.where(rows_of_dots(200, num_classes=1) == 0, 2, U).astype(np.uint8)
        wrong = mislabel(labels, 1.0, np.random.default_rng(1), num_classes=4)
        assert set(np.unique(wrong)) == {0, 1, 3, U}

    def test_nothing_drawn(self):
        np.testing.assert_array_equal(mislabel(empty(), 1.0, np.random.default_rng(0), 3), empty())


def change(labels: np.ndarray, stem: str = "image_000", num_classes: int = 5, **numbers: Any) -> np.ndarray:
    return redraw(labels, stem, config=StrokesConfig(**numbers), num_classes=num_classes)


class TestRedraw:
    numbers: dict[str, float] = {"length": 0.5, "drop": 0.3, "wrong": 0.3}  # noqa: RUF012

    def test_nothing_asked_nothing_changed(self):
        np.testing.assert_array_equal(change(tangle(), seed=3), tangle())

    def test_stem_and_seed_decide(self):
        labels = rows_of_dots(40)
        first = change(labels, **self.numbers)
        change(labels, "another", **self.numbers)
        np.testing.assert_array_equal(change(labels, **self.numbers), first)
        others = [change(labels, "image_001", **self.numbers), change(labels, seed=1, **self.numbers), first]
        assert len({other.tobytes() for other in others}) == 3

    def test_the_draws_are_those_of_every_machine(self):
        """Lists of lost strokes would otherwise differ from process to process, as ``hash`` of a text does."""
        labels = rows_of_dots(12)
        kept = [
            np.flatnonzero((change(labels, stem, drop=0.5)[::4] != U).any(1)).tolist() for stem in ("image_000", "føldér/1")
        ]
        assert kept == [[2, 8, 9, 10], [6, 7]]
        assert change(labels, wrong=0.5)[::4, 2].tolist() == [0, 1, 1, 1, 1, 1, 0, 0, 0, 0, 1, 0]

    def test_each_acts_on_the_strokes_as_drawn(self):
        labels = tangle(4)
        alone = [change(labels, **{name: number}) for name, number in self.numbers.items()]
        kept = (alone[0] != U) & (alone[1] != U)
        np.testing.assert_array_equal(change(labels, **self.numbers), np.where(kept, alone[2], U))
        assert all((a != labels).any() for a in alone)

    @pytest.mark.parametrize("seed", range(4))
    def test_nothing_new_is_ever_labelled(self, seed):
        labels = tangle(seed)
        changed = change(labels, seed=seed, **self.numbers)
        assert changed.dtype == np.uint8
        assert (changed[labels == U] == U).all()
        assert set(np.unique(changed)) <= {*range(5), U}


class TestDataset:
    def wanted(self, root: Path, labels: str = "scribbles", **numbers: float):
        return with_strokes(open_dataset(root), DataConfig(labels=labels, strokes=StrokesConfig(**numbers)))

    def test_as_drawn_it_is_the_data_set_itself(self, dataset_root):
        assert self.wanted(dataset_root) == open_dataset(dataset_root) == self.wanted(dataset_root, seed=4)
        assert self.wanted(dataset_root, labels="masks") == open_dataset(dataset_root)

    def test_scribbles_are_read_changed_masks_are_not(self, dataset_root):
        dataset = self.wanted(dataset_root, length=0.5, wrong=0.5)
        for stem in dataset.stems("train"):
            plain = read_index(dataset_root / "scribbles" / f"{stem}.png")
            expected = change(plain, stem, num_classes=3, length=0.5, wrong=0.5)
            np.testing.assert_array_equal(dataset.labels(stem, "scribbles"), expected)
            assert (expected != plain).any()
            np.testing.assert_array_equal(dataset.labels(stem, "masks"), read_index(dataset_root / "masks" / f"{stem}.png"))

    def test_zero_for_unlabelled_is_understood_first(self, tmp_path):
        root = make_dataset(tmp_path / "data", unlabelled=7)
        drawn_as = open_dataset(root).labels("image_000", "scribbles")
        np.testing.assert_array_equal(self.wanted(root, length=0.5).labels("image_000", "scribbles"), shorten(drawn_as, 0.5))

    def test_the_check_of_training_labels_counts_what_is_left(self, dataset_root):
        stems = open_dataset(dataset_root).stems("train")
        whole, half = (
            check_training_labels(self.wanted(dataset_root, length=n), stems, "scribbles").pixels for n in (1.0, 0.5)
        )
        np.testing.assert_allclose(half, whole / 2, atol=8)

    def test_an_error_of_the_file_comes_first(self, dataset_root):
        write_png(dataset_root / "scribbles" / "image_000.png", np.full((48, 64), 77, np.uint8))
        with pytest.raises(DataError, match="id 77"):
            self.wanted(dataset_root, drop=1.0).labels("image_000", "scribbles")

    def test_all_strokes_lost(self, dataset_root):
        stems = open_dataset(dataset_root).stems("train")
        with pytest.raises(DataError, match=r"nothing labelled in 2 files(.|\n)*lower data\.strokes\.drop"):
            check_training_labels(self.wanted(dataset_root, drop=1.0), stems, "scribbles")

    @pytest.mark.parametrize("numbers", [{"length": 0.5}, {"drop": 0.1}, {"wrong": 0.2}])
    def test_masks_have_no_strokes(self, dataset_root, numbers):
        with pytest.raises(ConfigError, match=r"take data\.strokes out, or train on --labels scribbles") as error:
            self.wanted(dataset_root, labels="masks", **numbers)
        assert error.value.where == "data.strokes"
        (name, number), *_ = numbers.items()
        assert f"{name} {number}" in error.value.got


WORSE: dict[str, Any] = {"length": 0.3, "drop": 0.3, "wrong": 0.3}


class TestTraining:
    def test_samples_have_the_changed_strokes_in_any_order(self, tmp_path):
        root = make_dataset(tmp_path / "data", num_images=8)
        config = small(root, data={"strokes": WORSE, "flip": 0.0, "scale": [1.0, 1.0], "crop_px": 64})
        dataset = with_strokes(open_dataset(root), config.data)
        items = TrainingSamples(dataset, config)
        for n in (7, 2, 5, 0):
            expected = dataset.labels(items[n].stem, "scribbles")
            np.testing.assert_array_equal(items[n].labels[:48].numpy(), expected)

    @pytest.mark.filterwarnings("ignore:This DataLoader will create")
    def test_any_number_of_workers_sees_the_same(self, dataset_root):
        def batches(workers: int) -> list[torch.Tensor]:
            config = small(dataset_root, data={"strokes": WORSE, "num_workers": workers})
            return [b.labels for b in training_loader(with_strokes(open_dataset(dataset_root), config.data), config, lambda: 0)]

        assert all(torch.equal(a, b) for a, b in zip(batches(0), batches(2), strict=True))

    def test_a_run_on_shorter_strokes_learns_something_else(self, dataset_root, tmp_path):
        train(small(dataset_root), tmp_path / "whole")
        train(small(dataset_root, data={"strokes": {"length": 0.3}}), tmp_path / "short")
        train(small(dataset_root, data={"strokes": {"length": 1.0, "seed": 5}}), tmp_path / "same")
        assert weights(tmp_path / "whole") == weights(tmp_path / "same") != weights(tmp_path / "short")

    def test_the_random_walker_starts_from_the_changed_strokes(self, dataset_root, tmp_path):
        config = small(dataset_root, data={"labels": "random_walker", "strokes": WORSE}, training={"max_steps": 1})
        train(config, tmp_path / "run")
        dataset = with_strokes(open_dataset(dataset_root), config.data)
        for stem in dataset.stems("train"):
            walked = read_index(tmp_path / "run" / "random_walker" / f"{stem}.png")
            np.testing.assert_array_equal(walked, random_walker(dataset.rgb(stem), dataset.labels(stem, "scribbles")))

    def test_some_images_are_enough_and_the_others_are_not_read(self, tmp_path):
        root = make_dataset(tmp_path / "data", num_images=8)
        first, second, third, last = open_dataset(root).stems("train")
        for stem in (second, last):
            (root / "scribbles" / f"{stem}.png").unlink()
        config = small(root, data={"train_images": 2, "labels": "random_walker"}, training={"max_steps": 3})
        train(config, tmp_path / "run")
        assert {path.stem for path in (tmp_path / "run" / "random_walker").iterdir()} == {first, third}

    def test_errors_come_before_the_run_folder(self, dataset_root, tmp_path):
        with pytest.raises(ConfigError, match="labels: masks"):
            train(small(dataset_root, data={"labels": "masks", "strokes": {"drop": 0.5}}), tmp_path / "run")
        with pytest.raises(DataError, match=r"lower data\.strokes\.drop"):
            train(small(dataset_root, data={"strokes": {"drop": 1.0}}), tmp_path / "run")
        assert not (tmp_path / "run").exists()
