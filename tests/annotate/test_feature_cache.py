from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scribbleseg.annotate import feature_cache
from scribbleseg.annotate.feature_cache import FeatureCache, Picture

SIZE = (20, 30)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with each image whose features are computed."""
    found: list[int] = []
    real = feature_cache.compute
    monkeypatch.setattr(feature_cache, "compute", lambda *words: (found.append(1), real(*words))[1])
    return found


def picture(seed: int = 0) -> Picture:
    return Picture(SIZE, lambda: np.random.default_rng(seed).random((*SIZE, 3), np.float32))


def cache(folder: Path, source: str = "", **options: Any) -> FeatureCache:
    return FeatureCache(folder, None, source, **options)


def test_features_are_computed_once_also_over_a_restart(tmp_path: Path, counted: list[int]) -> None:
    first = cache(tmp_path).get("a", picture())
    again = cache(tmp_path).get("a", picture())
    assert len(counted) == 1
    assert np.array_equal(first.filters, again.filters)
    assert again.size == SIZE


def test_another_picture_or_backbone_has_features_of_its_own(tmp_path: Path, counted: list[int]) -> None:
    one = cache(tmp_path).get("a 1", picture(1))
    other = cache(tmp_path).get("a 2", picture(2))
    cache(tmp_path, "a backbone").get("a 2", picture(2))
    assert len(counted) == 3
    assert not np.array_equal(one.filters, other.filters)


def test_a_picture_of_another_size_does_not_get_the_old_features(tmp_path: Path, counted: list[int]) -> None:
    cache(tmp_path).get("a", picture())
    found = cache(tmp_path).get("a", Picture((30, 20), lambda: np.zeros((30, 20, 3), np.float32)))
    assert found.grid == (30, 20)
    assert len(counted) == 2


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "changed"])
def test_a_damaged_file_is_made_anew(tmp_path: Path, counted: list[int], damage: str) -> None:
    whole = cache(tmp_path).get("a", picture())
    (path,) = tmp_path.glob("*.npz")
    data = path.read_bytes()
    changed = bytearray(data)
    changed[len(data) // 2] ^= 255
    path.write_bytes(
        {"cut": data[: len(data) // 2], "empty": b"", "text": b"no archive" * 9, "changed": bytes(changed)}[damage]
    )
    assert np.array_equal(cache(tmp_path).get("a", picture()).filters, whole.filters)
    assert np.array_equal(cache(tmp_path).get("a", picture()).filters, whole.filters)
    assert len(counted) == 2


def test_the_images_used_longest_ago_go_first(tmp_path: Path, counted: list[int]) -> None:
    cache(tmp_path).get("a", picture())
    (path,) = tmp_path.glob("*.npz")
    room = int(2.5 * path.stat().st_size)
    cache(tmp_path, max_bytes=room).get("b", picture())
    for age, name in enumerate(sorted(tmp_path.glob("*.npz"), key=lambda p: p != path)):
        os.utime(name, (1000 + age, 1000 + age))
    cache(tmp_path, max_bytes=room).get("a", picture())  # used now: b is the older one
    cache(tmp_path, max_bytes=room).get("c", picture())
    assert sum(p.stat().st_size for p in tmp_path.glob("*.npz")) <= room
    assert len(counted) == 3
    cache(tmp_path, max_bytes=room).get("a", picture())
    assert len(counted) == 3
    cache(tmp_path, max_bytes=room).get("b", picture())
    assert len(counted) == 4


def test_without_a_disk_to_write_on_it_still_gives_features(tmp_path: Path, counted: list[int]) -> None:
    (tmp_path / "file").write_text("in the way")
    kept = cache(tmp_path / "file")
    assert kept.get("a", picture()).grid == SIZE
    assert kept.get("a", picture()).grid == SIZE
    assert len(counted) == 1, "in memory it is all the same"
