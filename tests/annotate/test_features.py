from __future__ import annotations

import numpy as np
import pytest

from scribbleseg.annotate import features as module
from scribbleseg.annotate.features import NUM_FILTERS, compute
from scribbleseg.annotate.instant import Samples, fit

SIZE = (48, 64)


def textures(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Fine stripes on the right, flat on the left, of one mean colour; and which is which."""
    x = np.arange(SIZE[1])
    right = np.broadcast_to(x >= SIZE[1] // 2, SIZE)
    grey = np.where(right, 0.5 + 0.3 * (-1.0) ** (x // 2), 0.5)
    noise = np.random.default_rng(seed).normal(0, 0.02, SIZE)
    return np.repeat((grey + noise)[..., None], 3, axis=-1).astype(np.float32), right.astype(np.uint8)


def test_a_flat_picture_has_its_colours_and_no_edges() -> None:
    rgb = np.broadcast_to(np.array([0.2, 0.4, 0.6], np.float32), (*SIZE, 3))
    found = compute(rgb, SIZE, None).filters.astype(np.float32)
    np.testing.assert_allclose(found[..., :3], rgb, atol=1e-3)
    for scale in range(5):
        own = found[..., 3 + 8 * scale : 11 + 8 * scale]
        np.testing.assert_allclose(own[..., :3], rgb, atol=2e-3)
        np.testing.assert_allclose(own[..., 3:], 0, atol=2e-3)


@pytest.mark.parametrize("kind", ["linear", "forest"])
def test_textures_of_one_colour_are_told_apart_on_another_picture(kind: str) -> None:
    pytest.importorskip("sklearn")
    rgb, truth = textures()
    taught = compute(rgb, SIZE, None)
    pixels = np.arange(SIZE[0] * SIZE[1]).reshape(SIZE)
    strokes = [(0, pixels[10, 4:28]), (1, pixels[30, 36:60])]
    classifier = fit([Samples(label, taught.at(taught.cells(each))) for label, each in strokes], kind=kind)
    assert classifier is not None
    other, _ = textures(1)
    found = classifier.probabilities(compute(other, SIZE, None)).argmax(-1)
    assert (found == truth).mean() > 0.93
    colours = [Samples(label, taught.at(taught.cells(each))[:, :3]) for label, each in strokes]
    assert np.abs(colours[0].features.mean() - colours[1].features.mean()) < 0.05, "colour does not say it"


def test_every_pixel_of_a_large_picture_lies_in_the_cell_over_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_GRID", 40 * 30)
    size = (400, 300)
    rgb = np.zeros((*size, 3), np.float32)
    rgb[200:, 150:, 0] = 1
    found = compute(rgb, size, None)
    assert found.grid == (40, 30)
    for row, column, red in ((20, 20, 0), (350, 250, 1), (350, 40, 0), (20, 299, 0), (399, 299, 1)):
        (cell,) = found.cells(np.array([row * size[1] + column]))
        assert found.at(np.array([cell]))[0, 0] == pytest.approx(red, abs=0.02)
    every = found.cells(np.arange(size[0] * size[1]))
    assert np.array_equal(every, np.arange(40 * 30))


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (3, 200)])
def test_the_smallest_pictures_have_features(size: tuple[int, int]) -> None:
    found = compute(np.random.default_rng(0).random((*size, 3), np.float32), size, None)
    assert found.filters.shape == (*size, NUM_FILTERS)
    assert np.isfinite(found.at(found.cells(np.arange(size[0] * size[1])))).all()


def test_a_brighter_place_is_no_edge_and_a_turned_edge_is_the_same_edge() -> None:
    rgb = np.zeros((64, 64, 3), np.float32)
    rgb[:, 32:] = 0.5
    one = compute(rgb, (64, 64), None).filters.astype(np.float32)
    turned = compute(np.ascontiguousarray(rgb.transpose(1, 0, 2)), (64, 64), None).filters.astype(np.float32)
    np.testing.assert_allclose(one, turned.transpose(1, 0, 2), atol=5e-3)
    gradient = one[..., 6]
    assert gradient[32, 32] > 10 * max(gradient[32, 8], gradient[32, 56])
