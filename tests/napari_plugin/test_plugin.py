"""The plugin as npe2 runs it, without napari and without Qt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import scribbleseg
from scribbleseg.data.folder import open_dataset
from scribbleseg.data.vector import read_strokes, write_strokes
from scribbleseg.errors import ConfigError, DataError
from scribbleseg.napari.reader import get_reader, labels_layer, shapes_layer
from scribbleseg.napari.segment import segmented
from scribbleseg.napari.writer import write_labels as save_labels, write_strokes as save_strokes
from scribbleseg.records import Stroke
from tests.fake.datasets import make_dataset

MANIFEST = Path(scribbleseg.__file__).parent / "napari" / "napari.yaml"


@pytest.fixture
def root(tmp_path):
    return make_dataset(tmp_path / "leaves", 4, (24, 32))


@pytest.fixture
def plugins(monkeypatch):
    """npe2 with our plugin alone."""
    npe2 = pytest.importorskip("npe2")
    manager = npe2.PluginManager()
    monkeypatch.setattr(npe2.PluginManager, "_instance", manager, raising=False)
    monkeypatch.setattr(npe2.PluginManager, "instance", classmethod(lambda cls: manager))
    manager.register(npe2.PluginManifest.from_file(MANIFEST))
    return npe2


def test_the_manifest_is_valid_and_everything_in_it_can_be_imported(plugins):
    manifest = plugins.PluginManifest.from_file(MANIFEST)
    manifest.validate_imports()
    assert {command.id for command in manifest.contributions.commands} == {
        "scribbleseg.read",
        "scribbleseg.write_labels",
        "scribbleseg.write_strokes",
        "scribbleseg.segment",
    }


def test_npe2_reads_and_writes_a_label_file(plugins, root, tmp_path):
    path = root / "scribbles" / "image_000.png"
    ((data, about, kind),) = plugins.read([str(path)], stack=False, plugin_name="scribbleseg")
    assert kind == "labels"
    assert about["metadata"]["scribbleseg"]["names"] == ["background", "leaf", "stone"]
    written = plugins.write(str(tmp_path / "out.png"), [(data, about, kind)], plugin_name="scribbleseg")
    assert written == [str(tmp_path / "out.png")]
    with Image.open(path) as before, Image.open(tmp_path / "out.png") as after:
        assert after.mode == "L"
        np.testing.assert_array_equal(np.asarray(after), np.asarray(before))


def test_npe2_reads_a_data_set(plugins, root):
    layers = plugins.read([str(root)], stack=False, plugin_name="scribbleseg")
    assert [(about["name"], kind) for _, about, kind in layers[:2]] == [
        ("image_000", "image"),
        ("image_000 scribbles", "labels"),
    ]
    assert len(layers) == 8
    np.testing.assert_allclose(layers[0][0], open_dataset(root).rgb("image_000"))


def test_a_layer_says_what_the_file_says(root):
    labels = open_dataset(root).labels("image_000", "scribbles")
    data, about, _ = labels_layer(labels, "a", ("x", "y", "z"))
    assert (data[labels == 255] == 0).all()
    for k in range(3):
        assert (data[labels == k] == k + 1).all()
    assert {0, 1, 2, 3, None} <= set(about["colormap"])


def test_other_pictures_are_left_to_others(root, tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "other.png")
    assert get_reader(str(tmp_path / "other.png")) is None
    assert get_reader(str(root / "images" / "image_000.png")) is None
    assert get_reader(str(tmp_path)) is None
    assert get_reader([]) is None
    assert get_reader([str(root / "scribbles" / "image_000.png"), str(tmp_path / "other.png")]) is None
    assert get_reader(str(root / "scribbles" / "image_000.png")) is not None


STROKES = (
    Stroke(1, 3.0, np.array([[2.5, 3.5], [10.25, 4.0], [12.0, 9.5]])),
    Stroke(0, 5.0, np.array([[7.0, 8.0]])),
    Stroke(0, 2.0, np.array([[1.0, 1.0], [2.0, 2.0]]), "eraser"),
)


def test_strokes_come_back_as_they_were(tmp_path):
    data, about, kind = shapes_layer(STROKES, (24, 32), "a", ("x", "y"))
    assert kind == "shapes"
    np.testing.assert_allclose(data[0][0], [3.0, 2.0])  # row, column of a pixel's centre
    assert about["feature_defaults"]["tool"] == "brush"  # of a path that is drawn next
    save_strokes(str(tmp_path / "a.json"), data, about)
    found, size = read_strokes(tmp_path / "a.json")
    assert (found, size) == (STROKES, (24, 32))


def test_npe2_reads_and_writes_strokes(plugins, root, tmp_path):
    write_strokes(root / "strokes" / "image_000.json", STROKES, (24, 32))
    (layer,) = plugins.read([str(root / "strokes" / "image_000.json")], stack=False, plugin_name="scribbleseg")
    plugins.write(str(tmp_path / "a.json"), [layer], plugin_name="scribbleseg")
    assert read_strokes(tmp_path / "a.json")[0] == STROKES


@pytest.mark.parametrize(
    "data", [np.zeros((2, 3, 3), int), np.full((2, 2), 256), np.full((2, 2), -1), np.zeros((2, 2)), np.zeros(3, int)]
)
def test_labels_that_are_none(tmp_path, data):
    with pytest.raises(DataError, match="labels"):
        save_labels(str(tmp_path / "a.png"), data, {"name": "a"})
    assert not (tmp_path / "a.png").exists()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"shape_type": "polygon"}, "polygon"),
        ({"features": {}}, "class"),
        ({"metadata": {}}, "size"),
        ({"features": {"class": [1.5]}}, "class"),
        ({"features": {"class": ["leaf"]}}, "class"),
        ({"features": {"class": [255]}}, "class"),
    ],
)
def test_shapes_that_are_no_strokes(tmp_path, change, word):
    about = {"features": {"class": [0]}, "metadata": {"scribbleseg": {"size": [9, 9]}}} | change
    with pytest.raises(DataError, match=word):
        save_strokes(str(tmp_path / "a.json"), [np.zeros((2, 2))], about)
    assert not (tmp_path / "a.json").exists()


def test_a_local_model_segments_a_layer(tmp_path):
    from scribbleseg.models.folder import load_model
    from scribbleseg.predict import predict_mask
    from tests.serve.serving import colours, make_model

    folder = make_model(tmp_path / "model")
    rgb = colours(70, 90)
    data, about, kind = segmented(rgb, "photo", str(folder))
    assert (kind, about["name"]) == ("labels", "photo classes")
    assert (data - 1 == predict_mask(load_model(folder), rgb)).mean() > 0.999
    grey, _, _ = segmented(rgb[..., 0], "photo", str(folder))
    assert grey.shape == (70, 90)


def test_pictures_and_models_that_are_none():
    with pytest.raises(DataError, match="slice"):
        segmented(np.zeros((3, 4, 5, 6)), "stack", "m")
    with pytest.raises(ConfigError, match="8421"):
        segmented(np.zeros((4, 5)), "photo", "")
    with pytest.raises(DataError, match="scribbleseg serve"):
        segmented(np.zeros((4, 5)), "photo", "http://127.0.0.1:9")
