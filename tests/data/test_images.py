from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from scribbleseg.data.images import IMAGE_SUFFIXES, MAX_PIXELS, image_size, read_index, read_rgb, write_png
from scribbleseg.data.listing import Listing
from scribbleseg.data.readers.tiff import upright
from scribbleseg.errors import DataError, StorageError


def gradient(dtype: type, channels: int = 0, size: tuple[int, int] = (5, 7)) -> np.ndarray:
    """An array that uses the whole range of its type."""
    shape = (*size, channels) if channels else size
    return np.linspace(0, np.iinfo(dtype).max, int(np.prod(shape))).round().astype(dtype).reshape(shape)


class TestReadRgb:
    def check(self, path: Path, expected: np.ndarray, tolerance: float = 1e-6) -> None:
        rgb = read_rgb(path)
        assert rgb.dtype == np.float32
        assert rgb.shape == (*expected.shape[:2], 3)
        np.testing.assert_allclose(rgb, np.broadcast_to(expected, rgb.shape), atol=tolerance)

    def test_grey_8_bit_png(self, tmp_path):
        array = gradient(np.uint8)
        Image.fromarray(array).save(tmp_path / "a.png")
        self.check(tmp_path / "a.png", array[..., None] / 255)

    def test_rgb_png(self, tmp_path):
        array = gradient(np.uint8, 3)
        Image.fromarray(array).save(tmp_path / "a.png")
        self.check(tmp_path / "a.png", array / 255)

    def test_rgba_png_drops_the_opacity(self, tmp_path):
        array = gradient(np.uint8, 4)
        Image.fromarray(array).save(tmp_path / "a.png")
        self.check(tmp_path / "a.png", array[..., :3] / 255)

    def test_grey_with_opacity(self, tmp_path):
        array = gradient(np.uint8, 2)
        bands = [Image.fromarray(np.ascontiguousarray(array[..., k])) for k in range(2)]
        Image.merge("LA", bands).save(tmp_path / "a.png")
        self.check(tmp_path / "a.png", array[..., :1] / 255)

    @pytest.mark.parametrize("transparency", [None, 1, b"\x00\x80\xff"])
    def test_palette_png_gives_its_colours(self, tmp_path, transparency):
        index = np.arange(35, dtype=np.uint8).reshape(5, 7) % 3
        picture = Image.fromarray(index).convert("P")
        picture.putdata(index.ravel().tolist())
        colours = np.array([[255, 0, 0], [0, 128, 0], [10, 20, 30]], np.uint8)
        picture.putpalette(colours.ravel().tolist())
        picture.save(tmp_path / "a.png", **({} if transparency is None else {"transparency": transparency}))
        self.check(tmp_path / "a.png", colours[index] / 255)

    def test_grey_16_bit_png_keeps_its_depth(self, tmp_path):
        array = gradient(np.uint16)
        Image.fromarray(array).save(tmp_path / "a.png")
        self.check(tmp_path / "a.png", array[..., None] / 65535)
        assert len(np.unique(read_rgb(tmp_path / "a.png"))) == array.size
        fine = np.array([[1000, 1001]], np.uint16)  # one step of 16 bit, far below one of 8
        Image.fromarray(fine).save(tmp_path / "b.png")
        assert np.diff(read_rgb(tmp_path / "b.png")[0, :, 0])[0] == pytest.approx(1 / 65535, rel=1e-2)

    @pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
    def test_rgb_16_bit_tiff(self, tmp_path, compression):
        array = gradient(np.uint16, 3)
        tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb", compression=compression)
        self.check(tmp_path / "a.tif", array / 65535)

    def test_planar_tiff(self, tmp_path):
        array = gradient(np.uint8, 3)
        tifffile.imwrite(tmp_path / "a.tiff", np.moveaxis(array, -1, 0), photometric="rgb", planarconfig="separate")
        self.check(tmp_path / "a.tiff", array / 255)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_float_tiff_in_the_unit_range(self, tmp_path, dtype):
        array = np.linspace(0, 1, 35).reshape(5, 7).astype(dtype)
        tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack")
        self.check(tmp_path / "a.tif", array[..., None])

    @pytest.mark.parametrize("strange", [1.5, -0.1, np.nan, np.inf])
    def test_float_tiff_beyond_is_refused(self, tmp_path, strange):
        array = np.full((5, 7), 0.5, np.float32)
        array[2, 3] = strange
        tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack")
        with pytest.raises(DataError, match=r"floats in \[0, 1\]"):
            read_rgb(tmp_path / "a.tif")

    def test_five_channels_are_refused(self, tmp_path):
        tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 9, 5), np.uint8), photometric="minisblack", planarconfig="contig")
        with pytest.raises(DataError, match="grey, RGB or RGBA"):
            read_rgb(tmp_path / "a.tif")

    def test_jpeg_is_turned_as_its_exif_says(self, tmp_path):
        array = np.zeros((16, 32, 3), np.uint8)
        array[:, :16, 0], array[:, 16:, 2] = 255, 255  # stored: left red, right blue
        exif = Image.Exif()
        exif[0x0112] = 6  # shown turned right: the left side comes on top
        Image.fromarray(array).save(tmp_path / "a.jpg", exif=exif, quality=95)
        rgb = read_rgb(tmp_path / "a.jpg")
        assert rgb.shape == (32, 16, 3)
        assert rgb[2:14, :, 0].min() > 0.9 > 0.1 > rgb[2:14, :, 2].max()
        assert rgb[18:30, :, 2].min() > 0.9 > 0.1 > rgb[18:30, :, 0].max()

    def test_cmyk_jpeg_becomes_rgb(self, tmp_path):
        Image.new("RGB", (16, 16), (255, 0, 0)).convert("CMYK").save(tmp_path / "a.jpg")
        rgb = read_rgb(tmp_path / "a.jpg")
        assert rgb.shape == (16, 16, 3)
        assert rgb[..., 0].min() > 0.8 > 0.2 > rgb[..., 1:].max()


