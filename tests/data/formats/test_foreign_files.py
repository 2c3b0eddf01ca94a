"""Files made by the tools' own libraries, or laid out as the tools do: the labels come out as they were drawn."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image

from scribbleseg.data.convert import convert
from scribbleseg.data.folder import open_dataset
from scribbleseg.data.formats import recognise
from scribbleseg.data.formats.contents import Options
from scribbleseg.data.formats.labels import fill, from_zero, read_runs, runs_of
from scribbleseg.data.images import read_rgb
from scribbleseg.errors import DataError
from tests.data.formats.test_round_trips import labels_of
from tests.fake.annotations import write_ilastik_project, write_nifti, write_pictures, write_scribblesup, write_zarr
from tests.fake.datasets import write_image

FILES = Path(__file__).parent / "files"
NAMES = ("background", "leaf")
U = 255


@pytest.fixture
def drawn() -> np.ndarray:
    """What the fixtures hold: two classes on 20 × 30 pixels, a pixel in either corner."""
    return np.loadtxt(FILES / "labels.csv", dtype=np.uint8, delimiter=",")


@pytest.fixture
def images(tmp_path) -> Path:
    return write_pictures(tmp_path / "pictures", ["plant"], (20, 30))


def converted(source: Path, tmp_path: Path, name: str, **options) -> dict[str, np.ndarray]:
    """Recognise, convert, and return what a training would read."""
    assert recognise(source)[0] == name
    summary = convert(source, tmp_path / "out", Options(**options))
    assert not summary.failed
    return labels_of(tmp_path / "out")


def test_label_studio_brush_of_its_own_converter(drawn, images, tmp_path):
    source = shutil.copy(FILES / "label-studio.json", tmp_path / "export.json")
    found = converted(Path(source), tmp_path, "label-studio", images=images)
    np.testing.assert_array_equal(found["plant"], drawn)
    assert open_dataset(tmp_path / "out").names == NAMES


def test_coco_of_datumaro(drawn, images, tmp_path):
    (tmp_path / "set/annotations").mkdir(parents=True)
    shutil.copy(FILES / "datumaro-coco.json", tmp_path / "set/annotations/instances_default.json")
    found = converted(tmp_path / "set", tmp_path, "coco", images=images)
    np.testing.assert_array_equal(found["plant"], drawn)


def test_a_long_coco_file_is_recognised_by_its_beginning(tmp_path):
    images = [{"id": k, "width": 30, "height": 20, "file_name": f"{k}.jpg"} for k in range(5000)]
    for place, key in enumerate(("images", "annotations")):
        rows = {
            "images": images,
            "annotations": [{"id": k, "image_id": k, "segmentation": [[1, 2, 3, 4, 5, 6]]} for k in range(5000)],
        }
        (tmp_path / f"{place}.json").write_text(json.dumps({key: rows[key], **rows, "categories": []}))
        assert recognise(tmp_path / f"{place}.json")[0] == "coco"


def test_cvat_of_datumaro(drawn, images, tmp_path):
    """The line lies under the masks and three pixels wide; of the polygon nothing is seen."""
    found = converted(FILES / "datumaro-cvat.xml", tmp_path, "cvat", images=images)["plant"]
    line = (found == 0) & (drawn == U)
    assert set(np.unique(np.nonzero(line)[0])) == {1, 2, 3, 4}
    np.testing.assert_array_equal(np.where(line, U, found), drawn)


def test_runs_of_the_cvat_sdk(drawn):
    for k, encoded in enumerate(json.loads((FILES / "cvat-sdk.json").read_text())):
        *runs, left, top, right, bottom = encoded
        inside = (drawn == k)[top : bottom + 1, left : right + 1]
        np.testing.assert_array_equal(read_runs("", runs, inside.size), inside.ravel())
        assert runs_of(inside.ravel()) == runs


def test_nnunet_with_its_own_dataset_json(drawn, tmp_path):
    root = shutil.copytree(FILES / "nnunet", tmp_path / "Dataset001_Plants")
    write_image(root / "labelsTr/plant.png", np.where(drawn == U, 2, drawn).astype(np.uint8))
    write_image(root / "imagesTr/plant_0000.png", np.zeros((20, 30, 3), np.uint8))
    np.testing.assert_array_equal(converted(root, tmp_path, "nnunet")["plant"], drawn)


def test_nnunet_without_ignore_is_annotated_everywhere(drawn, tmp_path):
    root = shutil.copytree(FILES / "nnunet", tmp_path / "Dataset001_Plants")
    tree = json.loads((root / "dataset.json").read_text())
    del tree["labels"]["ignore"]
    (root / "dataset.json").write_text(json.dumps(tree))
    dense = np.where(drawn == U, 0, drawn).astype(np.uint8)
    write_image(root / "labelsTr/plant.png", dense)
    write_image(root / "imagesTr/plant_0000.png", np.zeros((20, 30, 3), np.uint8))
    told: list[str] = []
    convert(root, tmp_path / "out", say=told.append)
    assert "every pixel is annotated" in told[1]
    np.testing.assert_array_equal(labels_of(tmp_path / "out")["plant"], dense)


class TestIlastik:
    def test_label_blocks_of_a_project(self, drawn, images, tmp_path):
        project = write_ilastik_project(tmp_path / "p.ilp", {"plant.png": from_zero(drawn)}, list(NAMES), block=7)
        np.testing.assert_array_equal(converted(project, tmp_path, "ilastik", images=images)["plant"], drawn)

    def test_a_stack_becomes_slices_and_those_without_strokes_are_left_out(self, drawn, tmp_path):
        stack = np.stack([from_zero(drawn), np.zeros_like(drawn), from_zero(drawn)[::-1]])
        project = write_ilastik_project(tmp_path / "p.ilp", {"cells.tif": stack}, list(NAMES), axes="zyxc")
        pixels = np.arange(3 * 600, dtype=np.uint16).reshape(3, 20, 30)
        tifffile.imwrite(tmp_path / "cells.tif", pixels, photometric="minisblack")
        found = converted(project, tmp_path, "ilastik")
        assert sorted(found) == ["cells_slice_0000", "cells_slice_0002"]
        np.testing.assert_array_equal(found["cells_slice_0002"], drawn[::-1])
        dataset = open_dataset(tmp_path / "out")
        assert dataset.volume_of("cells_slice_0002") == "cells"
        assert dataset.rgb("cells_slice_0002").max() > 0.9

    @pytest.mark.parametrize(
        ("axes", "shape"), [("yxc", (20, 30, 1)), ("yx", (20, 30)), ("zyxc", (1, 20, 30, 1)), ("cyx", (1, 20, 30))]
    )
    def test_exported_hdf5(self, axes, shape, drawn, images, tmp_path):
        with h5py.File(tmp_path / "plant_Labels.h5", "w") as file:
            data = file.create_dataset("exported_data", data=from_zero(drawn).reshape(shape), chunks=True)
            data.attrs["axistags"] = json.dumps({"axes": [{"key": key} for key in axes]})
        found = converted(tmp_path / "plant_Labels.h5", tmp_path, "ilastik", images=images)
        np.testing.assert_array_equal(found["plant"], drawn)

    def test_exported_png(self, drawn, images, tmp_path):
        write_image(tmp_path / "in/plant_Labels.png", from_zero(drawn))
        np.testing.assert_array_equal(converted(tmp_path / "in", tmp_path, "ilastik", images=images)["plant"], drawn)


class TestNapari:
    def test_tiff_layers(self, drawn, tmp_path):
        (tmp_path / "layers").mkdir()
        tifffile.imwrite(tmp_path / "layers/plant_labels.tif", from_zero(drawn).astype(np.int32))
        write_pictures(tmp_path / "images", ["plant"], (20, 30))
        told: list[str] = []
        convert(tmp_path / "layers", tmp_path / "out", source="napari", say=told.append)
        np.testing.assert_array_equal(labels_of(tmp_path / "out")["plant"], drawn)
        assert "0 means not annotated (napari)" in told[1]

    def test_a_tiff_alone_does_not_say_that_it_is_naparis(self, drawn, tmp_path):
        (tmp_path / "layers").mkdir()
        tifffile.imwrite(tmp_path / "layers/plant.tif", from_zero(drawn))
        with pytest.raises(DataError, match="--unlabelled 0"):
            convert(tmp_path / "layers", tmp_path / "out")

    @pytest.mark.parametrize("inside", ["plant.zarr", "plant.ome.zarr/labels/cells/0"])
    def test_zarr_and_ome_zarr(self, inside, drawn, images, tmp_path):
        write_zarr(tmp_path / "in" / inside, from_zero(drawn).astype(np.uint16), (8, 8))
        found = converted(tmp_path / "in" / inside.split("/")[0], tmp_path, "napari", images=images)
        np.testing.assert_array_equal(found["plant"], drawn)


class TestNifti:
    def test_slices_with_four_for_unlabelled(self, drawn, tmp_path):
        """As in WSL4MIS: the number of classes means "not annotated"."""
        volume = np.stack([np.where(drawn == U, 4, drawn), np.full_like(drawn, 4)]).T
        write_nifti(tmp_path / "in/p1_scribble.nii.gz", volume.astype(np.float64))
        write_nifti(tmp_path / "in/p1.nii.gz", np.random.default_rng(0).normal(300, 90, volume.shape).astype(np.float32))
        found = converted(tmp_path / "in", tmp_path, "nifti", unlabelled="4", names=("background", "leaf", "a", "b"))
        assert list(found) == ["p1_slice_0000"]
        np.testing.assert_array_equal(found["p1_slice_0000"], drawn)
        rgb = read_rgb(open_dataset(tmp_path / "out").image_path("p1_slice_0000"))
        assert rgb.min() == 0
        assert rgb.max() == 1

    def test_zero_is_not_guessed(self, drawn, tmp_path):
        write_nifti(tmp_path / "in/p1.nii", from_zero(drawn).T[..., None])
        with pytest.raises(DataError, match="--unlabelled 0"):
            convert(tmp_path / "in", tmp_path / "out")


def test_scribblesup_lines_keep_their_pixels_and_stay_lines(tmp_path):
    write_scribblesup(tmp_path / "in/a.xml", (20, 30), [("leaf", [(5, 10), (20, 10)]), ("background", [(5, 2), (9, 2)])])
    write_pictures(tmp_path / "images", ["a"], (20, 30))
    found = converted(tmp_path / "in", tmp_path, "scribblesup", width_px=1.0)["a"]
    expected = np.full((20, 30), U, np.uint8)
    expected[10, 5:21] = 1
    expected[2, 5:10] = 0
    np.testing.assert_array_equal(found, expected)
    assert (tmp_path / "out/strokes/a.json").is_file()
    assert open_dataset(tmp_path / "out").spec.strokes == "strokes"


def test_qupath_polygons_with_holes_lines_and_points(tmp_path):
    ring = [[[2, 2], [12, 2], [12, 12], [2, 12], [2, 2]], [[5, 5], [8, 5], [8, 8], [5, 8], [5, 5]]]
    shapes = [
        ("Polygon", ring, "Tumor"),
        ("LineString", [[15.5, 1.5], [15.5, 8.5]], "Stroma"),
        ("MultiPoint", [[20.5, 4.5], [25.5, 4.5]], "Stroma"),
        ("Polygon", [[[0, 15], [9, 15], [9, 19]]], "Ignore*"),
    ]
    features = [
        {
            "type": "Feature",
            "id": f"PathAnnotationObject{k}",
            "geometry": {"type": kind, "coordinates": places},
            "properties": {"objectType": "annotation", "classification": {"name": name, "color": [200, 0, 0]}},
        }
        for k, (kind, places, name) in enumerate(shapes)
    ]
    (tmp_path / "in").mkdir()
    (tmp_path / "in/slide.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    write_pictures(tmp_path / "images", ["slide"], (20, 30))
    found = converted(tmp_path / "in", tmp_path, "qupath", width_px=1.0)["slide"]
    expected = np.full((20, 30), U, np.uint8)
    expected[2:12, 2:12] = 1
    expected[5:8, 5:8] = U
    expected[1:9, 15] = 0
    expected[4, [20, 25]] = 0
    np.testing.assert_array_equal(found, expected)
    assert open_dataset(tmp_path / "out").names == ("Stroma", "Tumor")


def test_label_studio_polygons_and_key_points(tmp_path):
    size = {"original_width": 30, "original_height": 20}
    polygon = {"points": [[10, 10], [50, 10], [50, 60], [10, 60]], "polygonlabels": ["leaf"]}
    point = {"x": 65.0, "y": 52.5, "width": 0.5, "keypointlabels": ["background"]}
    regions = [{"type": "polygonlabels", "value": polygon, **size}, {"type": "keypointlabels", "value": point, **size}]
    task = {"data": {"image": "s3://bucket/a%20b.png"}, "annotations": [{"result": regions}]}
    box = {"type": "rectanglelabels", "value": {"x": 1, "y": 1, "width": 5, "height": 5, "rectanglelabels": ["leaf"]}, **size}
    other = {"data": {"image": "c.png"}, "annotations": [{"result": [box]}]}
    (tmp_path / "export.json").write_text(json.dumps([task, other]))
    write_pictures(tmp_path / "images", ["a b", "c"], (20, 30))
    summary = convert(tmp_path / "export.json", tmp_path / "out", Options(width_px=1.0))
    assert [(error.got, summary.converted) for _, error in summary.failed] == [("rectanglelabels", 1)]
    expected = np.full((20, 30), U, np.uint8)
    expected[2:12, 3:15] = 1
    expected[10, 19] = 0
    np.testing.assert_array_equal(labels_of(tmp_path / "out")["a b"], expected)


class TestColours:
    def test_black_of_cvat_is_not_guessed(self, drawn, tmp_path):
        table = np.zeros((256, 3), np.uint8)
        table[0], table[1] = (0, 128, 0), (250, 50, 83)
        write_image(tmp_path / "in/SegmentationClass/a.png", table[drawn])
        write_pictures(tmp_path / "in/JPEGImages", ["a"], (20, 30))
        palette = "# label:color_rgb:parts:actions\nbackground:0,0,0::\nsoil:0,128,0::\nleaf:250,50,83::\n"
        (tmp_path / "in/labelmap.txt").write_text(palette)
        with pytest.raises(DataError, match="--unlabelled 'background'"):
            convert(tmp_path / "in", tmp_path / "out")
        found = converted(tmp_path / "in", tmp_path, "colour", unlabelled="background")["a"]
        np.testing.assert_array_equal(found, drawn)
        assert open_dataset(tmp_path / "out").names == ("soil", "leaf")
        convert(tmp_path / "in", tmp_path / "dense", Options(unlabelled="none"))
        np.testing.assert_array_equal(labels_of(tmp_path / "dense")["a"], np.where(drawn == U, 0, drawn + 1))

    def test_root_painter(self, drawn, tmp_path):
        rgba = np.zeros((20, 30, 4), np.uint8)
        rgba[drawn == 0] = (0, 255, 0, 180)
        rgba[drawn == 1] = (255, 0, 0, 180)
        for split in ("train", "val"):
            (tmp_path / f"in/annotations/{split}").mkdir(parents=True)
            Image.fromarray(rgba).save(tmp_path / f"in/annotations/{split}/{split}1.png")
        write_pictures(tmp_path / "in/images", ["train1", "val1"], (20, 30))
        found = converted(tmp_path / "in", tmp_path, "rootpainter")
        np.testing.assert_array_equal(found["train1"], drawn)
        assert open_dataset(tmp_path / "out").stems("val") == ("val1",)


def test_a_polygon_covers_the_pixels_whose_centres_are_inside():
    """Against a definition that looks at every pixel by itself."""
    rng = np.random.default_rng(3)
    for _ in range(20):
        rings = [rng.uniform(-4, 24, (int(rng.integers(3, 7)), 2)) for _ in range(int(rng.integers(1, 3)))]
        inside, (top, left) = fill("", rings, (20, 22))
        found = np.zeros((20, 22), bool)
        found[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
        for y in range(20):
            for x in range(22):
                crossings = 0
                for ring in rings:
                    for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
                        if (y0 <= y + 0.5) != (y1 <= y + 0.5):
                            crossings += x0 + (y + 0.5 - y0) * (x1 - x0) / (y1 - y0) <= x + 0.5
                assert found[y, x] == (crossings % 2 == 1)
