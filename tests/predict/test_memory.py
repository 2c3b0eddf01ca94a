"""How much is held at a time, and of a large picture how much in all."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import zarr

from scribbleseg.data.images import Window
from scribbleseg.data.readers.image import Image
from scribbleseg.models.folder import load_model
from scribbleseg.predict import predict_inputs, predict_mask, probabilities, reading
from scribbleseg.predict.outputs import tiles
from tests.fake.models import make_model, picture

WRITTEN_AS_THEY_COME = ("mask", "probabilities", "zarr", "uncertainty", "uncertainty_tiff", "ilastik", "overlay")


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A picture that is large to a run whose limits are small."""
    make_model(tmp_path / "model", window_px=32)
    rgb = picture(0, (170, 90))
    (tmp_path / "images").mkdir()
    tifffile.imwrite(tmp_path / "images" / "large.tif", rgb, photometric="rgb", tile=(16, 16))
    monkeypatch.setattr(reading, "BAND_PIXELS", 1000)
    monkeypatch.setattr("scribbleseg.predict.outputs.pictures.MAX_PIXELS", 1000)
    monkeypatch.setattr(tiles, "TILE_PX", 32)
    monkeypatch.setattr("scribbleseg.predict.outputs.arrays.CHUNK_PX", 64)
    return tmp_path


def test_a_large_picture_is_read_and_written_by_bands_with_the_same_result(large: Path, monkeypatch) -> None:
    asked: list[Window | None] = []
    reads = Image.pixels
    monkeypatch.setattr(
        Image, "pixels", lambda self, window=None, index=None: asked.append(window) or reads(self, window, index)
    )
    blocks: list[int] = []
    cut = tiles._tiles

    def counted(rows, tile):
        for block in cut(rows, tile):
            blocks.append(block.shape[0])
            yield block

    monkeypatch.setattr(tiles, "_tiles", counted)
    (done,) = predict_inputs(large / "model", large / "images", large / "out", outputs=WRITTEN_AS_THEY_COME, device="cpu")
    assert done.error is None
    assert all(window is not None and window.height == 32 for window in asked)
    assert max(blocks) <= 32
    model, rgb = load_model(large / "model"), picture(0, (170, 90))
    expected, mask = probabilities(model, rgb).numpy(), predict_mask(model, rgb)
    out = large / "out"
    assert np.mean(tifffile.imread(out / "large.tif") == mask) > 0.999
    np.testing.assert_allclose(tifffile.imread(out / "probabilities" / "large.tif").transpose(2, 0, 1), expected, atol=5e-4)
    np.testing.assert_allclose(zarr.open_array(str(out / "zarr" / "large.zarr"), mode="r")[:], expected, atol=5e-4)
    with h5py.File(out / "ilastik" / "large_Probabilities.h5") as file:
        np.testing.assert_allclose(file["exported_data"][:].transpose(2, 0, 1), expected, atol=1e-5)
    entropy = -(expected * np.log(expected)).sum(0) / np.log(3)
    np.testing.assert_allclose(tifffile.imread(out / "uncertainty_tiff" / "large.tif"), entropy, atol=1e-4)
    np.testing.assert_allclose(tifffile.imread(out / "uncertainty" / "large.tif") / 255, entropy, atol=0.003)


@pytest.mark.parametrize("output", ["polygons", "coco", "nnunet"])
def test_what_must_be_held_whole_is_refused_for_what_cannot_be(large: Path, monkeypatch, output: str) -> None:
    monkeypatch.setattr("scribbleseg.predict.outputs.output.MAX_PIXELS", 1000)
    (done,) = predict_inputs(large / "model", large / "images", large / "out", outputs=["mask", output], device="cpu")
    assert done.error is not None
    assert "at most 1000 pixels for" in str(done.error)
    assert "probabilities" in done.error.do
    assert not (large / "out" / "large.tif").exists()


def test_a_large_picture_is_not_refined(large: Path, monkeypatch) -> None:
    monkeypatch.setattr("scribbleseg.predict.bands.LARGE_PIXELS", 1000)
    (done,) = predict_inputs(large / "model", large / "images", large / "out", refine="tree", device="cpu")
    assert "without --refine" in str(done.error)


@pytest.mark.slow
def test_20_000_pixels_a_side_fit_in_4_gib() -> None:
    result = import_module("benchmarks.large_picture").run(small=2600, outputs="mask,overlay,probabilities,uncertainty")
    large = result["rows"][-1]
    assert large["side"] == 20000
    assert large["peak_mib"] < 4096
    assert all(row["agrees"] > 0.999 for row in result["rows"])
