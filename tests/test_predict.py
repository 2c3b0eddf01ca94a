"""Prediction: windows that cover, seams that do not show, sizes that come back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from torch import nn

from scribbleseg.data.images import Window, open_image, read_index
from scribbleseg.errors import ConfigError, DataError
from scribbleseg.models.folder import TrainedModel
from scribbleseg.models.segmenter import Segmenter
from scribbleseg.palette import blend, class_colours
from scribbleseg.predict import (
    OVERLAP,
    bands,
    folder,
    list_images,
    pick_device,
    predict_mask,
    probabilities,
    reading,
    window_starts,
)
from scribbleseg.predict.outputs import pictures


class PixelNetwork(Segmenter):
    """Classifies each pixel by its brightest channel: what a window shows cannot matter."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.register_buffer("mean", torch.zeros(1))
        self.seen: list[tuple[int, ...]] = []

    def probabilities(self, image: torch.Tensor) -> torch.Tensor:
        self.seen.append(tuple(image.shape))
        return (10 * image).softmax(1)


class CornerNetwork(PixelNetwork):
    """Answers wrongly in a rim of every window, as networks that lack context there do."""

    def probabilities(self, image: torch.Tensor) -> torch.Tensor:
        probs = torch.zeros(image.shape)
        probs[:, 1] = 1
        probs[:, 0, 2:-2, 2:-2], probs[:, 1, 2:-2, 2:-2] = 1, 0
        return probs


def model(network: Segmenter, window_px: int, longest_px: int = 0) -> TrainedModel:
    return TrainedModel(network, ("red", "green", "blue"), window_px, longest_px)


@pytest.mark.parametrize("length", [1, 31, 32, 33, 48, 49, 100, 321])
def test_windows_cover_every_pixel_and_overlap_enough(length: int) -> None:
    starts = window_starts(length, 32)
    assert starts[0] == 0
    assert max(starts) == max(0, length - 32)
    steps = np.diff(starts)
    assert (steps > 0).all()
    assert (steps <= 32 * (1 - OVERLAP) + 1).all()


@pytest.mark.parametrize("size", [(20, 30), (32, 32), (33, 90), (70, 41)])
def test_windows_leave_no_seam(size: tuple[int, int]) -> None:
    rgb = np.random.default_rng(0).random((*size, 3), dtype=np.float32)
    network = PixelNetwork()
    found = probabilities(model(network, 32), rgb)
    truth = (10 * torch.from_numpy(rgb)).softmax(-1).permute(2, 0, 1)
    assert torch.allclose(found, truth, atol=1e-5)
    assert torch.allclose(found.sum(0), torch.ones(size), atol=1e-5)
    assert all(max(shape[-2:]) <= 32 for shape in network.seen)


def test_the_middle_of_a_window_outvotes_the_rim_of_its_neighbours() -> None:
    mask = predict_mask(model(CornerNetwork(), 32), np.zeros((64, 96, 3), np.float32))
    assert (mask[2:-2, 2:-2] == 0).all()


@pytest.mark.parametrize("longest", [40, 160])
def test_a_working_size_is_undone_in_the_result(longest: int) -> None:
    rgb = np.zeros((60, 90, 3), np.float32)
    rgb[:, :45, 0], rgb[:, 45:, 2] = 1, 1
    network = PixelNetwork()
    mask = predict_mask(model(network, 512, longest), rgb)
    assert max(network.seen[0][-2:]) == longest
    assert mask.shape == (60, 90)
    assert (mask[:, :42] == 0).all()
    assert (mask[:, 48:] == 2).all()


def test_eight_bit_pictures_are_scaled_and_others_refused() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    expected = probabilities(model(PixelNetwork(), 64), picture / np.float32(255))
    assert torch.equal(probabilities(model(PixelNetwork(), 64), picture), expected)
    assert torch.allclose(probabilities(model(PixelNetwork(), 64), picture / 255.0), expected)
    for wrong in (picture.astype(np.float32), picture[..., 0], picture.astype(np.int32), picture.transpose(2, 0, 1)):
        with pytest.raises(DataError, match="8-bit or floats"):
            probabilities(model(PixelNetwork(), 64), wrong)


