"""Stacks and many channels from the data set to masks and scores: the same picture means the same, wherever it is kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
import yaml

from scribbleseg.data.folder import open_dataset
from scribbleseg.data.images import read_index, read_rgb
from scribbleseg.data.loader import load_sample
from scribbleseg.errors import DataError
from scribbleseg.evaluate import evaluate, fingerprint
from scribbleseg.models.folder import load_model
from scribbleseg.predict import predict_folder, predict_mask
from scribbleseg.report.page import report
from scribbleseg.scores import summary
from scribbleseg.training.run import train
from tests.fake.datasets import class_map, make_dataset, strokes_of, write_image, write_lines
from tests.fake.scans import write_hdf5, write_nifti, write_series, write_zarr
from tests.training.test_run import small

NAMES = {0: "air", 1: "tissue", 2: "bone"}
CT = {"window": {"low": -500, "high": 1500}}


def scan(seed: int, slices: int = 5, size: tuple[int, int] = (40, 48)) -> tuple[np.ndarray, np.ndarray]:
    """A volume in Hounsfield units and its classes."""
    rng = np.random.default_rng(seed)
    masks = np.stack([class_map(size, 3, rng) for _ in range(slices)])
    return (np.array([-900, 60, 1000])[masks] + rng.normal(0, 60, masks.shape)).astype(np.int16), masks


def write_spec(root: Path, **keys: Any) -> Path:
    tree = {"name": "scans", "names": NAMES, "masks": "masks", "splits": {"train": "train.txt", "test": "test.txt"}} | keys
    (root / "dataset.yaml").write_text(yaml.safe_dump(tree))
    return root


def make_scans(root: Path, kind: str = "nii.gz", labels: str = "nii.gz", **keys: Any) -> Path:
    """Two scans, each one file or folder, with labels of the same kind or a PNG a slice."""
    for seed, stem in enumerate(("one", "two")):
        volume, masks = scan(seed)
        scribbles = np.stack([strokes_of(m) for m in masks])
        write_volume(root / "images", stem, kind, volume)
        for folder, values in (("scribbles", scribbles), ("masks", masks)):
            if labels == "png":
                for n, plane in enumerate(values):
                    write_image(root / folder / f"{stem}@{n:03d}.png", plane)
            else:
                write_volume(root / folder, stem, labels, values)
    write_lines(root / "train.txt", ["one@*"])
    write_lines(root / "test.txt", ["two@*"])
    return write_spec(root, **(CT | keys))


def write_volume(folder: Path, stem: str, kind: str, volume: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if kind.startswith("nii"):
        write_nifti(folder / f"{stem}.{kind}", volume, (0.5, 0.75, 3.0))
    elif kind == "dicom":
        write_series(folder / stem, volume, 3.0, PixelSpacing=[0.75, 0.5])
    elif kind == "h5":
        write_hdf5(folder / f"{stem}.h5", data=volume)
    elif kind == "zarr":
        write_zarr(folder / f"{stem}.zarr", volume)
    else:
        tifffile.imwrite(folder / f"{stem}.tif", volume, photometric="minisblack", metadata={"axes": "ZYX"})


KINDS = [("nii.gz", "nii.gz"), ("nii", "png"), ("dicom", "nii"), ("h5", "h5"), ("zarr", "tif"), ("tif", "zarr")]


@pytest.mark.parametrize(("kind", "labels"), KINDS)
def test_every_kind_of_stack_gives_the_same_samples(tmp_path, kind, labels):
    dataset = open_dataset(make_scans(tmp_path, kind, labels))
    assert dataset.stems("train") == tuple(f"one@{n:03d}" for n in range(5))
    volume, masks = scan(0)
    for n, stem in enumerate(dataset.stems("train")):
        assert dataset.size(stem) == (40, 48)
        sample = load_sample(dataset, stem, "masks")
        np.testing.assert_array_equal(sample.labels.numpy(), masks[n])
        expected = np.clip((volume[n].astype(np.float32) + 500) / 2000, 0, 1)
        np.testing.assert_allclose(sample.image.numpy(), np.stack([expected] * 3), atol=1e-6)
        np.testing.assert_array_equal(dataset.labels(stem, "scribbles"), strokes_of(masks[n]))
    if kind in ("nii.gz", "nii", "dicom"):
        assert dataset.spacing_mm("one@002") == (0.75, 0.5)


def test_a_scan_is_learnt_predicted_and_scored_slice_by_slice(tmp_path):
    root = make_scans(tmp_path / "data")
    run = tmp_path / "run"
    train(small(root), run)
    tree = summary(evaluate(run, root))
    assert [i["stem"] for i in tree["per_image"]] == [f"two@{n:03d}" for n in range(5)]
    assert all(i["spacing_mm"] == [0.75, 0.5] for i in tree["per_image"])
    assert tree["volume_dice"]["num_volumes"] == 1
    assert [v["volume"] for v in tree["per_volume"]] == ["two"]

    done = list(predict_folder(run, root / "images" / "two.nii.gz", tmp_path / "masks"))
    assert [p.name for p in done] == [f"two@{n:03d}.png" for n in range(5)]
    assert (tmp_path / "masks" / "overlays" / "two@004.png").is_file()
    again = summary(evaluate(tmp_path / "masks", root))
    assert again["confusion"] == tree["confusion"]
    page = report([run], tmp_path / "report.html").read_text()
    assert "two@00" in page


def test_pooled_slices_are_the_dice_of_the_volume(tmp_path):
    root = make_scans(tmp_path)
    _, masks = scan(1)
    shutil.copytree(root / "masks", tmp_path / "wrong")
    changed = masks.copy()
    changed[1:3] = 0
    write_nifti(tmp_path / "wrong" / "two.nii.gz", changed)
    tree = summary(evaluate(tmp_path / "wrong", root))
    for k, name in NAMES.items():
        dice = 2 * ((masks == k) & (changed == k)).sum() / ((masks == k).sum() + (changed == k).sum())
        assert tree["per_volume"][0][name] == pytest.approx(dice)


class TestStemsOfSlices:
    def test_some_slices_can_be_listed(self, tmp_path):
        root = make_scans(tmp_path)
        write_lines(root / "train.txt", ["one@001", "one@3", "two@*"])
        assert open_dataset(root).stems("train")[:3] == ("one@001", "one@3", "two@000")

    def test_a_slice_listed_twice_is_found(self, tmp_path):
        root = make_scans(tmp_path)
        write_lines(root / "train.txt", ["one@*", "one@002"])
        with pytest.raises(DataError, match="'one@002' twice"):
            open_dataset(root).stems("train")

    def test_a_scan_without_a_slice_says_how_to_list_it(self, tmp_path):
        root = make_scans(tmp_path)
        write_lines(root / "train.txt", ["one"])
        with pytest.raises(DataError, match=r"a stack of 5(.|\n)*one@\* in the split list"):
            train(small(root), tmp_path / "run")

    def test_a_slice_beyond_the_end(self, tmp_path):
        root = make_scans(tmp_path)
        write_lines(root / "train.txt", ["one@005"])
        with pytest.raises(DataError, match=r"a slice from 0 to 4(.|\n)*slice 5"):
            train(small(root), tmp_path / "run")

    def test_a_missing_scan(self, tmp_path):
        root = make_scans(tmp_path)
        write_lines(root / "train.txt", ["three@*"])
        with pytest.raises(DataError, match="no such file"):
            open_dataset(root).stems("train")


MAPPED: dict[str, Any] = {"channels": [3, None, 1], "window": {"percentiles": [1, 99]}}


class TestManyChannels:
    """Five channels of which the classes are told by the fourth alone."""

    @pytest.fixture
    def root(self, tmp_path) -> Path:
        rng = np.random.default_rng(0)
        for n in range(4):
            mask = class_map((48, 64), 3, rng)
            picture = rng.normal(3000, 400, (48, 64, 5))
            picture[..., 3] += 5000.0 * mask
            tifffile.imwrite(
                self.folder(tmp_path / "data/images") / f"{n}.tif", picture.astype(np.uint16), planarconfig="contig"
            )
            write_image(tmp_path / "data" / "scribbles" / f"{n}.png", strokes_of(mask))
            write_image(tmp_path / "data" / "masks" / f"{n}.png", mask)
        write_lines(tmp_path / "data" / "train.txt", ["0", "1"])
        write_lines(tmp_path / "data" / "test.txt", ["2", "3"])
        return write_spec(tmp_path / "data", **MAPPED)

    def folder(self, path: Path) -> Path:
        path.mkdir(parents=True, exist_ok=True)
        return path

    def test_a_model_reads_new_files_as_it_read_those_it_learnt_from(self, root, tmp_path):
        run = tmp_path / "run"
        train(small(root), run)
        kept = json.loads((run / "model" / "preprocessor_config.json").read_text())["reading"]
        assert kept["channels"] == [3, None, 1]
        assert kept["window"] == [{"percentiles": [1.0, 99.0]}] * 3
        model, dataset = load_model(run), open_dataset(root)
        assert model.reading == dataset.spec.reading
        list(predict_folder(run, root / "images", tmp_path / "masks"))
        for stem in ("0", "1", "2", "3"):
            expected = predict_mask(model, dataset.rgb(stem))
            np.testing.assert_array_equal(read_index(tmp_path / "masks" / f"{stem}.png"), expected)
            np.testing.assert_array_equal(read_rgb(root / "images" / f"{stem}.tif", model.reading), dataset.rgb(stem))

    def test_a_data_set_that_says_nothing_is_read_as_the_model_was_trained(self, root, tmp_path):
        run = tmp_path / "run"
        train(small(root), run)
        before = summary(evaluate(run, root))
        seen = fingerprint(run, open_dataset(root), "test")
        write_spec(root)
        assert summary(evaluate(run, root)) == before
        assert fingerprint(run, open_dataset(root), "test") != seen
        write_spec(root, channels=[0], window={"low": 0, "high": 20000})
        assert summary(evaluate(run, root)) != before

    def test_a_wrong_key_is_named(self, root):
        write_spec(root, window={"percentile": [1, 99]})
        with pytest.raises(DataError, match=r"dataset\.yaml: window(.|\n)*write \{percentiles: \[1, 99\]\}"):
            open_dataset(root)
        write_spec(root, channels=[0, 1])
        with pytest.raises(DataError, match=r"dataset\.yaml: channels(.|\n)*one channel for all three"):
            open_dataset(root)


def test_arrays_of_one_file_are_images_scribbles_and_masks(tmp_path):
    """As in WSL4MIS' files of cardiac slices: everything of a slice in one HDF5 file."""
    rng = np.random.default_rng(0)
    for n in range(3):
        mask = class_map((40, 48), 3, rng)
        image = (mask / 2).astype(np.float64)
        write_hdf5(
            tmp_path / "slices" / f"{n}.h5",
            image=image,
            label=mask,
            scribble=np.where(strokes_of(mask) == 255, 4, strokes_of(mask)).astype(np.uint16),
        )
    write_lines(tmp_path / "train.txt", ["0", "1", "2"])
    folders = dict.fromkeys(("images", "scribbles", "masks"), "slices")
    arrays = {"images": "image", "scribbles": "scribble", "masks": "label"}
    write_spec(tmp_path, **folders, arrays=arrays, unlabelled=4, splits={"train": "train.txt"})
    dataset = open_dataset(tmp_path)
    with h5py.File(tmp_path / "slices" / "2.h5") as file:
        np.testing.assert_array_equal(dataset.labels("2", "masks"), file["label"][:])
        np.testing.assert_allclose(dataset.rgb("2")[..., 0], file["image"][:])
        scribbles = dataset.labels("2", "scribbles")
        np.testing.assert_array_equal(scribbles == 255, file["scribble"][:] == 4)


def test_a_plain_data_set_keeps_its_model_folder_and_its_scores(dataset_root, tmp_path):
    run = tmp_path / "run"
    train(small(dataset_root), run)
    assert json.loads((run / "model" / "preprocessor_config.json").read_text())["reading"] == {}
    path = run / "model" / "preprocessor_config.json"
    tree = json.loads(path.read_text())
    del tree["reading"]  # as models of before
    path.write_text(json.dumps(tree))
    assert load_model(run).names == ("background", "leaf", "stone")
    scores = summary(evaluate(run, make_dataset(tmp_path / "other")))
    assert all(set(i) == {"stem", "miou", "pixel_accuracy", "hd95"} for i in scores["per_image"])
    assert "volume_dice" not in scores
