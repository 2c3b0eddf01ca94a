"""HDF5 and zarr: which array, which axes, windows by chunks, spacing, shapes that cannot be."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from scribbleseg.data.images import Window, image_size, open_image, read_index, read_rgb
from scribbleseg.errors import DataError
from scribbleseg.reading import Reading
from tests.fake.scans import write_hdf5, write_zarr

RNG = np.random.default_rng(0)


def values(*shape: int) -> np.ndarray:
    return RNG.integers(0, 255, shape).astype(np.uint8)


def write(path, array, **options):
    return write_hdf5(path, data=array) if path.suffix == ".h5" else write_zarr(path, array, **options)


both = pytest.mark.parametrize("suffix", [".h5", ".zarr"])


@both
@pytest.mark.parametrize(
    ("shape", "slices", "picture"),
    [
        ((40, 30), 1, (40, 30, 1)),
        ((40, 30, 3), 1, (40, 30, 3)),
        ((7, 40, 30), 7, (40, 30, 1)),
        ((7, 40, 30, 2), 7, (40, 30, 2)),
        ((1, 40, 30), 1, (40, 30, 1)),
    ],
)
def test_without_names_the_axes_are_told_by_their_number(tmp_path, suffix, shape, slices, picture):
    array = values(*shape)
    with open_image(write(tmp_path / f"a{suffix}", array)) as image:
        assert (image.num_slices, image.shape) == (slices, picture)
        part = image.pixels(Window(3, 5, 20, 11), slices - 1)
    expected = array.reshape(slices, *picture)[-1, 3:23, 5:16]
    np.testing.assert_array_equal(part, expected)


@both
def test_axes_can_be_named_by_the_user(tmp_path, suffix):
    array = values(2, 40, 30)
    path = write(tmp_path / f"a{suffix}", array)
    with open_image(path, Reading(axes="cyx")) as image:
        assert (image.num_slices, image.shape) == (1, (40, 30, 2))
        np.testing.assert_array_equal(image.pixels(), np.moveaxis(array, 0, -1))
    with open_image(path, Reading(axes="zxy")) as image:
        assert image.shape == (30, 40, 1)
        np.testing.assert_array_equal(image.pixels(index=1)[..., 0], array[1].T)
    with pytest.raises(DataError, match=r"axes zcyx of lengths 2 × 40 × 30(.|\n)*dataset\.yaml"):
        image_size(path, Reading(axes="zcyx"))


@both
def test_four_axes_without_names_may_need_them(tmp_path, suffix):
    path = write(tmp_path / f"a{suffix}", values(2, 3, 40, 30))
    with pytest.raises(DataError, match=r"axes not named(.|\n)*axes: cyx"):
        image_size(path)
    assert image_size(path, Reading(axes="zcyx")) == (40, 30)


@both
def test_labels(tmp_path, suffix):
    labels = (values(7, 40, 30) % 4).astype(np.int64)
    path = write(tmp_path / f"a{suffix}", labels)
    np.testing.assert_array_equal(read_index(path, 6), labels[6])
    path = write(tmp_path / f"b{suffix}", labels.astype(np.float32))
    with pytest.raises(DataError, match="class ids from 0 to 255"):
        read_index(path, 6)


@both
def test_big_endian_values(tmp_path, suffix):
    array = RNG.integers(0, 65535, (40, 30)).astype(">u2")
    rgb = read_rgb(write(tmp_path / f"a{suffix}", array))
    np.testing.assert_array_equal(rgb[..., 0], array.astype(np.float32) / 65535)


class TestHdf5:
    def test_the_only_array_is_taken_wherever_it_is(self, tmp_path):
        array = values(40, 30)
        path = write_hdf5(tmp_path / "a.h5", volume__raw=array, offsets=np.arange(9))
        np.testing.assert_array_equal(read_index(path), array)

    def test_of_several_one_must_be_named(self, tmp_path):
        path = write_hdf5(tmp_path / "a.h5", image=values(40, 30), label=values(40, 30) % 3, groups__scribble=values(40, 30))
        with pytest.raises(DataError, match=r"groups/scribble, image, label(.|\n)*arrays: \{images"):
            read_rgb(path)
        with pytest.raises(DataError, match=r"an array 'imge'(.|\n)*did you mean 'image'"):
            read_rgb(path, Reading(array="imge"))
        assert read_rgb(path, Reading(array="image")).shape == (40, 30, 3)
        assert read_index(path, array="/label").max() == 2

    def test_ilastiks_axistags(self, tmp_path):
        array = values(1, 7, 40, 30, 2)
        tags = json.dumps({"axes": [{"key": k, "typeFlags": 2} for k in "tzyxc"]})
        with open_image(write_hdf5(tmp_path / "a.h5", {"axistags": tags}, exported_data=array)) as image:
            assert (image.num_slices, image.shape) == (7, (40, 30, 2))
            np.testing.assert_array_equal(image.pixels(Window(0, 1, 9, 8), 3), array[0, 3, :9, 1:9])

    def test_spacing_as_imagej_writes_it(self, tmp_path):
        path = write_hdf5(tmp_path / "a.h5", {"element_size_um": [2.0, 0.5, 0.25]}, t0=values(7, 40, 30))
        with open_image(path) as image:
            assert (image.spacing_mm, image.slice_mm) == ((0.5e-3, 0.25e-3), 2e-3)

    def test_values_in_another_file_are_refused(self, tmp_path):
        import h5py

        (tmp_path / "secret.bin").write_bytes(bytes(1200))
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file.create_dataset("a", (40, 30), "u1", external=[(str(tmp_path / "secret.bin"), 0, 1200)])
            file["b"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "a")
        with pytest.raises(DataError, match="values in another file"):
            read_rgb(tmp_path / "a.h5")

    def test_no_array(self, tmp_path):
        with pytest.raises(DataError, match=r"one array(.|\n)*none"):
            read_rgb(write_hdf5(tmp_path / "a.h5", names=np.arange(4)))


class TestZarr:
    def test_ome_zarr_gives_its_finest_level_with_axes_and_spacing(self, tmp_path):
        import zarr

        array = values(2, 7, 40, 30)
        group = zarr.create_group(str(tmp_path / "a.ome.zarr"))
        for level, step in (("0", 1), ("1", 2)):
            part = array[..., ::step, ::step]
            group.create_array(level, shape=part.shape, dtype=part.dtype, chunks=(1, 1, 16, 16))[...] = part
        axes = [{"name": "c", "type": "channel"}] + [{"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"]
        levels = [
            {"path": p, "coordinateTransformations": [{"type": "scale", "scale": [1, 2, s, s]}]}
            for p, s in (("0", 0.5), ("1", 1.0))
        ]
        group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": levels}]}
        with open_image(tmp_path / "a.ome.zarr") as image:
            assert (image.num_slices, image.shape) == (7, (40, 30, 2))
            assert image.spacing_mm == pytest.approx((0.5e-3, 0.5e-3))
            assert image.slice_mm == pytest.approx(2e-3)
            np.testing.assert_array_equal(image.pixels(Window(1, 2, 30, 20), 4), np.moveaxis(array[:, 4, 1:31, 2:22], 0, -1))

    def test_dimension_names(self, tmp_path):
        array = values(2, 40, 30)
        with open_image(write_zarr(tmp_path / "a.zarr", array, dimension_names=("channel", "y", "x"))) as image:
            assert image.shape == (40, 30, 2)

    def test_missing(self, tmp_path):
        with pytest.raises(DataError, match="no such file"):
            read_rgb(tmp_path / "a.zarr")
        (tmp_path / "b.zarr").mkdir()
        with pytest.raises(DataError, match="a folder without zarr's metadata"):
            read_rgb(tmp_path / "b.zarr")

    @pytest.mark.parametrize(("key", "told"), [("shape", "slices"), ("chunks", "chunks of at most 1024 MB")])
    def test_an_absurd_shape_is_refused_in_no_time(self, tmp_path, key, told):
        path = write_zarr(tmp_path / "a.zarr", values(7, 40, 30))
        tree = json.loads((path / "zarr.json").read_text())
        if key == "shape":
            tree["shape"] = [10**12, 10**9, 10**9]
        else:
            tree["chunk_grid"]["configuration"]["chunk_shape"] = [10**4, 10**4, 10**4]
        (path / "zarr.json").write_text(json.dumps(tree))
        with pytest.raises(DataError, match=told):
            read_rgb(path, index=0)

    def test_a_picture_that_is_too_large_is_read_by_windows_only(self, tmp_path):
        import zarr

        zarr.create_array(str(tmp_path / "a.zarr"), shape=(10**6, 10**6), dtype="u1", chunks=(256, 256), fill_value=7)
        with pytest.raises(DataError, match="at most 178956970 pixels"):
            read_rgb(tmp_path / "a.zarr")
        with open_image(tmp_path / "a.zarr") as image:
            assert (image.read(Window(999_000, 5, 100, 100)) == 7).all()


PEAK = """
import resource, sys
from pathlib import Path
from scribbleseg.data.images import Window, open_image
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
with open_image(Path(sys.argv[2])) as image: image.read()
before = peak()
with open_image(Path(sys.argv[1])) as image:
    assert image.read(Window(100, 200, 512, 512)).shape == (512, 512, 1)
print(peak() - before)
"""


@both
def test_a_window_takes_the_memory_of_its_chunks(tmp_path, suffix):
    """20,000 × 20,000 values of which few are written: the whole would be 400 MB."""
    small, large = write(tmp_path / f"small{suffix}", values(40, 30)), tmp_path / f"large{suffix}"
    if suffix == ".h5":
        import h5py

        with h5py.File(large, "w") as file:
            file.create_dataset("a", (20_000, 20_000), "u1", chunks=(256, 256))[:1000, :1000] = 3
    else:
        import zarr

        zarr.create_array(str(large), shape=(20_000, 20_000), dtype="u1", chunks=(256, 256))[:1000, :1000] = 3
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(large), str(small)], capture_output=True, text=True, check=True, timeout=120
    )
    assert float(done.stdout) < 60


@both
def test_without_the_library_the_package_is_named(tmp_path, monkeypatch, suffix):
    path = write(tmp_path / f"a{suffix}", values(40, 30))
    for module in ("h5py", "zarr"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DataError, match=r'(h5py|zarr), which reads(.|\n)*pip install "scribbleseg\[arrays\]"'):
        read_rgb(path)
