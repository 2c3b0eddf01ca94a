"""NIfTI: slices as ITK has them, slope and intercept, windows, spacing, headers that lie."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest

from scribbleseg.data.images import Window, image_size, open_image, read_index, read_rgb
from scribbleseg.errors import DataError
from tests.fake.scans import write_nifti

VOLUME = np.random.default_rng(0).integers(-200, 1200, (5, 40, 30)).astype(np.int16)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_slice_has_the_second_axis_as_rows(tmp_path, suffix):
    path = write_nifti(tmp_path / f"a{suffix}", VOLUME)
    with open_image(path) as image:
        assert (image.num_slices, image.shape, image.dtype) == (5, (40, 30, 1), np.int16)
        for number in (3, 0, 4):  # a packed file is read otherwise from the second slice on
            np.testing.assert_array_equal(image.pixels(index=number)[..., 0], VOLUME[number])
        part = image.read(Window(7, 11, 20, 10), 2)
        assert part.dtype == np.float32
        np.testing.assert_array_equal(part[..., 0], VOLUME[2, 7:27, 11:21])
    assert image_size(path) == (40, 30)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_slope_and_intercept_are_applied(tmp_path, suffix):
    path = write_nifti(tmp_path / f"a{suffix}", VOLUME, slope=(0.5, -1000.0))
    with open_image(path) as image:
        assert image.dtype.kind == "f"
        for number in (1, 3):
            np.testing.assert_allclose(image.read(index=number)[..., 0], VOLUME[number] * 0.5 - 1000)


def test_a_fourth_axis_is_channels(tmp_path):
    volume = np.random.default_rng(0).integers(0, 255, (5, 40, 30, 2)).astype(np.uint8)
    with open_image(write_nifti(tmp_path / "a.nii", volume)) as image:
        assert (image.num_slices, image.shape) == (5, (40, 30, 2))
        np.testing.assert_array_equal(image.pixels(Window(1, 2, 3, 4), 3), volume[3, 1:4, 2:6])


def test_a_plane_is_a_picture(tmp_path):
    picture = np.arange(1200, dtype=np.uint8).reshape(40, 30)
    np.testing.assert_array_equal(read_rgb(write_nifti(tmp_path / "a.nii", picture))[..., 1], picture.astype(np.float32) / 255)
    np.testing.assert_array_equal(read_rgb(write_nifti(tmp_path / "b.nii", picture[None]))[..., 1], picture / np.float32(255))


def test_labels(tmp_path):
    labels = np.random.default_rng(0).integers(0, 4, (5, 40, 30)).astype(np.int16)
    labels[:, 0] = 255
    read = read_index(write_nifti(tmp_path / "a.nii.gz", labels), 3)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, labels[3])
    with pytest.raises(DataError, match=r"class ids from 0 to 255(.|\n)*float32"):
        read_index(write_nifti(tmp_path / "b.nii.gz", labels.astype(np.float32)), 3)


@pytest.mark.parametrize(("unit", "factor"), [("mm", 1), ("micron", 1e-3), ("meter", 1e3), ("unknown", 1)])
def test_spacing(tmp_path, unit, factor):
    with open_image(write_nifti(tmp_path / "a.nii", VOLUME, (0.5, 0.75, 8.0), unit)) as image:
        assert image.spacing_mm == pytest.approx((0.75 * factor, 0.5 * factor))
        assert image.slice_mm == pytest.approx(8 * factor)


class TestLies:
    """Headers that claim what the file does not hold: refused before any memory is taken."""

    @pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
    def test_more_values_than_bytes(self, tmp_path, suffix):
        path = write_nifti(tmp_path / "a.nii", VOLUME)
        content = bytearray(path.read_bytes())
        content[40:50] = struct.pack("<5h", 3, 30000, 30000, 30000, 1)
        bad = tmp_path / f"b{suffix}"
        bad.write_bytes(gzip.compress(bytes(content)) if suffix == ".nii.gz" else bytes(content))
        with pytest.raises(DataError, match=r"as many values as its header says(.|\n)*30000 × 30000 × 30000"):
            read_rgb(bad, index=0)

    @pytest.mark.parametrize("shape", [(0, 40, 5), (-30, 40, 5)])
    def test_no_pixels(self, tmp_path, shape):
        content = bytearray(write_nifti(tmp_path / "a.nii", VOLUME).read_bytes())
        content[42:48] = struct.pack("<3h", *shape)
        (tmp_path / "a.nii").write_bytes(content)
        with pytest.raises(DataError):
            read_rgb(tmp_path / "a.nii", index=0)

    def test_colours_of_three_bytes_are_refused(self, tmp_path):
        import nibabel

        colours = np.zeros((30, 40, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")])
        nibabel.save(nibabel.Nifti1Image(colours, np.eye(4)), tmp_path / "a.nii")
        with pytest.raises(DataError, match="whole or decimal numbers"):
            read_rgb(tmp_path / "a.nii", index=0)

    def test_not_a_number(self, tmp_path):
        volume = VOLUME.astype(np.float32)
        volume[2, 3, 4] = np.nan
        path = write_nifti(tmp_path / "a.nii", volume)
        with open_image(path) as image:
            image.read(index=1)
            with pytest.raises(DataError, match=r"NaN or infinity at 1 of 1200 values(.|\n)*nan_to_num") as error:
                image.read(index=2)
            assert str(path) in str(error.value)


def test_without_nibabel_the_package_is_named(tmp_path, monkeypatch):
    path = write_nifti(tmp_path / "a.nii", VOLUME)
    monkeypatch.setitem(__import__("sys").modules, "nibabel", None)
    with pytest.raises(DataError, match=r'nibabel, which reads NIfTI files(.|\n)*pip install "scribbleseg\[medical\]"'):
        read_rgb(path, index=0)
