from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from scribbleseg.config import DataConfig
from scribbleseg.data.transforms import (
    colour_jitter,
    crop,
    pad,
    random_crop,
    random_flip,
    random_scale,
    random_view,
    resize,
    resize_longest,
    training_transforms,
)
from scribbleseg.records import UNLABELLED, Sample

SIDE = 250  # so that a coordinate is a label


def coordinates(height: int = 60, width: int = 80, labelled: str = "x") -> Sample:
    """A sample that knows where its pixels come from: red is x, green is y, blue marks it as real; the label is x or y."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    image = torch.stack([x, y, torch.full_like(x, SIDE)]).float() / SIDE
    labels = (x if labelled == "x" else y).long()
    drawn = torch.bincount(labels.flatten(), minlength=255) > 0
    return Sample("a", image, image, labels, drawn, torch.ones(height, width, dtype=torch.bool))


def assert_together(sample: Sample, labelled: str, tolerance: float) -> None:
    """The label of every real pixel names the coordinate that its colour shows."""
    channel = 0 if labelled == "x" else 1
    kept = sample.labels != UNLABELLED
    assert torch.equal(kept, sample.valid)
    assert kept.any()
    for picture in (sample.image, sample.rgb):
        assert picture.shape[-2:] == sample.labels.shape == sample.valid.shape
        shown = picture[channel] * SIDE
        assert float((shown - sample.labels)[kept].abs().max()) <= tolerance


def seeded(n: int = 0) -> Generator:
    return torch.Generator().manual_seed(n)


@pytest.mark.parametrize("labelled", ["x", "y"])
class TestGeometryIsJoint:
    @pytest.mark.parametrize("seed", range(4))
    def test_flip(self, labelled, seed):
        sample = random_flip(0.5)(coordinates(labelled=labelled), seeded(seed))
        assert_together(sample, labelled, 1e-3)

    def test_flip_mirrors_left_and_right(self, labelled):
        sample = random_flip(1.0)(coordinates(labelled=labelled), seeded())
        assert float(sample.image[0, 0, 0] * SIDE) == pytest.approx(79)
        assert float(sample.rgb[1, 0, 0]) == 0
        assert_together(sample, labelled, 1e-3)

    @pytest.mark.parametrize("seed", range(4))
    @pytest.mark.parametrize("size", [32, 70, 100])
    def test_crop(self, labelled, seed, size):
        sample = random_crop(size)(coordinates(labelled=labelled), seeded(seed))
        assert sample.labels.shape == (size, size)
        assert_together(sample, labelled, 1e-3)

    @pytest.mark.parametrize("factor", [0.3, 0.5, 0.77, 1.3, 2.0])
    def test_scale(self, labelled, factor):
        sample = resize(coordinates(labelled=labelled), factor)
        assert sample.labels.shape == (round(60 * factor), round(80 * factor))
        # The nearest pixel's centre and the exact one are at most half a pixel apart; at the border bilinear repeats.
        assert_together(sample, labelled, max(1.0, 0.5 / factor) + 0.01)

    def test_pad(self, labelled):
        sample = pad(coordinates(labelled=labelled), 70, 81)
        assert sample.labels.shape == (70, 81)
        assert int(sample.valid.sum()) == 60 * 80
        assert sample.valid[:60, :80].all()
        assert_together(sample, labelled, 1e-3)

    @pytest.mark.parametrize("seed", range(6))
    def test_the_whole_chain(self, labelled, seed):
        config = DataConfig(crop_px=64, scale=(0.5, 2.0), colour=0.0)
        sample, generator = coordinates(labelled=labelled), seeded(seed)
        for transform in training_transforms(config):
            sample = transform(sample, generator)
        assert sample.labels.shape == (64, 64)
        assert_together(sample, labelled, 1.02)


class TestScale:
    def test_factor_stays_in_its_range_and_varies(self):
        widths = [random_scale(0.5, 2.0)(coordinates(), seeded(n)).labels.shape[1] for n in range(40)]
        assert min(widths) >= 40
        assert max(widths) <= 160
        assert min(widths) < 60
        assert max(widths) > 110

    def test_range_of_one_leaves_the_sample_alone(self):
        sample = random_scale(1.0, 1.0)(coordinates(), seeded())
        torch.testing.assert_close(sample.image, coordinates().image)
        assert torch.equal(sample.labels, coordinates().labels)

    def test_labels_stay_class_ids(self):
        labels = torch.randint(0, 2, (60, 80), generator=seeded()) * 3
        labels[::3] = UNLABELLED
        sample = dataclasses.replace(coordinates(), labels=labels)
        for factor in (0.4, 1.7):
            assert set(resize(sample, factor).labels.unique().tolist()) == {0, 3, UNLABELLED}

    def test_colours_stay_in_the_unit_range(self):
        noise = torch.rand(3, 60, 80, generator=seeded()).round()
        for factor in (0.4, 1.7):
            small = resize(dataclasses.replace(coordinates(), image=noise, rgb=noise), factor)
            assert 0 <= float(small.image.min()) <= float(small.image.max()) <= 1

    @pytest.mark.parametrize(("longest", "expected"), [(40, (30, 40)), (160, (120, 160)), (80, (60, 80)), (0, (60, 80))])
    def test_longest_side(self, longest, expected):
        assert tuple(resize_longest(coordinates(), longest).labels.shape) == expected

    def test_longest_side_of_an_upright_picture(self):
        assert tuple(resize_longest(coordinates(80, 20), 40).labels.shape) == (40, 10)


class TestFlip:
    def test_chance(self):
        flipped = [bool(random_flip(0.25)(coordinates(4, 4), seeded(n)).image[0, 0, 0] > 0) for n in range(400)]
        assert np.mean(flipped) == pytest.approx(0.25, abs=0.08)

    def test_never(self):
        assert not any(bool(random_flip(0.0)(coordinates(4, 4), seeded(n)).image[0, 0, 0] > 0) for n in range(50))


class TestPad:
    def test_padding_is_unlabelled_and_not_valid(self):
        sample = pad(coordinates(20, 20), 32, 40)
        outside = torch.ones(32, 40, dtype=torch.bool)
        outside[:20, :20] = False
        assert torch.equal(sample.labels == UNLABELLED, outside)
        assert torch.equal(~sample.valid, outside)
        assert (sample.image[:, outside] == 0.5).all()
        assert sample.labels.dtype == torch.int64
        assert sample.valid.dtype == torch.bool

    def test_large_enough_is_left_alone(self):
        sample = coordinates(20, 20)
        assert pad(sample, 20, 10) is sample


def with_one_pixel(height: int, width: int, y: int, x: int) -> Sample:
    sample = coordinates(height, width)
    labels = torch.full((height, width), UNLABELLED)
    labels[y, x] = 1
    return dataclasses.replace(sample, labels=labels)


class TestCrop:
    @pytest.mark.parametrize(("y", "x"), [(0, 0), (0, 399), (299, 0), (299, 399), (150, 200), (7, 393)])
    def test_the_only_labelled_pixel_of_many_thousands_is_kept(self, y, x):
        sample = with_one_pixel(300, 400, y, x)
        for seed in range(5):
            piece = random_crop(32)(sample, seeded(seed))
            assert piece.labels.shape == (32, 32)
            assert int((piece.labels != UNLABELLED).sum()) == 1

    def test_its_place_in_the_square_varies(self):
        sample = with_one_pixel(300, 400, 150, 200)
        places = {tuple(torch.nonzero(random_crop(32)(sample, seeded(n)).labels == 1)[0].tolist()) for n in range(20)}
        assert len(places) > 10

    def test_a_small_image_is_padded_and_keeps_its_pixel(self):
        piece = random_crop(64)(with_one_pixel(20, 30, 19, 29), seeded())
        assert piece.labels.shape == (64, 64)
        assert int(piece.labels[19, 29]) == 1
        assert int(piece.valid.sum()) == 600

    def test_nothing_labelled_is_fine(self):
        sample = dataclasses.replace(coordinates(), labels=torch.full((60, 80), UNLABELLED))
        piece = random_crop(32)(sample, seeded())
        assert piece.labels.shape == (32, 32)
        assert (piece.labels == UNLABELLED).all()

    def test_every_place_can_be_drawn(self):
        corners = {
            tuple((random_crop(58)(coordinates(60, 60), seeded(n)).image[:2, 0, 0] * SIDE).round().int().tolist())
            for n in range(150)
        }
        assert corners == {(x, y) for x in range(3) for y in range(3)}

    def test_crop_cuts_where_it_is_told(self):
        piece = crop(coordinates(), 3, 5, 10)
        assert (piece.image[:2, 0, 0] * SIDE).round().tolist() == [5, 3]
        assert piece.labels[0].tolist() == list(range(5, 15))


class TestColour:
    def test_rgb_keeps_the_true_colours(self):
        sample = coordinates()
        varied = colour_jitter(0.5)(sample, seeded())
        assert torch.equal(varied.rgb, sample.rgb)
        assert torch.equal(varied.labels, sample.labels)
        assert float((varied.image - sample.image).abs().mean()) > 0.01
        assert 0 <= float(varied.image.min()) <= float(varied.image.max()) <= 1

    def test_no_strength_changes_nothing(self):
        torch.testing.assert_close(colour_jitter(0.0)(coordinates(), seeded()).image, coordinates().image)


def tensors(sample: Sample) -> list[Tensor]:
    return [sample.image, sample.rgb, sample.labels, sample.valid]


class TestMemory:
    def test_one_picture_is_changed_once(self):
        for transform in (random_scale(0.5, 0.9), random_flip(1.0), random_crop(40)):
            sample = transform(coordinates(), seeded())
            assert sample.rgb is sample.image

    def test_two_pictures_stay_two(self):
        varied = colour_jitter(0.5)(coordinates(), seeded())
        for transform in (random_scale(0.5, 0.9), random_flip(1.0), random_crop(40)):
            both, one = transform(varied, seeded()), transform(coordinates(), seeded())
            assert torch.equal(both.rgb, one.rgb)
            assert not torch.equal(both.image, one.image)

    def test_a_crop_lets_go_of_the_rest(self):
        assert all(t.untyped_storage().nbytes() == t.nbytes for t in tensors(crop(coordinates(), 3, 5, 10)))

    def test_padding_is_zoomed_too(self):
        sample = resize(pad(coordinates(), 80, 80), 0.5)
        assert torch.equal(sample.valid, torch.arange(40)[:, None].expand(40, 40) < 30)


class TestDraws:
    transforms = training_transforms(DataConfig(crop_px=48))

    def run(self, seed: int) -> Sample:
        sample, generator = coordinates(), seeded(seed)
        for transform in self.transforms:
            sample = transform(sample, generator)
        return sample

    def test_same_generator_same_sample(self):
        assert all(torch.equal(a, b) for a, b in zip(tensors(self.run(3)), tensors(self.run(3)), strict=True))

    def test_other_generator_other_sample(self):
        assert not torch.equal(self.run(3).image, self.run(4).image)
        assert not torch.equal(self.run(3).labels, self.run(4).labels)

    def test_no_draw_from_torchs_own_generator(self):
        before = torch.get_rng_state()
        self.run(3)
        assert torch.equal(torch.get_rng_state(), before)

    def test_the_argument_is_left_alone(self):
        sample = coordinates()
        before = [t.clone() for t in tensors(sample)]
        for transform in self.transforms:
            transform(sample, seeded(1))
        assert all(torch.equal(a, b) for a, b in zip(tensors(sample), before, strict=True))


def stretch(seed: int) -> tuple[Sample, tuple[float, float], int]:
    """A sample of any size, a range of zooms around 1, and a side to cut."""
    rng = np.random.default_rng(seed)
    height, width = (int(n) for n in rng.integers(1, 150, 2))
    image = torch.from_numpy(rng.random((3, height, width), np.float32))
    labels = torch.full((height, width), UNLABELLED)
    labels[rng.integers(height), rng.integers(width)] = int(rng.integers(5))
    valid = torch.ones(height, width, dtype=torch.bool)
    valid[height - height // 3 * int(rng.integers(2)) :] = False
    rgb = image if rng.integers(2) else 1 - image
    sample = Sample("a", image, rgb, labels, torch.zeros(UNLABELLED, dtype=torch.bool), valid)
    return sample, (float(rng.uniform(0.3, 1.1)), float(rng.uniform(1.1, 2.0))), int(rng.choice([8, 32, 64]))


@pytest.mark.parametrize("seed", range(120))
def test_zoom_mirror_and_cut_in_one_are_the_three_to_the_last_bit(seed: int) -> None:
    sample, scale, size = stretch(seed)
    one, other = seeded(seed), seeded(seed)
    slowly = sample
    for transform in (random_scale(*scale), random_flip(0.5), random_crop(size)):
        slowly = transform(slowly, one)
    at_once = random_view(scale, 0.5, size)(sample, other)
    assert torch.equal(one.get_state(), other.get_state()), "the same numbers were drawn"
    for name in ("image", "rgb", "labels", "valid"):
        wanted, found = getattr(slowly, name), getattr(at_once, name)
        assert (wanted.dtype, wanted.shape, wanted.stride()) == (found.dtype, found.shape, found.stride())
        assert torch.equal(wanted, found), name
    assert (at_once.rgb is at_once.image) == (sample.rgb is sample.image)
