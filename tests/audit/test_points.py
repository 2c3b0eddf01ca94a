from __future__ import annotations

import json

import numpy as np
import pytest

from scribbleseg.audit.points import PATCH_RADIUS, Plan, Pool, allocate, majority, smallest_keys
from scribbleseg.errors import ConfigError

NAMES = ("background", "leaf", "stone")


def pool(number: int, seed: int = 0, unit: str = "pixel") -> Pool:
    return Pool(NAMES, number, unit, np.random.default_rng(seed))  # type: ignore[arg-type]


def test_every_pixel_of_a_class_is_equally_likely_whatever_image_it_is_in() -> None:
    first, second = np.zeros((2, 4), np.uint8), np.zeros((3, 4), np.uint8)
    first[0, :3] = 1
    second[1:, :] = 1  # 11 pixels of class 1 in all, 3 of them in the first image
    seen: dict[tuple[str, int, int], int] = {}
    for seed in range(2000):
        one = pool(4, seed)
        one.add("a", first)
        one.add("b", second)
        for item in one.plan().items:
            assert (first if item.image == "a" else second)[item.y, item.x] == item.predicted
            if item.predicted == 1:
                seen[item.image, item.x, item.y] = seen.get((item.image, item.x, item.y), 0) + 1
    assert len(seen) == 11
    assert sum(seen.values()) == 4000  # two of the four points
    assert max(abs(n - 4000 / 11) for n in seen.values()) < 5 * (2000 * 2 / 11) ** 0.5


def test_no_pixel_comes_twice_and_a_small_class_is_taken_whole() -> None:
    prediction = np.zeros((20, 20), np.uint8)
    prediction[3, 4] = 2
    one = pool(50)
    one.add("a", prediction)
    plan = one.plan()
    assert len(plan.items) == 50
    assert len({(item.x, item.y) for item in plan.items}) == 50
    assert [(item.x, item.y) for item in plan.items if item.predicted == 2] == [(4, 3)]
    assert plan.sizes == (399, 0, 1)
    assert [item.number for item in plan.items] == list(range(1, 51))


def test_points_are_shared_out_half_evenly_half_by_size() -> None:
    assert allocate(np.array([900, 100, 0]), 100).tolist() == [70, 30, 0]
    assert allocate(np.array([5, 3, 2]), 100).tolist() == [5, 3, 2]
    assert allocate(np.array([10**6, 2, 10**6]), 30).sum() == 30
    assert allocate(np.zeros(3, int), 9).tolist() == [0, 0, 0]


def test_keys_are_distributed_as_the_smallest_of_many() -> None:
    rng = np.random.default_rng(0)
    ours = np.array([smallest_keys(50, 3, rng) for _ in range(4000)])
    plain = np.sort(rng.random((4000, 50)), axis=1)[:, :3]
    assert np.allclose(ours.mean(0), plain.mean(0), rtol=0.05)
    assert np.allclose(ours.std(0), plain.std(0), rtol=0.08)
    assert (np.diff(ours, axis=1) > 0).all()


def test_patches_are_squares_of_the_class_that_most_of_them_was_given() -> None:
    side = 2 * PATCH_RADIUS
    prediction = np.zeros((2 * side + 3, side), np.uint8)
    prediction[side : 2 * side, : side // 2 + 1] = 1
    assert majority(prediction, 3).tolist() == [[0], [1], [0]]
    one = pool(3, unit="patch")
    one.add("a", prediction)
    places = {(item.x, item.y): item.predicted for item in one.plan().items}
    assert places == {(8, 8): 0, (8, 24): 1, (8, 40): 0}


def test_a_plan_survives_its_file() -> None:
    one = pool(9)
    one.add("a", np.eye(9, dtype=np.uint8), np.full((9, 9), 0.75))
    one.add("ü", np.eye(4, dtype=np.uint8))
    plan = one.plan()
    again = Plan.from_tree(json.loads(json.dumps(plan.tree(), allow_nan=False)))
    assert again.tree() == plan.tree()
    assert {item.confidence for item in again.items if item.image == "a"} == {0.75}


def test_no_points_is_an_error() -> None:
    with pytest.raises(ConfigError, match="at least one"):
        pool(0)
