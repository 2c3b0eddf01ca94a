from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from scribbleseg.config import DataConfig, load_config
from scribbleseg.data import large
from scribbleseg.data.folder import Dataset, open_dataset
from scribbleseg.data.images import Image
from scribbleseg.data.loader import TrainingSamples, generator_for
from scribbleseg.records import UNLABELLED
from tests.fake.datasets import write_lines

SIZE = (700, 900)


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """A tiled 16-bit picture whose colours say where each pixel lies, and strokes in two places."""
    monkeypatch.setattr(large, "LARGE_PIXELS", 500_000)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    pixels = np.stack([x * 50, y * 50, np.zeros_like(x)], -1).astype(np.uint16)
    for folder in ("images", "scribbles"):
        (tmp_path / folder).mkdir()
    tifffile.imwrite(tmp_path / "images" / "a.tif", pixels, tile=(128, 128), photometric="rgb")
    tifffile.imwrite(tmp_path / "images" / "small.tif", pixels[:200, :200], photometric="rgb")
    labels = np.full(SIZE, UNLABELLED, np.uint8)
    labels[600:640, 100:160], labels[30:60, 700:800] = 0, 1
    tifffile.imwrite(tmp_path / "scribbles" / "a.tif", labels)
    tifffile.imwrite(tmp_path / "scribbles" / "small.tif", np.full((200, 200), UNLABELLED, np.uint8))
    (tmp_path / "dataset.yaml").write_text("name: large\nnames: {0: ground, 1: leaf}\nsplits: {train: train.txt}\n")
    write_lines(tmp_path / "train.txt", ["a", "small"])
    return open_dataset(tmp_path)


def config(**data: object) -> DataConfig:
    return load_config(overrides={"data": {"crop_px": 96, "colour": 0.0, **data}}).data


def places(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Column and row in the picture of each pixel, from its colours."""
    return image[0] * 65535 / 50, image[1] * 65535 / 50


@pytest.mark.parametrize("scale", [(1.0, 1.0), (0.5, 0.5), (0.7, 2.0), (3.0, 3.0)])
@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_pictures_and_labels_lie_over_each_other(dataset, scale, flip):
    labels = dataset.labels("a", "scribbles")
    wanted = config(scale=scale, flip=flip)
    for seed in range(12):
        view = large.large_view(dataset, "a", wanted, generator_for(seed))
        assert view.image.shape == (3, 96, 96)
        x, y = places(view.image)
        steps = x.diff(dim=1)[view.valid[:, 1:]]
        assert (steps < 0).all() if flip else (steps > 0).all()
        column, row = (p.round().long().clamp(0, n - 1) for p, n in ((x, SIZE[1]), (y, SIZE[0])))
        expected = torch.from_numpy(labels.astype(np.int64))[row, column]
        agree = (expected == view.labels)[view.valid]
        assert agree.float().mean() > 0.985, "but for the rim of a stroke"
        if scale == (1.0, 1.0):
            assert agree.all()
            np.testing.assert_allclose(x, x.round(), atol=1e-2)


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.7])
def test_the_zoom_is_that_of_the_whole_picture(dataset, factor):
    """Neighbours in the view are 1 / factor apart in the picture, up to its rim."""
    view = large.large_view(dataset, "a", config(scale=(factor, factor), flip=0.0), generator_for(1))
    x, y = places(view.image)
    np.testing.assert_allclose(x.diff(dim=1)[4:-4, 4:-4], 1 / factor, atol=0.02)
    np.testing.assert_allclose(y.diff(dim=0)[4:-4, 4:-4], 1 / factor, atol=0.02)


def test_every_view_has_labels_and_knows_the_classes_of_the_whole(dataset):
    seen = set()
    for seed in range(40):
        view = large.large_view(dataset, "a", config(scale=(1.0, 1.0)), generator_for(seed))
        classes = set(view.labels.unique().tolist()) - {UNLABELLED}
        assert classes
        seen |= classes
        assert view.drawn[:3].tolist() == [True, True, False]
    assert seen == {0, 1}


def test_a_picture_smaller_than_the_view_is_padded(dataset, monkeypatch):
    monkeypatch.setattr(large, "LARGE_PIXELS", 1000)
    view = large.large_view(dataset, "small", config(crop_px=256, scale=(1.0, 1.0), flip=0.0), generator_for(0))
    assert view.valid[:200, :200].all()
    assert not view.valid[200:].any()
    assert not view.valid[:, 200:].any()
    assert (view.labels[~view.valid] == UNLABELLED).all()


def test_the_loader_reads_windows_of_large_pictures_alone(dataset, monkeypatch):
    read = []
    pixels = Image.pixels
    monkeypatch.setattr(
        Image, "pixels", lambda self, window=None, index=None: read.append((self.shape, window)) or pixels(self, window, index)
    )
    run = load_config(overrides={"data": {"root": str(dataset.root), "crop_px": 96, "scale": [1.0, 1.0]}})
    items = TrainingSamples(dataset, run)
    for n in range(6):
        assert items[n].image.shape == (3, 96, 96)
    windows = [window for shape, window in read if shape == (*SIZE, 3)]
    assert len(windows) == 3
    assert all(w is not None and max(w.height, w.width) <= 96 + 4 for w in windows)
    assert all(window is None for shape, window in read if shape == (200, 200, 3))
    assert torch.equal(items[0].image, TrainingSamples(dataset, run)[0].image), "the same item each time"


def test_pictures_brought_to_one_length_are_read_whole(dataset):
    assert large.is_large(dataset, "a", config())
    assert not large.is_large(dataset, "a", config(longest_px=512))
    assert not large.is_large(dataset, "small", config())