class TestReadIndex:
    def test_grey_png(self, tmp_path):
        labels = np.array([[0, 1, 255], [2, 0, 254]], np.uint8)
        Image.fromarray(labels).save(tmp_path / "a.png")
        read = read_index(tmp_path / "a.png")
        assert read.dtype == np.uint8
        np.testing.assert_array_equal(read, labels)

    def test_palette_png_gives_its_indices(self, tmp_path):
        labels = np.array([[0, 1, 2], [2, 0, 255]], np.uint8)
        picture = Image.new("P", (3, 2))
        picture.putdata(labels.ravel().tolist())
        picture.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200] + [9, 9, 9] * 253)
        picture.save(tmp_path / "a.png")
        np.testing.assert_array_equal(read_index(tmp_path / "a.png"), labels)

    def test_two_colour_palette_png_gives_its_indices(self, tmp_path):
        # Pillow stores few colours with 1, 2 or 4 bits a pixel; the indices must stay.
        labels = np.array([[0, 1, 1, 0, 1]], np.uint8)
        picture = Image.new("P", (5, 1))
        picture.putdata(labels.ravel().tolist())
        picture.putpalette([255, 255, 255, 0, 0, 0])
        picture.save(tmp_path / "a.png", bits=1)
        np.testing.assert_array_equal(read_index(tmp_path / "a.png"), labels)

    def test_black_and_white_png_gives_0_and_1(self, tmp_path):
        labels = np.array([[0, 1, 1], [1, 0, 0]], bool)
        Image.fromarray(labels).save(tmp_path / "a.png")
        np.testing.assert_array_equal(read_index(tmp_path / "a.png"), labels.astype(np.uint8))

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32])
    def test_tiff(self, tmp_path, dtype):
        labels = np.array([[0, 1, 255], [2, 0, 3]], dtype)
        tifffile.imwrite(tmp_path / "a.tif", labels, photometric="minisblack")
        np.testing.assert_array_equal(read_index(tmp_path / "a.tif"), labels)

    def test_16_bit_png_with_small_ids(self, tmp_path):
        labels = np.array([[0, 1, 255], [2, 0, 3]], np.uint16)
        Image.fromarray(labels).save(tmp_path / "a.png")
        np.testing.assert_array_equal(read_index(tmp_path / "a.png"), labels)

    @pytest.mark.parametrize("mode", ["RGB", "RGBA"])
    def test_colours_are_refused(self, tmp_path, mode):
        Image.new(mode, (4, 4)).save(tmp_path / "a.png")
        with pytest.raises(DataError, match=f"one channel of class ids(.|\n)*mode {mode}(.|\n)*export label ids, not colours"):
            read_index(tmp_path / "a.png")

    def test_rgb_tiff_is_refused(self, tmp_path):
        tifffile.imwrite(tmp_path / "a.tif", gradient(np.uint8, 3), photometric="rgb")
        with pytest.raises(DataError, match="one channel of class ids from 0 to 255"):
            read_index(tmp_path / "a.tif")

    @pytest.mark.parametrize(
        "labels", [np.array([[0, 256]], np.uint16), np.array([[0.0, 1.0]], np.float32), np.array([[-1, 0]], np.int16)]
    )
    def test_values_that_are_no_ids_are_refused(self, tmp_path, labels):
        tifffile.imwrite(tmp_path / "a.tif", labels, photometric="minisblack")
        with pytest.raises(DataError, match="one channel of class ids from 0 to 255"):
            read_index(tmp_path / "a.tif")


