"""Which channels and values the network sees: by type, by mapping, by window, and the same by pieces as whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from pydantic import ValidationError

from scribbleseg.data.images import Window, open_image, read_rgb
from scribbleseg.data.intensity import SAMPLE, rgb_of, sample
from scribbleseg.errors import DataError
from scribbleseg.reading import PLAIN, Reading

FIVE = np.random.default_rng(0).integers(0, 4000, (40, 50, 5)).astype(np.uint16)


@pytest.fixture
def five(tmp_path) -> Path:
    tifffile.imwrite(tmp_path / "a.tif", FIVE, photometric="minisblack", planarconfig="contig")
    return tmp_path / "a.tif"


def read(path: Path, index: int | None = None, **keys) -> np.ndarray:
    rgb = read_rgb(path, Reading(**keys), index)
    assert rgb.dtype == np.float32
    assert rgb.shape[-1] == 3
    assert rgb.min() >= 0
    assert rgb.max() <= 1
    return rgb


class TestChannels:
    @pytest.mark.parametrize("channels", [[4, 0, 2], [0, 1, 2], [3, 3, 1]])
    def test_each_input_gets_the_channel_it_is_given(self, five, channels):
        np.testing.assert_array_equal(read(five, channels=channels), FIVE[..., channels].astype(np.float32) / 65535)

    def test_one_serves_all_three(self, five):
        np.testing.assert_array_equal(read(five, channels=[4]), FIVE[..., [4, 4, 4]].astype(np.float32) / 65535)

    @pytest.mark.parametrize("window", [None, {"low": 100, "high": 300}, {"percentiles": [10, 90]}])
    def test_null_gives_zeros(self, five, window):
        rgb = read(five, channels=[0, None, 1], window=window)
        assert (rgb[..., 1] == 0).all()
        assert rgb[..., 0].max() > 0
        assert rgb[..., 2].max() > 0

    def test_a_channel_that_is_not_there(self, five):
        with pytest.raises(DataError, match=r"a channel 5, counted from 0(.|\n)*5 channels"):
            read(five, channels=[0, 1, 5])

    def test_without_a_mapping_five_channels_are_refused(self, five):
        with pytest.raises(DataError, match=r"grey, RGB or RGBA(.|\n)*5 channels(.|\n)*channels: \[2, 0, 1\]"):
            read_rgb(five)

    def test_colours_can_be_swapped(self, tmp_path):
        picture = np.random.default_rng(0).integers(0, 255, (8, 9, 3)).astype(np.uint8)
        tifffile.imwrite(tmp_path / "a.tif", picture, photometric="rgb")
        np.testing.assert_array_equal(read(tmp_path / "a.tif", channels=[2, 1, 0]), picture[..., ::-1].astype(np.float32) / 255)

    @pytest.mark.parametrize("wrong", [[], [0, 1], [0, 1, 2, 3], [None, None, None], [-1], ["red"], 1])
    def test_mappings_that_mean_nothing(self, wrong):
        with pytest.raises(ValidationError):
            Reading(channels=wrong)


class TestWindows:
    def test_absolute_ends(self, tmp_path):
        values = np.array([[-2000, -100, 150, 400, 3000]], np.float32)
        tifffile.imwrite(tmp_path / "a.tif", values)
        rgb = read(tmp_path / "a.tif", window={"low": -100, "high": 400})
        np.testing.assert_allclose(rgb[0, :, 1], [0, 0, 0.5, 1, 1])

    def test_percentiles_are_each_channels_own(self, five):
        rgb = read(five, channels=[0, 1, 4], window={"percentiles": [5, 95]})
        for k, channel in enumerate((0, 1, 4)):
            low, high = np.percentile(FIVE[..., channel], [5, 95])
            np.testing.assert_allclose(rgb[..., k], np.clip((FIVE[..., channel] - low) / (high - low), 0, 1), atol=1e-6)

    def test_three_windows(self, five):
        windows = [{"low": 0, "high": 4000}, {"percentiles": [0, 100]}, {"low": 1000, "high": 1001}]
        rgb = read(five, channels=[0], window=windows)
        np.testing.assert_allclose(rgb[..., 0], FIVE[..., 0] / 4000, atol=1e-6)
        assert rgb[..., 1].min() == 0
        assert rgb[..., 1].max() == 1
        assert set(np.unique(rgb[..., 2])) <= {0.0, 1.0}

    def test_a_picture_of_one_value_is_black(self, tmp_path):
        tifffile.imwrite(tmp_path / "a.tif", np.full((8, 9), 7, np.uint16))
        assert (read(tmp_path / "a.tif", window={"percentiles": [1, 99]}) == 0).all()

    @pytest.mark.parametrize("dtype", [np.int16, np.float32, np.int32])
    def test_types_without_a_range_say_what_to_write(self, tmp_path, dtype):
        tifffile.imwrite(tmp_path / "a.tif", np.array([[-5, 700]], dtype))
        with pytest.raises(DataError, match=r"from -5.* to 700(.|\n)*window: \{percentiles: \[1, 99\]\}"):
            read_rgb(tmp_path / "a.tif")
        assert read(tmp_path / "a.tif", window={"percentiles": [0, 100]})[0, :, 0].tolist() == [0, 1]

    @pytest.mark.parametrize("strange", [np.nan, np.inf])
    def test_not_a_number_is_refused_with_advice(self, tmp_path, strange):
        tifffile.imwrite(tmp_path / "a.tif", np.array([[0, strange]], np.float32))
        with pytest.raises(DataError, match=r"NaN or infinity(.|\n)*nan_to_num"):
            read_rgb(tmp_path / "a.tif", Reading(window={"low": 0, "high": 1}))

    @pytest.mark.parametrize(
        "wrong",
        [
            {},
            {"percentiles": [99, 1]},
            {"percentiles": [1, 101]},
            {"percentiles": [1, 99], "low": 0},
            {"low": 3},
            {"low": 3, "high": 3},
            {"low": 0, "high": float("inf")},
            {"percentile": [1, 99]},
            [{"low": 0, "high": 1}] * 2,
            "auto",
        ],
    )
    def test_windows_that_mean_nothing(self, wrong):
        with pytest.raises(ValidationError):
            Reading(window=wrong)


class TestPieces:
    @pytest.mark.parametrize("keys", [{}, {"window": {"percentiles": [2, 98]}}, {"channels": [1, None, 0]}])
    def test_a_window_is_that_part_of_the_whole(self, tmp_path, keys):
        tifffile.imwrite(tmp_path / "a.tif", FIVE[..., :3], photometric="rgb", tile=(16, 16))
        whole = read(tmp_path / "a.tif", **keys)
        with open_image(tmp_path / "a.tif") as image:
            part = rgb_of(image, Reading(**keys), Window(5, 7, 20, 30))
        np.testing.assert_array_equal(part, whole[5:25, 7:37])

    def test_of_a_large_picture_a_bounded_sample_is_taken(self, tmp_path):
        slope = np.linspace(0, 60000, 3000).astype(np.uint16)
        tifffile.imwrite(tmp_path / "a.tif", np.tile(slope, (2500, 1)), tile=(256, 256))
        asked = []
        with open_image(tmp_path / "a.tif") as image:
            image = replace(image, fetch=lambda n, w, fetch=image.fetch: asked.append(w) or fetch(n, w))
            values = sample(image, 0)
            np.testing.assert_array_equal(values, sample(image, 0))
        assert len(values) <= SAMPLE * 1.1
        assert max(w.height * w.width for w in asked) <= 512 * 512
        assert np.percentile(values, [10, 90]) == pytest.approx([6000, 54000], abs=3000)

    def test_slices_share_the_percentiles_of_their_stack(self, tmp_path):
        stack = np.stack([np.full((8, 9), n * 100, np.uint16) for n in range(5)])
        tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
        for n in range(5):
            assert (read(tmp_path / "a.tif", n, window={"percentiles": [0, 100]}) == np.float32(n / 4)).all()

    def test_a_small_picture_is_read_once(self, five):
        reading, asked = Reading(channels=[0, 1, 4], window={"percentiles": [1, 99]}), []
        with open_image(five) as image:
            spied = replace(image, fetch=lambda n, w: asked.append(w) or image.fetch(n, w))
            np.testing.assert_array_equal(rgb_of(spied, reading), read_rgb(five, reading))
        assert len(asked) == 1

    def test_percentiles_of_a_stack_are_computed_once(self, tmp_path):
        stack = np.random.default_rng(0).integers(0, 900, (9, 8, 9)).astype(np.uint16)
        tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
        reading, asked, ranges = Reading(window={"percentiles": [1, 99]}), [], {}
        with open_image(tmp_path / "a.tif") as image:
            spied = replace(image, fetch=lambda n, w: asked.append(n) or image.fetch(n, w))
            each = [rgb_of(spied, reading, index=n, ranges=ranges) for n in range(9)]
        assert len(asked) == 9 + 9
        for n in range(9):
            np.testing.assert_array_equal(each[n], read_rgb(tmp_path / "a.tif", reading, n))


def test_readings_are_json_and_back():
    reading = Reading(channels=[0, None, 2], window={"percentiles": [1, 99]}, axes="CYX", array="raw")
    assert Reading.model_validate_json(reading.model_dump_json(exclude_none=True)) == reading
    assert reading.axes == "cyx"
    assert PLAIN.model_dump(exclude_none=True) == {}
