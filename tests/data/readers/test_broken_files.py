"""Valid small files with some bytes changed, lost or doubled: a picture or one of our errors, and nothing else."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings, strategies as st
from PIL import Image as Pillow

from scribbleseg.data.images import Window, image_size, open_image, read_index, read_rgb
from scribbleseg.errors import ScribblesegError
from tests.fake.scans import write_dicom, write_hdf5, write_nifti, write_series, write_zarr

GREY = np.random.default_rng(0).integers(0, 5, (17, 23)).astype(np.uint8)
STACK = np.random.default_rng(0).integers(0, 900, (3, 17, 23)).astype(np.uint16)

MAKERS: dict[str, Callable[[Path], object]] = {
    "a.png": lambda p: Pillow.fromarray(GREY).save(p),
    "a.jpg": lambda p: Pillow.fromarray(GREY).save(p),
    "a.webp": lambda p: Pillow.fromarray(np.stack([GREY] * 3, -1)).save(p, lossless=True),
    "a.tif": lambda p: tifffile.imwrite(p, GREY),
    "tiles.tif": lambda p: tifffile.imwrite(p, GREY, tile=(16, 16), compression="zlib", resolution=(3, 3)),
    "stack.tif": lambda p: tifffile.imwrite(p, STACK, imagej=True, resolution=(3, 3), metadata={"axes": "ZYX", "unit": "um"}),
    "stack.ome.tif": lambda p: tifffile.imwrite(p, STACK, metadata={"axes": "CYX", "PhysicalSizeX": 1}),
    "a.nii": lambda p: write_nifti(p, STACK),
    "a.nii.gz": lambda p: write_nifti(p, STACK, slope=(2.0, 1.0)),
    "a.dcm": lambda p: write_dicom(p, STACK, RescaleSlope=2, RescaleIntercept=0, PixelSpacing=[1, 1]),
    "series": lambda p: write_series(p, STACK, PixelSpacing=[1, 1]),
    "a.h5": lambda p: write_hdf5(p, {"element_size_um": [1.0, 1.0, 1.0]}, data=STACK),
    "a.zarr": lambda p: write_zarr(p, STACK),
    "old.zarr": lambda p: write_zarr(p, STACK, zarr_format=2),
}

#: Where a change goes (as a share of the file, more often in its head), and what is done there.
changes = st.lists(
    st.tuples(
        st.one_of(st.floats(0, 1), st.floats(0, 0.02)),
        st.sampled_from(["set", "set", "set", "cut", "drop", "double"]),
        st.one_of(st.integers(0, 255), st.sampled_from([0, 1, 0x7F, 0x80, 0xFF])),
    ),
    min_size=1,
    max_size=6,
)


def spoil(content: bytes, what: list[tuple[float, str, int]]) -> bytes:
    data = bytearray(content)
    for share, kind, value in what:
        place = int(share * max(0, len(data) - 1))
        if kind == "set" and data:
            data[place] = value
        elif kind == "cut":
            del data[place:]
        elif kind == "drop":
            del data[place : place + value]
        elif kind == "double":
            data[place:place] = data[place : place + value]
    return bytes(data)


def read_everything(path: Path) -> None:
    """Do all that the program does with an image; only our own errors may come."""
    for read in (image_size, read_rgb, read_index, lambda p: read_rgb(p, index=0), lambda p: read_index(p, 1)):
        with contextlib.suppress(ScribblesegError):
            read(path)
    with contextlib.suppress(ScribblesegError), open_image(path) as image:
        height, width, _ = image.shape
        assert image.spacing_mm is None or min(image.spacing_mm) > 0
        image.read(Window(0, 0, min(height, 5), min(width, 5)), image.num_slices - 1)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    for name, make in MAKERS.items():
        make(folder / name)
    return folder


@pytest.mark.parametrize("name", MAKERS)
def test_the_files_are_good_before(made, name):
    with open_image(made / name) as image:
        assert image.read(index=0).shape[:2] == (17, 23)


@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(what=changes, part=st.integers(0, 5))
def test_spoilt_files_give_a_picture_or_our_error(made, tmp_path, name, what, part):
    path = tmp_path / name
    shutil.rmtree(path, ignore_errors=True)
    path.unlink(missing_ok=True)
    source = made / name
    if source.is_dir():
        shutil.copytree(source, path)
        parts = sorted(p for p in path.rglob("*") if p.is_file())
        target = parts[part % len(parts)]
    else:
        path.write_bytes(source.read_bytes())
        target = path
    target.write_bytes(spoil(target.read_bytes(), what))
    read_everything(path)


@pytest.mark.parametrize("name", MAKERS)
def test_other_content_is_named(tmp_path, name):
    path = tmp_path / name
    if name == "series":
        path.mkdir()
        target = path / "a.dcm"
    elif name.endswith(".zarr"):
        path.mkdir()
        target = path / "zarr.json"
    else:
        target = path
    for content in (b"", b"this is no picture\n" * 99):
        target.write_bytes(content)
        with pytest.raises(ScribblesegError) as error:
            read_rgb(path)
        assert str(path) in str(error.value)
