"""DICOM: units, frames, series in their order, spacing, and what is refused."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from scribbleseg.data.images import Window, open_image, read_index, read_rgb
from scribbleseg.errors import DataError
from tests.fake.scans import write_dicom, write_series

CT = np.random.default_rng(0).integers(0, 3000, (5, 40, 30)).astype(np.uint16)
HOUNSFIELD = {"RescaleSlope": 2, "RescaleIntercept": -1024, "BitsStored": 12, "HighBit": 11}


def test_more_than_8_bits_come_in_the_files_unit(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", CT[0], **HOUNSFIELD)
    with open_image(path) as image:
        assert (image.num_slices, image.shape, image.dtype) == (1, (40, 30, 1), np.float32)
        np.testing.assert_allclose(image.read()[..., 0], CT[0] * 2.0 - 1024)
        np.testing.assert_allclose(image.read(Window(3, 4, 10, 20))[..., 0], CT[0, 3:13, 4:24] * 2.0 - 1024)
    with pytest.raises(DataError, match=r"window: \{percentiles"):
        read_rgb(path)


def test_8_bits_and_colours_are_pictures(tmp_path):
    grey = (CT[0] % 256).astype(np.uint8)
    np.testing.assert_array_equal(read_rgb(write_dicom(tmp_path / "a.dcm", grey))[..., 0], grey / np.float32(255))
    np.testing.assert_array_equal(read_index(write_dicom(tmp_path / "a.dcm", grey)), grey)
    rgb = np.random.default_rng(0).integers(0, 255, (40, 30, 3)).astype(np.uint8)
    np.testing.assert_array_equal(read_rgb(write_dicom(tmp_path / "b.dcm", rgb)), rgb / np.float32(255))


def test_white_may_be_lowest(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", CT[0], **HOUNSFIELD | {"PhotometricInterpretation": "MONOCHROME1"})
    with open_image(path) as image:
        np.testing.assert_allclose(image.read()[..., 0], (4095 - CT[0].astype(float)) * 2 - 1024)


def test_frames_are_slices(tmp_path):
    with open_image(write_dicom(tmp_path / "a.dcm", CT)) as image:
        assert image.num_slices == 5
        for number in (4, 0, 2):
            np.testing.assert_array_equal(image.read(index=number)[..., 0], CT[number])


class TestSeries:
    def test_slices_are_in_the_order_of_their_places(self, tmp_path):
        folder = write_series(tmp_path / "scan", CT, 2.5, PixelSpacing=[0.5, 0.75])
        (folder / "DICOMDIR").write_bytes(b"an index")
        (folder / "notes.txt").write_text("x")
        with open_image(folder) as image:
            assert (image.num_slices, image.spacing_mm, image.slice_mm) == (5, (0.5, 0.75), 2.5)
            for number in range(5):
                np.testing.assert_array_equal(image.read(index=number)[..., 0], CT[number])

    def test_by_number_where_there_are_no_places(self, tmp_path):
        for n in range(5):
            write_dicom(tmp_path / "scan" / f"{9 - n}.dcm", CT[n], InstanceNumber=n + 1)
        with open_image(tmp_path / "scan") as image:
            np.testing.assert_array_equal(image.read(index=4)[..., 0], CT[4])

    def test_each_file_has_its_own_slope(self, tmp_path):
        for n in range(3):
            write_dicom(tmp_path / "scan" / f"{n}.dcm", CT[n], InstanceNumber=n, RescaleSlope=n + 1, RescaleIntercept=0)
        with open_image(tmp_path / "scan") as image:
            np.testing.assert_array_equal(image.read(index=2)[..., 0], CT[2] * 3.0)

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"SeriesInstanceUID": "1.2.4"}, "2 values of SeriesInstanceUID"),
            ({"ImagePositionPatient": [0, 0, 0]}, "two at the same"),
        ],
    )
    def test_what_is_not_one_series_is_refused(self, tmp_path, change, told):
        write_series(tmp_path / "scan", CT)
        place = {"ImagePositionPatient": [0, 0, 99], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
        write_dicom(tmp_path / "scan" / "more.dcm", CT[0], **place | change)
        with pytest.raises(DataError, match=told):
            read_rgb(tmp_path / "scan", index=0)

    def test_a_folder_without_files(self, tmp_path):
        (tmp_path / "scan").mkdir()
        with pytest.raises(DataError, match=r"the \.dcm files of one series(.|\n)*0 files"):
            read_rgb(tmp_path / "scan", index=0)

    def test_files_without_any_order(self, tmp_path):
        for n in range(2):
            write_dicom(tmp_path / "scan" / f"{n}.dcm", CT[n])
        with pytest.raises(DataError, match="neither place nor number"):
            read_rgb(tmp_path / "scan", index=0)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({}, None),
        ({"PixelSpacing": [0.5, 0.25]}, (0.5, 0.25)),
        ({"ImagerPixelSpacing": [0.2, 0.1]}, (0.2, 0.1)),
        ({"PixelSpacing": [0, 0.25]}, None),
    ],
)
def test_spacing(tmp_path, tags, expected):
    with open_image(write_dicom(tmp_path / "a.dcm", CT[0], **tags)) as image:
        assert image.spacing_mm == expected


def test_palettes_are_refused(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", CT[0], PhotometricInterpretation="PALETTE COLOR")
    with pytest.raises(DataError, match=r"a grey or RGB DICOM image(.|\n)*PALETTE COLOR"):
        read_rgb(path)


def test_a_compression_nobody_can_read_here_is_named(tmp_path):
    from pydicom.uid import JPEGLSLossless

    path = write_dicom(tmp_path / "a.dcm", (CT[0] % 256).astype(np.uint8))
    import pydicom
    from pydicom.encaps import encapsulate

    scan = pydicom.dcmread(path)
    scan.file_meta.TransferSyntaxUID = JPEGLSLossless
    scan.PixelData = encapsulate([b"\xff\xd8\xff\xf7" + bytes(40)])
    scan["PixelData"].is_undefined_length = True
    scan.save_as(path)
    with pytest.raises(DataError, match=r"JPEG-LS|that decodes"):
        read_rgb(path)


def test_header_that_claims_more_than_there_is(tmp_path):
    for tags in ({"Rows": 65000, "Columns": 65000}, {"NumberOfFrames": 2_000_000_000}):
        path = write_dicom(tmp_path / "a.dcm", CT[0], **tags)
        with pytest.raises(DataError):
            read_rgb(path, index=0)


def test_without_pydicom_the_package_is_named(tmp_path, monkeypatch):
    path = write_dicom(tmp_path / "a.dcm", CT[0])
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(DataError, match=r'pydicom, which reads DICOM files(.|\n)*pip install "scribbleseg\[medical\]"'):
        read_rgb(path)
