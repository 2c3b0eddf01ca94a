"""TIFF: windows that are the same as cutting the whole picture, stacks, channels, spacing, and files that lie."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from scribbleseg.data.images import Window, open_image, read_index, read_rgb
from scribbleseg.errors import DataError

WINDOWS = [Window(0, 0, 70, 90), Window(0, 0, 1, 1), Window(13, 17, 40, 50), Window(60, 80, 10, 10), Window(5, 0, 33, 90)]


def noise(shape: tuple[int, ...], dtype: str = "uint8") -> np.ndarray:
    values = np.random.default_rng(0).integers(0, 250, shape)
    return (values / 250).astype(dtype) if dtype.startswith("float") else values.astype(dtype)


LAYOUTS = {
    "one strip": {},
    "strips": {"rowsperstrip": 7},
    "packed strips": {"rowsperstrip": 7, "compression": "zlib"},
    "one packed strip": {"compression": "lzw", "predictor": True},
    "tiles": {"tile": (32, 48)},
    "packed tiles": {"tile": (16, 16), "compression": "zlib"},
    "jpeg tiles": {"tile": (32, 32), "compression": "jpeg"},
    "big endian": {"byteorder": ">", "rowsperstrip": 16, "compression": "zlib"},
    "big endian, plain": {"byteorder": ">"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("colours", ["grey", "rgb", "planes"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_window_is_that_part_of_the_whole(tmp_path, layout, colours, dtype):
    options = LAYOUTS[layout]
    if "jpeg" in layout and dtype != "uint8":
        pytest.skip("JPEG has 8 bit")
    if options.get("predictor") and dtype == "float32":
        options = {"compression": "lzw"}
    shape = {"grey": (70, 90), "rgb": (70, 90, 3), "planes": (3, 70, 90)}[colours]
    options = options | ({"planarconfig": "separate"} if colours == "planes" else {})
    picture = noise(shape, dtype)
    photometric = "minisblack" if colours == "grey" else "rgb"
    tifffile.imwrite(tmp_path / "a.tif", picture, photometric=photometric, **options)
    with open_image(tmp_path / "a.tif") as image:
        whole = image.pixels()
        assert image.dtype == dtype
        assert whole.shape == image.shape == (70, 90, 1 if colours == "grey" else 3)
        if "jpeg" not in layout:
            upright = np.moveaxis(picture, 0, -1) if colours == "planes" else picture
            np.testing.assert_array_equal(whole, upright.reshape(whole.shape))
        for window in WINDOWS:
            rows, columns = window.place
            np.testing.assert_array_equal(image.pixels(window), whole[rows, columns])
            np.testing.assert_array_equal(image.read(window), whole[rows, columns].astype(np.float32))


@pytest.mark.parametrize("window", [Window(0, 0, 71, 1), Window(-1, 0, 5, 5), Window(0, 89, 1, 2)])
def test_a_window_beyond_the_picture_is_refused(tmp_path, window):
    tifffile.imwrite(tmp_path / "a.tif", noise((70, 90)))
    with open_image(tmp_path / "a.tif") as image, pytest.raises(DataError, match="a window inside 90 × 70 pixels"):
        image.read(window)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_windows_of_a_turned_picture_are_turned(tmp_path, orientation):
    tifffile.imwrite(tmp_path / "a.tif", noise((70, 90)), extratags=[(274, 3, 1, orientation, True)])
    with open_image(tmp_path / "a.tif") as image:
        np.testing.assert_array_equal(image.pixels(Window(3, 4, 20, 30)), image.pixels()[3:23, 4:34])


def test_missing_tiles_are_zeros(tmp_path):
    """Writers of large slides leave empty tiles out."""
    tiles = (np.full((16, 16), k, np.uint8) if k != 2 else None for k in range(4))
    tifffile.imwrite(tmp_path / "a.tif", tiles, shape=(32, 32), dtype=np.uint8, tile=(16, 16), compression="zlib")
    with open_image(tmp_path / "a.tif") as image:
        part = image.pixels(Window(8, 8, 16, 16))[..., 0]
    np.testing.assert_array_equal(part, np.kron([[0, 1], [0, 3]], np.ones((8, 8))))


PEAK = """
import resource, sys
from pathlib import Path
from scribbleseg.data.images import Window, open_image
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak()
with open_image(Path(sys.argv[1])) as image:
    part = image.read(Window(9000, 11000, 512, 512))
