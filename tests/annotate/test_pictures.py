from __future__ import annotations

import io

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from tests.annotate.conftest import page_of


def picture_of(answer):
    assert answer.status_code == 200, answer.text
    return np.asarray(Pillow.open(io.BytesIO(answer.content)).convert("RGB"))


def test_an_8_bit_picture_is_shown_as_it_is(page, folder):
    stored = np.asarray(Pillow.open(folder / "p0.png"))
    assert (picture_of(page.get("/api/images/1/view")) == stored).all()
    assert (picture_of(page.get("/api/images/1/view?low=0&high=255")) == stored).all()
    assert (picture_of(page.get("/api/images/1/view?channels=1")) == stored[..., 1:2]).all()


def test_a_browser_that_has_the_picture_is_not_sent_it_again(page):
    first = page.get("/api/images/1/view")
    again = page.get("/api/images/1/view", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert page.get("/api/images/1/view?low=9", headers={"If-None-Match": first.headers["etag"]}).status_code == 200


def test_16_bit_values_are_stretched_for_the_eye_alone(tmp_path):
    values = np.linspace(1000, 3000, 64 * 64).reshape(64, 64).astype(np.uint16)
    tifffile.imwrite(tmp_path / "dark.tif", values)
    with page_of(tmp_path) as page:
        bands = page.get("/api/images/1").json()["bands"]
        assert (bands["dtype"], bands["num_channels"]) == ("uint16", 1)
        assert 1000 < bands["low"] < 1100
        assert 2900 < bands["high"] < 3000
        shown = picture_of(page.get("/api/images/1/view"))
        assert (shown.min(), shown.max()) == (0, 255)
        assert page.project.rgb(1).max() < 0.05


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_a_large_picture_comes_in_tiles_of_every_level(tmp_path, kind):
    height, width = 700, 4100
    wave = np.stack([127 + 120 * np.sin(np.arange(width) / (60 + 20 * k)) for k in range(3)], -1)
    stored = np.repeat(wave[None], height, 0).astype(np.uint8)
    if kind == "png":
        Pillow.fromarray(stored).save(tmp_path / "wide.png")
    else:
        tifffile.imwrite(tmp_path / "wide.tif", stored, tile=(256, 256), photometric="rgb")
    with page_of(tmp_path) as page:
        about = page.get("/api/images/1").json()
        assert about["tile_px"] == 512
        assert page.get("/api/images/1/view").status_code == 422
        for level in range(about["levels"]):
            side = 512 << level
            shrunk = stored[:: 1 << level, :: 1 << level].astype(int)
            for y in range(-(-height // side)):
                for x in range(-(-width // side)):
                    tile = picture_of(page.get(f"/api/images/1/tiles/{level}/{x}/{y}")).astype(int)
                    expected = shrunk[512 * y : 512 * (y + 1), 512 * x : 512 * (x + 1)]
                    assert tile.shape == expected.shape
                    assert np.abs(tile - expected).mean() < 3 + 2 * (1 << level)
        assert max(tile.shape[:2]) <= 512  # the last level is one tile
        thumbnail = picture_of(page.get("/api/images/1/thumbnail"))
        assert max(thumbnail.shape) == 160
        assert page.get("/api/images/1/labels").status_code == 200


def test_a_thumbnail_follows_its_picture(page, folder):
    first = page.get("/api/images/1/thumbnail").content
    Pillow.fromarray(np.zeros((40, 60, 3), np.uint8)).save(folder / "p0.png")
    assert picture_of(page.get("/api/images/1/thumbnail")).max() < 9
    assert page.get("/api/images/1/thumbnail").content != first
    assert len(list(page.project.state.glob("thumbnails/1-*"))) == 1


def test_a_large_png_is_drawn_on_before_it_is_decoded(tmp_path):
    Pillow.fromarray(np.zeros((4200, 300, 3), np.uint8)).save(tmp_path / "high.png")
    with page_of(tmp_path) as page:
        about = page.get("/api/images/1").json()
        assert (about["width"], about["height"], about["tile_px"]) == (300, 4200, 512)
        assert about["bands"] == {"num_channels": 3, "dtype": "uint8", "low": 0.0, "high": 255.0}
        decoded = page.project.state / "tiles"
        assert list(decoded.glob("*.npy")) == []
        assert picture_of(page.get(f"/api/images/1/tiles/{about['levels'] - 1}/0/0")).max() == 0
        assert len(list(decoded.glob("*.npy"))) == 1


def test_the_list_is_told_in_columns_of_one_length(page):
    columns = page.get("/api/images").json()
    assert set(columns) == {"id", "stem", "strokes", "done", "doubt", "version", "has_base"}
    assert {len(column) for column in columns.values()} == {len(page.project.images())}
    assert {type(flag) for key in ("done", "has_base") for flag in columns[key]} == {bool}
    rows = page.project.images()
    assert [(row.id, row.stem, row.version) for row in rows] == list(
        zip(columns["id"], columns["stem"], columns["version"], strict=True)
    )
