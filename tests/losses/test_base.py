"""The calling form that all losses share, and the way data come to the grid of the logits."""

from __future__ import annotations

import pytest
import torch

from scribbleseg.losses import LOSSES
from scribbleseg.losses.base import at_grid
from tests.reference import losses as truth

SIZES = [
    pytest.param((8, 8), (4, 4), id="halves"),
    pytest.param((8, 12), (2, 3), id="quarters"),
    pytest.param((7, 9), (4, 5), id="odd"),
    pytest.param((6, 5), (6, 5), id="same"),
]


def make(size: tuple[int, int], grid: tuple[int, int], num_images: int = 2):
    """Random maps in which a cell holds about one stroke and seldom padding."""
    cell = size[0] * size[1] / (grid[0] * grid[1])
    rng = torch.Generator().manual_seed(7)
    rgb = torch.rand(num_images, 3, *size, generator=rng, dtype=torch.float64)
    labels = torch.randint(0, 3, (num_images, *size), generator=rng)
    labels[torch.rand(num_images, *size, generator=rng) > min(0.6, 1.6 / cell)] = 255
    valid = torch.rand(num_images, *size, generator=rng) > 0.3 / cell
    return rgb, labels, valid


@pytest.mark.parametrize(("size", "grid"), SIZES)
def test_at_grid_equals_the_loops(size, grid):
    rgb, labels, valid = make(size, grid)
    rgb_, labels_, valid_ = at_grid(torch.zeros(2, 3, *grid), rgb=rgb, labels=labels, valid=valid)
    expected_labels = torch.tensor([truth.cells(plane.tolist(), *grid, truth.cell_label) for plane in labels])
    expected_valid = torch.tensor([truth.cells(plane.tolist(), *grid, truth.cell_valid) for plane in valid]).bool()
    expected_rgb = torch.tensor([[truth.cells(p.tolist(), *grid, truth.cell_mean) for p in picture] for picture in rgb])
    assert torch.equal(labels_, expected_labels)
    assert torch.equal(valid_, expected_valid)
    torch.testing.assert_close(rgb_.float(), expected_rgb)
    assert labels_.unique().tolist()[-1] == 255, "the case is too poor: no cell without an answer"
    assert len(labels_.unique()) > 2, "the case is too poor: one class at most"
    assert valid_.any()
    assert not valid_.all()


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ([[255, 255], [255, 255]], 255),
        ([[255, 0], [255, 255]], 0),
        ([[2, 2], [2, 255]], 2),
        ([[254, 255], [255, 254]], 254),
        ([[0, 255], [255, 1]], 255),
        ([[0, 2], [2, 2]], 255),
    ],
)
@pytest.mark.parametrize("dtype", [torch.int16, torch.int32, torch.int64])
def test_a_cell_has_the_only_class_drawn_in_it(cell, expected, dtype):
    _, labels, _ = at_grid(torch.zeros(1, 3, 1, 1), labels=torch.tensor([cell], dtype=dtype))
    assert int(labels) == expected


def test_one_pixel_of_padding_makes_a_large_cell_invalid():
    valid = torch.ones(1, 32, 32, dtype=torch.bool)
    valid[0, 3, 30] = False
    _, _, coarse = at_grid(torch.zeros(1, 2, 2, 2), valid=valid)
    assert coarse.tolist() == [[[True, False], [True, True]]]


def test_what_is_not_given_is_not_returned():
    assert at_grid(torch.zeros(1, 2, 2, 2)) == (None, None, None)


def call(name: str, **change: object) -> object:
    rng = torch.Generator().manual_seed(3)
    data = {
        "labels": torch.randint(0, 3, (2, 8, 8), generator=rng),
        "rgb": torch.rand(2, 3, 8, 8, generator=rng),
        "features": torch.nn.functional.normalize(torch.randn(2, 4, 4, 4, generator=rng), dim=1),
        "drawn": torch.arange(255).expand(2, -1) < 2,
        "valid": torch.ones(2, 8, 8, dtype=torch.bool),
        "progress": 1.0,
        "branch_logits": torch.randn(2, 3, 4, 4, generator=rng),
        "teacher_logits": torch.randn(2, 3, 4, 4, generator=rng),
        "teacher_clean_logits": 9 * torch.randn(2, 3, 4, 4, generator=rng),
    } | change
    return LOSSES[name]()(torch.randn(2, 3, 4, 4, generator=rng), **data)


@pytest.mark.parametrize("name", LOSSES)
def test_called_as_a_module_it_returns_a_mean(name):
    value = call(name)
    assert value.shape == ()
    assert value.dtype == torch.float32
    assert float(value) > 0


@pytest.mark.parametrize(
    ("name", "needed"), [(n, k) for n, loss in LOSSES.items() for k in sorted(loss.needs - {"progress", "ranks"})]
)
def test_a_missing_argument_is_named(name, needed):
    with pytest.raises(TypeError, match=f"{LOSSES[name].__name__} needs {needed}: "):
        call(name, **{needed: None})


@pytest.mark.parametrize("name", LOSSES)
def test_numbers_go_in_by_keyword_only(name):
    with pytest.raises(TypeError, match="positional"):
        LOSSES[name](1.0)


@pytest.mark.parametrize("name", LOSSES)
def test_autocast_leaves_value_and_type(name):
    torch.manual_seed(0)
    plain = call(name)
    torch.manual_seed(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = call(name)
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, plain, rtol=1e-4, atol=1e-6)