@pytest.mark.parametrize("name", ["gpu", "cuda:99"])
def test_a_device_that_is_not_here_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match="a device of this machine"):
        pick_device(name)


def test_a_folder_without_images_and_one_with_a_stem_twice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        list_images(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"images \(\.png"):
        list_images(tmp_path)
    for suffix in ("png", "jpg"):
        Image.new("RGB", (4, 4)).save(tmp_path / f"a.{suffix}")
    with pytest.raises(DataError, match="two named 'a'"):
        list_images(tmp_path)


def test_overlays_show_the_picture_where_nothing_is_known() -> None:
    rgb = np.full((4, 4, 3), 0.5, np.float32)
    labels = np.full((4, 4), 255, np.uint8)
    labels[0] = 1
    picture = blend(rgb, labels, opacity=1.0)
    assert (picture[0] == class_colours(2)[1]).all()
    assert (picture[1:] == 128).all()


def test_class_colours_differ_and_do_not_change_with_their_number() -> None:
    many = class_colours(40)
    assert len({tuple(c) for c in many.tolist()}) == 40
    assert (class_colours(5) == many[:5]).all()


class BlurredNetwork(PixelNetwork):
    """Classes that depend on the neighbourhood, so that windows differ where they overlap."""

    def probabilities(self, image: torch.Tensor) -> torch.Tensor:
        self.seen.append(tuple(image.shape))
        return (30 * nn.functional.avg_pool2d(image, 9, 1, 4)).softmax(1)


@pytest.mark.parametrize("size", [(100, 75), (31, 200), (129, 40), (64, 30)])
def test_a_large_picture_is_predicted_in_bands_as_it_is_whole(tmp_path: Path, monkeypatch, size: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", picture, photometric="rgb", tile=(16, 16))
    whole = predict_mask(model(BlurredNetwork(), 32), picture)
    monkeypatch.setattr(bands, "LARGE_PIXELS", 500)
    asked: list[Window] = []
    with open_image(tmp_path / "a.tif") as image:
        spied = replace(image, fetch=lambda n, w: asked.append(w) or image.fetch(n, w))
        found = list(bands.predicted_bands(model(BlurredNetwork(), 32), spied, 0))
    assert np.array_equal(np.concatenate([rows for _, _, rows in found]), whole)
    assert np.array_equal(np.concatenate([rgb for _, rgb, _ in found]), picture / np.float32(255))
    assert [top for top, _, _ in found] == np.cumsum([0, *(len(rows) for _, _, rows in found[:-1])]).tolist()
    assert max(w.height for w in asked) <= 32


@pytest.mark.parametrize("large", [500, 3000])
def test_masks_of_large_pictures_are_whole_and_their_overlays_small(tmp_path: Path, monkeypatch, large: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (100, 75, 3)).astype(np.uint8)
    (tmp_path / "images").mkdir()
    tifffile.imwrite(tmp_path / "images" / "a.tif", picture, photometric="rgb")
    trained = model(BlurredNetwork(), 32)
    monkeypatch.setattr(folder, "load_model", lambda place: trained)
    monkeypatch.setattr(folder, "model_hash", lambda place: "blurred")
    monkeypatch.setattr(reading, "BAND_PIXELS", large)
    monkeypatch.setattr(pictures, "LARGE_PIXELS", large)
    monkeypatch.setattr(pictures, "MAX_PIXELS", 600)
    (target,) = folder.predict_folder("model", tmp_path / "images", tmp_path / "out", device="cpu")
    assert target == tmp_path / "out" / "a.tif"
    assert np.array_equal(read_index(target), predict_mask(trained, picture))
    with Image.open(tmp_path / "out" / "overlays" / "a.png") as overlay:
        assert 0.3 * large < overlay.width * overlay.height <= 1.2 * large
