"""Every output, read back by a library that is not ours, says what the mask says."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
import shapely
import SimpleITK
import tifffile
import zarr
from PIL import Image
from pycocotools.coco import COCO

from scribbleseg.data.formats import FORMATS
from scribbleseg.data.formats.contents import Options
from scribbleseg.data.images import open_image, read_index
from scribbleseg.errors import ConfigError, DataError
from scribbleseg.models.folder import load_model
from scribbleseg.predict import OUTPUTS, predict_folder, predict_inputs, probabilities
from scribbleseg.predict.outputs import chosen, table
from scribbleseg.predict.outputs.output import Output
from scribbleseg.predict.outputs.pictures import entropy
from scribbleseg.reading import Reading, ValueWindow
from tests.fake.models import NAMES, make_model, make_pictures, picture
from tests.fake.scans import write_dicom, write_nifti

EVERY = tuple(OUTPUTS)


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Path:
    """Every output of five pictures, some larger than the window."""
    root = tmp_path_factory.mktemp("outputs")
    make_model(root / "model", window_px=48)
    make_pictures(root / "images")
    Image.fromarray(picture(9, (90, 75))).save(root / "images" / "large.png")
    outcomes = list(predict_inputs(root / "model", root / "images", root / "out", outputs=EVERY, device="cpu"))
    assert [o.path.stem for o in outcomes] == sorted(p.stem for p in (root / "images").iterdir())
    assert all(o.error is None and all(file.exists() for file in o.files) for o in outcomes)
    return root


def stems(root: Path) -> list[str]:
    return sorted(path.stem for path in (root / "images").iterdir())


def mask(root: Path, stem: str) -> np.ndarray:
    with Image.open(root / "out" / f"{stem}.png") as picture:
        return np.asarray(picture)


def probs(root: Path, stem: str) -> np.ndarray:
    with Image.open(root / "images" / f"{stem}.png") as shown:
        return probabilities(load_model(root / "model"), np.asarray(shown)).numpy()


def test_the_masks_hold_every_class_or_these_tests_would_say_little(done):
    assert set(np.unique(np.concatenate([mask(done, stem).ravel() for stem in stems(done)]))) == {0, 1, 2}


def test_mask_and_overlay_are_as_before(done):
    for stem in stems(done):
        expected = probs(done, stem).argmax(0)
        assert np.mean(mask(done, stem) == expected) > 0.999
        with Image.open(done / "out" / "overlays" / f"{stem}.png") as overlay:
            assert overlay.size == expected.shape[::-1]


def test_probabilities_as_tiff(done):
    for stem in stems(done):
        with tifffile.TiffFile(done / "out" / "probabilities" / f"{stem}.tif") as file:
            stored, about = file.asarray(), file.shaped_metadata[0]
        assert stored.dtype == np.float16
        assert about["names"] == list(NAMES)
        np.testing.assert_allclose(stored.transpose(2, 0, 1), probs(done, stem), atol=5e-4)
        sure = np.sort(stored, -1)[..., -1] - np.sort(stored, -1)[..., -2] > 0.001
        assert (stored.argmax(-1) == mask(done, stem))[sure].all()


def test_probabilities_as_zarr(done):
    for stem in stems(done):
        array = zarr.open_array(str(done / "out" / "zarr" / f"{stem}.zarr"), mode="r")
        assert array.attrs["names"] == list(NAMES)
        assert array.metadata.dimension_names == ("c", "y", "x")
        np.testing.assert_allclose(array[:], probs(done, stem), atol=5e-4)


def test_probabilities_as_ilastik_has_them(done):
    for stem in stems(done):
        with h5py.File(done / "out" / "ilastik" / f"{stem}_Probabilities.h5") as file:
            array = file["exported_data"]
            assert [axis["key"] for axis in json.loads(array.attrs["axistags"])["axes"]] == list("yxc")
            np.testing.assert_allclose(array[:].transpose(2, 0, 1), probs(done, stem), atol=1e-5)
            assert (array[:].argmax(-1) == mask(done, stem)).mean() > 0.999


def test_uncertainty_is_the_entropy(done):
    for stem in stems(done):
        p = probs(done, stem).astype(np.float64)
        expected = -(p * np.log(p)).sum(0) / np.log(3)
        with Image.open(done / "out" / "uncertainty" / f"{stem}.png") as shown:
            np.testing.assert_allclose(np.asarray(shown) / 255, expected, atol=0.003)
        exact = tifffile.imread(done / "out" / "uncertainty_tiff" / f"{stem}.tif")
        assert exact.dtype == np.float32
        np.testing.assert_allclose(exact, expected, atol=1e-4)


def test_entropy_at_its_ends():
    sure, torn = np.zeros((4, 2, 2), np.float32), np.full((4, 2, 2), 0.25, np.float32)
    sure[1] = 1
    assert entropy(sure).max() == 0
    np.testing.assert_allclose(entropy(torn), 1, atol=1e-6)
    assert entropy(np.ones((1, 2, 2), np.float32)).max() == 0


def test_polygons_hold_the_centres_of_their_pixels(done):
    for stem in stems(done):
        expected = mask(done, stem)
        y, x = np.mgrid[: expected.shape[0], : expected.shape[1]] + 0.5
        found = np.full(expected.shape, 255)
        tree = json.loads((done / "out" / "polygons" / f"{stem}.geojson").read_text())
        for feature in tree["features"]:
            shape = shapely.from_geojson(json.dumps(feature["geometry"]))
            assert shape.geom_type == "Polygon"
            assert shape.is_valid
            inside = shapely.contains_xy(shape, x, y)
            assert (found[inside] == 255).all(), "no pixel is in two regions"
            found[inside] = NAMES.index(feature["properties"]["classification"]["name"])
            assert feature["properties"]["objectType"] == "annotation"
        assert (found == expected).all()


def test_holes_are_holes(tmp_path):
    ring = np.ones((9, 9), bool)
    ring[3:6, 3:6] = False
    ring[4, 4] = True
    from scribbleseg.data.formats.qupath import polygons

    shapes = [shapely.from_geojson(json.dumps(p)) for p in polygons(ring)]
    assert sorted((s.area, len(s.interiors)) for s in shapes) == [(1.0, 0), (72.0, 1)]


def test_our_own_reader_of_qupath_gets_the_mask_back(done):
    source = FORMATS["qupath"].read(done / "out" / "polygons", Options(names=NAMES, images=done / "images"))
    for item in source.items:
        annotated = item.load()
        assert (annotated.labels == mask(done, annotated.stem)).all()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools with NumPy 2
def test_coco_is_one_file_for_the_folder(done, capsys):
    coco = COCO(str(done / "out" / "coco.json"))
    capsys.readouterr()
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == list(NAMES)
    images = {image["file_name"]: image for image in coco.loadImgs(coco.getImgIds())}
    assert sorted(images) == [f"{stem}.png" for stem in stems(done)]
    for stem in stems(done):
        found = np.full(mask(done, stem).shape, 255)
        for annotation in coco.loadAnns(coco.getAnnIds(images[f"{stem}.png"]["id"])):
            inside = coco.annToMask(annotation).astype(bool)
            assert annotation["area"] == inside.sum()
            found[inside] = annotation["category_id"] - 1
        assert (found == mask(done, stem)).all()


def test_layouts_of_napari_and_nnunet(done):
    tree = json.loads((done / "out" / "nnunet" / "dataset.json").read_text())
    assert tree == {"labels": {"background": 0, "leaf": 1, "stone": 2}, "file_ending": ".png"}
    for stem in stems(done):
        assert (tifffile.imread(done / "out" / "napari" / f"{stem}_labels.tif") == mask(done, stem) + 1).all()
        with Image.open(done / "out" / "nnunet" / f"{stem}.png") as shown:
            assert (np.asarray(shown) == mask(done, stem)).all()


def test_nnunet_wants_a_background(tmp_path):
    make_model(tmp_path / "model", names=("leaf", "stone", "sky"))
    make_pictures(tmp_path / "images", 1)
    list(predict_folder(tmp_path / "model", tmp_path / "images", tmp_path / "out", outputs=["mask", "nnunet"]))
    tree = json.loads((tmp_path / "out" / "nnunet" / "dataset.json").read_text())
    assert tree["labels"] == {"background": 0, "leaf": 1, "stone": 2, "sky": 3}
    moved = read_index(tmp_path / "out" / "nnunet" / "picture_00.png")
    assert (moved == read_index(tmp_path / "out" / "picture_00.png") + 1).all()


class TestScans:
    """Volumes: one file an input, where the input lies."""

    CT = Reading(window=(ValueWindow(low=-500, high=1500),) * 3)

    def volume(self, slices: int = 4) -> np.ndarray:
        grey = np.stack([picture(n, (40, 52))[..., 0] for n in range(slices)])
        return (grey.astype(np.int16) * 8 - 500).astype(np.int16)

    def masks(self, out: Path, slices: int = 4) -> np.ndarray:
        return np.stack([read_index(out / f"scan@{k:03d}.png") for k in range(slices)])

    def run(self, tmp_path: Path, scan: Path, *outputs: str) -> Path:
        make_model(tmp_path / "model", reading=self.CT)
        list(predict_folder(tmp_path / "model", scan, tmp_path / "out", outputs=["mask", *outputs], device="cpu"))
        return tmp_path / "out"

    def test_nifti_keeps_place_codes_and_units(self, tmp_path):
        scan = write_nifti(tmp_path / "scan.nii.gz", self.volume(), (0.5, 0.75, 3.0))
        image = nibabel.load(scan)
        turned = np.array([[0, -0.7, 0, 12.0], [0.5, 0, 0.2, -7.0], [0, 0, 3.0, 90.0], [0, 0, 0, 1]])
        image = nibabel.Nifti1Image(np.asarray(image.dataobj), turned, image.header)
        image.set_qform(turned, 1)
        image.set_sform(turned, 2)
        image.header["cal_max"] = 1500
        nibabel.save(image, scan)
        out = self.run(tmp_path, scan, "nifti", "nnunet")
        found = nibabel.load(out / "nifti" / "scan.nii.gz")
        assert found.get_data_dtype() == np.uint8
        np.testing.assert_allclose(found.affine, turned, atol=1e-6)
        assert (int(found.header["qform_code"]), int(found.header["sform_code"])) == (1, 2)
        assert found.header.get_xyzt_units()[0] == "mm"
        assert (np.asarray(found.dataobj).transpose(2, 1, 0) == self.masks(out)).all()
        itk = SimpleITK.ReadImage(str(out / "nifti" / "scan.nii.gz"))
        assert (SimpleITK.GetArrayFromImage(itk) == self.masks(out)).all()
        assert itk.GetOrigin() == pytest.approx(SimpleITK.ReadImage(str(scan)).GetOrigin())
        again = nibabel.load(out / "nnunet" / "scan.nii.gz")
        assert (np.asarray(again.dataobj) == np.asarray(found.dataobj)).all()

    def test_dicom_series_lie_where_itk_says(self, tmp_path):
        volume, folder = self.volume(), tmp_path / "scans" / "scan"
        tilt = np.array([[0.8, 0.6, 0.0], [0.0, 0.0, -1.0]])  # coronal, turned
        step = np.cross(*tilt) * 2.5
        for n, pixels in enumerate(volume):
            place = np.array([-30.0, 41.0, 7.5]) + (len(volume) - 1 - n) * step
            write_dicom(
                folder / f"{n}.dcm",
                (pixels + 500).astype(np.uint16),
                PixelSpacing=[0.75, 0.5],
                ImageOrientationPatient=tilt.ravel().tolist(),
                ImagePositionPatient=place.tolist(),
                RescaleIntercept=-500,
                RescaleSlope=1,
                InstanceNumber=n,
            )
        out = self.run(tmp_path, folder.parent, "nifti")
        found = SimpleITK.ReadImage(str(out / "nifti" / "scan.nii.gz"))
        reader = SimpleITK.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
        expected = reader.Execute()
        shown = SimpleITK.GetArrayFromImage(expected)
        assert found.GetSpacing() == pytest.approx(expected.GetSpacing(), abs=1e-4)
        with open_image(folder) as read:
            for k in range(4):  # the toolkit may number the slices from the other end
                place = found.TransformIndexToPhysicalPoint((3, 5, k))
                x, y, n = expected.TransformPhysicalPointToContinuousIndex(place)
                assert (x, y, n) == pytest.approx((3, 5, round(n)), abs=1e-3)
                assert (shown[round(n)] == read.pixels(index=k)[..., 0]).all()
        assert (SimpleITK.GetArrayFromImage(found) == self.masks(out)).all()

    def test_a_tiff_stack_becomes_one_volume(self, tmp_path):
        tifffile.imwrite(tmp_path / "scan.tif", self.volume(), photometric="minisblack", metadata={"axes": "ZYX"})
        out = self.run(tmp_path, tmp_path / "scan.tif", "napari", "nifti", "nnunet", "probabilities", "coco")
        assert (tifffile.imread(out / "napari" / "scan_labels.tif") == self.masks(out) + 1).all()
        assert (self.masks(out) == np.asarray(nibabel.load(out / "nifti" / "scan.nii.gz").dataobj).T).all()
        assert len(list((out / "probabilities").glob("scan@*.tif"))) == 4
        names = [image["file_name"] for image in json.loads((out / "coco.json").read_text())["images"]]
        assert names == [f"scan@{k:03d}" for k in range(4)]


def test_the_table_says_what_each_output_is():
    for name, output in OUTPUTS.items():
        assert isinstance(output, Output)
        assert output.title
        assert any(line.startswith(f"{name} ") and output.title in line for line in table().splitlines())
    folders = [output.folder for output in OUTPUTS.values()]
    assert len(set(folders)) == len(folders), "two outputs in one folder could overwrite each other"


@pytest.mark.parametrize(("names", "wrong"), [(["masks"], "did you mean 'mask'"), ([], "at least one output")])
def test_unknown_outputs_are_refused(names, wrong):
    with pytest.raises(ConfigError, match=wrong):
        chosen(names)


def test_a_missing_library_is_told_before_anything_is_predicted(tmp_path, monkeypatch):
    make_model(tmp_path / "model")
    make_pictures(tmp_path / "images", 1)
    monkeypatch.setitem(__import__("sys").modules, "zarr", None)
    with pytest.raises(ConfigError, match=r'pip install "scribbleseg\[arrays\]"'):
        list(predict_inputs(tmp_path / "model", tmp_path / "images", tmp_path / "out", outputs=["mask", "zarr"]))
    assert not (tmp_path / "out").exists()


def test_masks_do_not_land_on_images_whatever_folder_they_are_in(tmp_path):
    make_model(tmp_path / "model")
    images = make_pictures(tmp_path / "out" / "uncertainty", 2)
    before = {path: path.read_bytes() for path in images.iterdir()}
    with pytest.raises(DataError, match="another folder"):
        list(predict_inputs(tmp_path / "model", images, tmp_path / "out"))
    assert {path: path.read_bytes() for path in images.iterdir()} == before
