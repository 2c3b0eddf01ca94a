from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scribbleseg.annotate import small
from scribbleseg.annotate.features import MAX_GRID, grid_of
from scribbleseg.annotate.small import small_rgb
from tests.annotate.project import FakeProject


def seen(project: FakeProject) -> np.ndarray:
    return small_rgb(project, project.dataset(), 1, project.stem(1))


def test_a_small_image_is_seen_as_it_is(tmp_path: Path) -> None:
    project = FakeProject(tmp_path / "data", 1)
    assert np.array_equal(seen(project), project.rgb(1))


@pytest.mark.parametrize("size", [(90, 120), (91, 127), (1, 300), (200, 3)])
def test_a_large_one_is_read_in_bands_and_is_the_mean_of_blocks(
    tmp_path: Path, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    project = FakeProject(tmp_path / "data", 1, size)
    monkeypatch.setattr(small, "WHOLE_PIXELS", 100)
    monkeypatch.setattr(small, "BAND_PX", 16)
    monkeypatch.setattr(small, "grid_of", lambda whole: (max(1, whole[0] // 3), max(1, whole[1] // 3)))
    asked: list[int] = []
    real = small.rgb_of
    monkeypatch.setattr(
        small,
        "rgb_of",
        lambda image, reading, window, *rest: (asked.append(window.height), real(image, reading, window, *rest))[1],
    )
    found, whole = seen(project), project.rgb(1)
    step = max(1, int(size[0] / max(1, size[0] // 3)))
    blocks = [
        [whole[y : y + step, x : x + step].mean((0, 1)) for x in range(0, size[1], step)] for y in range(0, size[0], step)
    ]
    np.testing.assert_allclose(found, np.array(blocks), atol=1e-5)
    assert max(asked) < 16 + step
    assert sum(asked) == size[0]


def test_the_grid_is_bounded_and_keeps_the_shape() -> None:
    for size in ((1024, 768), (10, 10), (8000, 6000), (1, 50_000), (30_000, 30_000)):
        height, width = grid_of(size)
        assert height * width <= MAX_GRID + height + width
        assert min(height, width) >= 1
        assert size[0] * size[1] > MAX_GRID or (height, width) == size
    assert grid_of((8000, 6000)) == (1024, 768)