READERS = [pytest.param(read_rgb, id="read_rgb"), pytest.param(read_index, id="read_index")]


def huge_png(path: Path, side: int = 60000) -> None:
    """A few bytes whose header claims side × side pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b""))


def huge_tiff(path: Path, side: int = 60000) -> None:
    """The same as TIFF: one strip of nothing."""
    tags = [
        (256, 4, side),
        (257, 4, side),
        (258, 3, 8),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8),
        (277, 3, 1),
        (278, 4, side),
        (279, 4, 4),
    ]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    path.write_bytes(b"II*\0" + struct.pack("<I", 12) + b"\0\0\0\0" + struct.pack("<H", len(tags)) + entries + b"\0\0\0\0")


@pytest.mark.parametrize("read", READERS)
class TestBrokenFiles:
    def test_missing(self, tmp_path, read):
        with pytest.raises(DataError, match="no such file"):
            read(tmp_path / "a.png")

    @pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
    @pytest.mark.parametrize("content", [b"", b"this is not a picture\n" * 20])
    def test_other_content(self, tmp_path, read, suffix, content):
        path = tmp_path / f"a{suffix}"
        path.write_bytes(content)
        refused_anyway = read is read_index and suffix == ".jpg"
        with pytest.raises(DataError, match="JPEG" if refused_anyway else "that decodes") as error:
            read(path)
        assert str(path) in str(error.value)

    @pytest.mark.parametrize(
        ("suffix", "options"), [(".png", {}), (".jpg", {}), (".tif", {}), (".tif", {"compression": "zlib"})]
    )
    @pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
    def test_cut_short(self, tmp_path, read, suffix, options, share):
        path = tmp_path / f"a{suffix}"
        noise = np.random.default_rng(0).integers(0, 3, (40, 50)).astype(np.uint8)
        if suffix == ".tif":
            tifffile.imwrite(path, noise, photometric="minisblack", **options)
        else:
            Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        refused_anyway = read is read_index and suffix == ".jpg"
        with pytest.raises(DataError, match="export label ids as PNG" if refused_anyway else "re-export the file"):
            read(path)

    @pytest.mark.parametrize(("suffix", "write"), [(".png", huge_png), (".tif", huge_tiff)])
    def test_header_that_claims_an_enormous_size(self, tmp_path, read, suffix, write):
        path = tmp_path / f"a{suffix}"
        write(path)
        assert path.stat().st_size < 500
        with pytest.raises(DataError):
            read(path)

    def test_a_size_below_our_limit_is_not_refused_for_its_size(self, tmp_path, read):
        huge_png(tmp_path / "a.png", side=10000)
        assert MAX_PIXELS > 10000**2
        with pytest.raises(DataError) as error:  # it is cut short, of course
            read(tmp_path / "a.png")
        assert "exceeds limit" not in str(error.value)


class TestFindImage:
    @pytest.mark.parametrize("suffix", [".png", ".jpg", ".jpeg", ".tif", ".tiff", ".PNG", ".JPG"])
    def test_any_known_suffix(self, tmp_path, suffix):
        (tmp_path / f"a.b{suffix}").touch()
        (tmp_path / f"a{suffix}").touch()
        assert Listing().find(tmp_path, "a.b").path == tmp_path / f"a.b{suffix}"

    def test_stem_in_a_subfolder(self, tmp_path):
        (tmp_path / "sub").mkdir()
        (tmp_path / "sub" / "a.png").touch()
        assert Listing().find(tmp_path, "sub/a").path == tmp_path / "sub" / "a.png"

    @pytest.mark.parametrize("others", [[], ["a.txt", "ab.png", "a.bmp"]])
    def test_none(self, tmp_path, others):
        for name in others:
            (tmp_path / name).touch()
        with pytest.raises(DataError, match=r"one file ending in \.png, \.jpg(.|\n)*no such file"):
            Listing().find(tmp_path, "a")

    def test_two_are_named(self, tmp_path):
        (tmp_path / "a.png").touch()
        (tmp_path / "a.jpg").touch()
        with pytest.raises(DataError, match=re.escape("a.png, a.jpg")):
            Listing().find(tmp_path, "a")


class TestWritePng:
    @pytest.mark.parametrize("channels", [0, 3])
    def test_round_trip(self, tmp_path, channels):
        array = gradient(np.uint8, channels)
        write_png(tmp_path / "new" / "folder" / "a.png", array)
        with Image.open(tmp_path / "new" / "folder" / "a.png") as picture:
            assert picture.format == "PNG"
            np.testing.assert_array_equal(np.asarray(picture), array)

    @pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
    def test_a_failed_write_leaves_the_old_file_and_nothing_else(self, tmp_path, monkeypatch, failure):
        path = tmp_path / "a.png"
        old = gradient(np.uint8)
        write_png(path, old)

        def fail(self, target, **options):
            Path(target).write_bytes(b"half a pict")
            raise failure

        monkeypatch.setattr(Image.Image, "save", fail)
        with pytest.raises(StorageError if isinstance(failure, OSError) else KeyboardInterrupt):
            write_png(path, old + 1)
        np.testing.assert_array_equal(read_index(path), old)
        assert [p.name for p in tmp_path.iterdir()] == ["a.png"]

    def test_a_place_that_is_no_folder(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(StorageError, match="a place where a file of this name can be written"):
            write_png(tmp_path / "file" / "a.png", gradient(np.uint8))


class TestTiffAndJpeg:
    """Files that open without an error and would be read wrongly."""

    def test_white_is_zero(self, tmp_path):
        grey = np.arange(200, dtype=np.uint8).reshape(10, 20)
        tifffile.imwrite(tmp_path / "a.tif", 255 - grey, photometric="miniswhite")
        np.testing.assert_allclose(read_rgb(tmp_path / "a.tif")[..., 0], grey / 255, atol=1e-6)

    @pytest.mark.parametrize("kind", ["cielab", "separated", "palette"])
    def test_colours_of_another_kind_are_refused(self, tmp_path, kind):
        shape = {"cielab": (8, 9, 3), "separated": (8, 9, 4), "palette": (8, 9)}[kind]
        extra = {"colormap": np.zeros((3, 256), np.uint16)} if kind == "palette" else {}
        tifffile.imwrite(tmp_path / "a.tif", np.zeros(shape, np.uint8), photometric=kind, **extra)
        with pytest.raises(DataError, match="save the picture as RGB"):
            read_rgb(tmp_path / "a.tif")

    def test_a_stack_is_refused(self, tmp_path):
        tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 8, 9), np.uint8), photometric="minisblack")
        with pytest.raises(DataError, match="a stack of 5"):
            read_rgb(tmp_path / "a.tif")

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_tiff_orientation_is_undone_as_pillow_undoes_exif(self, tmp_path, orientation):
        stored = np.random.default_rng(0).integers(0, 255, (8, 12, 3)).astype(np.uint8)
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
        expected = read_rgb(tmp_path / "a.png")
        np.testing.assert_allclose(upright(stored, orientation) / np.float32(255), expected, atol=1e-6)
        tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", extratags=[(274, 3, 1, orientation, True)])
        np.testing.assert_allclose(read_rgb(tmp_path / "a.tif"), expected, atol=1e-6)
        for suffix in ("png", "tif"):
            assert image_size(tmp_path / f"a.{suffix}") == expected.shape[:2]

    def test_an_orientation_at_the_end_of_a_png_counts_and_without_one_nothing_is_decoded(self, tmp_path, monkeypatch):
        exif = Image.Exif()
        exif[0x0112] = 6
        path = tmp_path / "a.png"
        Image.fromarray(np.zeros((8, 12), np.uint8)).save(path, exif=exif)
        stored = path.read_bytes()
        begin = stored.index(b"eXIf") - 4
        end = begin + 12 + int.from_bytes(stored[begin : begin + 4], "big")
        path.write_bytes(stored[:begin] + stored[end:-12] + stored[begin:end] + stored[-12:])
        assert image_size(path) == read_rgb(path).shape[:2] == (12, 8)

        def decode(*_):
            raise AssertionError("decoded")

        monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decode)
        Image.fromarray(np.zeros((8, 12), np.uint8)).save(tmp_path / "b.png")
        assert image_size(tmp_path / "b.png") == (8, 12)

    def test_labels_in_jpeg_are_refused(self, tmp_path):
        Image.fromarray(np.zeros((8, 9), np.uint8)).save(tmp_path / "a.jpg")
        with pytest.raises(DataError, match="JPEG, which invents new ones"):
            read_index(tmp_path / "a.jpg")


def test_every_format_is_documented():
    page = (Path(__file__).parents[2] / "docs" / "reference" / "images.md").read_text(encoding="utf-8")
    for suffix in IMAGE_SUFFIXES:
        assert f"`{suffix}`" in page
    assert f"{MAX_PIXELS:,}" in page


def test_webp(tmp_path):
    picture = gradient(np.uint8, 3, (20, 30))
    Image.fromarray(picture).save(tmp_path / "a.webp", lossless=True)
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.webp"), picture.astype(np.float32) / 255)
    assert Listing().find(tmp_path, "a").path == tmp_path / "a.webp"


def test_a_format_nobody_knows_is_named(tmp_path):
    (tmp_path / "a.gif").touch()
    for read in (read_rgb, read_index, image_size):
        with pytest.raises(DataError, match=r"a file ending in \.png(.|\n)*'a\.gif'"):
            read(tmp_path / "a.gif")