assert part.shape == (512, 512, 3) and part.max() > 0
print(peak() - before)
"""


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_window_of_a_large_slide_takes_little_memory(tmp_path, compression):
    side, tile = 20_000, 512
    number = (-(-side // tile)) ** 2
    content = noise((tile, tile, 3))
    if compression is None:  # 1.2 GB on disk would be slow to write: a file with holes
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, shape=(side, side, 3), dtype=np.uint8, photometric="rgb", tile=(tile, tile))
        with tifffile.TiffFile(path) as tiff:
            place = tiff.pages[0].dataoffsets[(9000 // tile) * (-(-side // tile)) + 11000 // tile]
        with path.open("r+b") as file:
            file.seek(place)
            file.write(content.tobytes())
    else:
        path = tmp_path / "a.tif"
        tiles = (content if n % 7 == 0 else None for n in range(number))
        tifffile.imwrite(
            path, tiles, shape=(side, side, 3), dtype=np.uint8, photometric="rgb", tile=(tile, tile), compression=compression
        )
    done = subprocess.run([sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, check=True, timeout=120)
    assert float(done.stdout) < 100  # MB; the whole picture is 1200
    with pytest.raises(DataError, match="at most 178956970 pixels"):
        read_rgb(path)


class TestStacks:
    def test_pages_are_slices(self, tmp_path):
        stack = noise((5, 8, 9))
        tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
        with open_image(tmp_path / "a.tif") as image:
            assert (image.num_slices, image.shape) == (5, (8, 9, 1))
            np.testing.assert_array_equal(image.pixels(Window(2, 3, 4, 5), 3)[..., 0], stack[3, 2:6, 3:8])
        np.testing.assert_array_equal(read_rgb(tmp_path / "a.tif", index=4)[..., 0], stack[4] / np.float32(255))
        np.testing.assert_array_equal(read_index(tmp_path / "a.tif", index=1), stack[1])

    def test_without_a_number_a_stack_is_refused(self, tmp_path):
        tifffile.imwrite(tmp_path / "a.tif", noise((5, 8, 9)), photometric="minisblack")
        with pytest.raises(DataError, match=r"a stack of 5(.|\n)*a@\*"):
            read_rgb(tmp_path / "a.tif")
        with pytest.raises(DataError, match=r"from 0 to 4(.|\n)*slice 5"):
            read_rgb(tmp_path / "a.tif", index=5)

    def test_colour_pages(self, tmp_path):
        stack = noise((4, 8, 9, 3))
        tifffile.imwrite(tmp_path / "a.tif", stack, photometric="rgb")
        np.testing.assert_array_equal(read_rgb(tmp_path / "a.tif", index=2), stack[2] / np.float32(255))

    @pytest.mark.parametrize("kind", ["imagej", "ome", "bigimagej"])
    def test_imagej_and_ome_say_what_is_a_channel(self, tmp_path, kind):
        stack = noise((5, 2, 8, 9), "uint16")
        options = {"ome": True} if kind == "ome" else {"imagej": True}
        suffix = ".ome.tif" if kind == "ome" else ".tif"
        path = tmp_path / f"a{suffix}"
        tifffile.imwrite(path, stack, metadata={"axes": "ZCYX"}, **options)
        if kind == "bigimagej":  # ImageJ writes stacks of more than 4 GB as one page
            tifffile.imwrite(path, stack, metadata={"axes": "ZCYX"}, imagej=True, truncate=True)
            with tifffile.TiffFile(path) as tiff:
                assert len(tiff.pages) == 1
        with open_image(path) as image:
            assert (image.num_slices, image.shape) == (5, (8, 9, 2))
            np.testing.assert_array_equal(image.pixels(Window(1, 2, 3, 4), 3), np.moveaxis(stack[3, :, 1:4, 2:6], 0, -1))

    def test_a_pyramid_is_its_largest_level(self, tmp_path):
        picture = noise((64, 64, 3))
        with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
            tiff.write(picture, photometric="rgb", tile=(16, 16))
            tiff.write(picture[::2, ::2], photometric="rgb", tile=(16, 16))
        np.testing.assert_array_equal(read_rgb(tmp_path / "a.tif"), picture / np.float32(255))

    def test_two_axes_of_slices_are_refused(self, tmp_path):
        tifffile.imwrite(tmp_path / "a.tif", noise((3, 5, 8, 9)), imagej=True, metadata={"axes": "TZYX"})
        with pytest.raises(DataError, match="at most one axis of slices"):
            read_rgb(tmp_path / "a.tif", index=0)


class TestSpacing:
    def spacing(self, path: Path, picture: np.ndarray | None = None, **options):
        tifffile.imwrite(path, noise((8, 9)) if picture is None else picture, **options)
        with open_image(path) as image:
            return image.spacing_mm, image.slice_mm

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({}, None),
            ({"resolution": (600, 300), "resolutionunit": 2}, (25.4 / 300, 25.4 / 600)),
            ({"resolution": (100, 100), "resolutionunit": 3}, (0.1, 0.1)),
            ({"resolution": (72, 72), "resolutionunit": 2}, None),
            ({"resolution": (4, 2), "imagej": True, "metadata": {"unit": "um"}}, (0.5e-3, 0.25e-3)),
        ],
    )
    def test_of_tags(self, tmp_path, options, expected):
        found, _ = self.spacing(tmp_path / "a.tif", **options)
        assert found == (None if expected is None else pytest.approx(expected))

    def test_of_imagej_stacks(self, tmp_path):
        meta = {"unit": "um", "spacing": 3.0, "axes": "ZYX"}
        found, apart = self.spacing(tmp_path / "a.tif", noise((4, 8, 9)), resolution=(2, 2), imagej=True, metadata=meta)
        assert (*found, apart) == pytest.approx((0.5e-3, 0.5e-3, 3e-3))

    def test_of_ome(self, tmp_path):
        meta = {"axes": "ZYX", "PhysicalSizeX": 0.2, "PhysicalSizeY": 0.3, "PhysicalSizeZ": 2, "PhysicalSizeZUnit": "mm"}
        found, apart = self.spacing(tmp_path / "a.ome.tif", noise((4, 8, 9)), metadata=meta)
        assert (*found, apart) == pytest.approx((0.3e-3, 0.2e-3, 2))

    def test_a_turned_picture_swaps_rows_and_columns(self, tmp_path):
        tags = {"resolution": (200, 100), "resolutionunit": 3, "extratags": [(274, 3, 1, 6, True)]}
        assert self.spacing(tmp_path / "a.tif", **tags)[0] == pytest.approx((0.05, 0.1))


class TestLies:
    @pytest.mark.parametrize("tag", ["ImageWidth", "ImageLength"])
    def test_fewer_tiles_than_the_size_needs(self, tmp_path, tag):
        """A million missing tiles took minutes to find."""
        tifffile.imwrite(tmp_path / "a.tif", noise((40, 40)), tile=(16, 16), compression="zlib")
        with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as tiff:
            tiff.pages[0].tags[tag].overwrite(4_000_000)
        with pytest.raises(DataError, match="9 tiles or strips, of 750000"):
            read_rgb(tmp_path / "a.tif")
        with open_image(tmp_path / "a.tif") as image, pytest.raises(DataError, match="9 tiles or strips"):
            image.read(Window(0, 0, 8, 8))

    def test_a_tile_that_is_too_large_to_unpack(self, tmp_path):
        tifffile.imwrite(tmp_path / "a.tif", noise((40, 40)), compression="zlib")
        with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as tiff:
            for tag in ("ImageWidth", "ImageLength", "RowsPerStrip"):
                tiff.pages[0].tags[tag].overwrite(60_000)
        with open_image(tmp_path / "a.tif") as image, pytest.raises(DataError, match="at most 178956970 pixels"):
            image.read(Window(0, 0, 8, 8))


def test_a_damaged_file_gives_our_error_alone(tmp_path, caplog, capsys):
    """tifffile logs what it stumbles over; in this thread that is for us to tell, in others it is somebody else's."""
    tifffile.imwrite(tmp_path / "a.tif", noise((70, 90)), description="text")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    (tmp_path / "a.tif").write_bytes(data[:30] + b"\xff" * 60 + data[90:])
    with pytest.raises(DataError), open_image(tmp_path / "a.tif") as image:
        image.pixels()
    assert not caplog.records
    assert capsys.readouterr().err == ""
    logging.getLogger("tifffile").error("of somebody else")
    assert [record.getMessage() for record in caplog.records] == ["of somebody else"]
