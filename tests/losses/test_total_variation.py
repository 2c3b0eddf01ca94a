from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from scribbleseg.losses import TotalVariationLoss
from scribbleseg.losses.total_variation import FORMS
from tests.fake.maps import GRIDS, make_maps, pad_maps, renumber
from tests.reference import total_variation as truth

every_form = pytest.mark.parametrize("form", FORMS)


def make(*args: Any, **how: Any) -> dict[str, Tensor]:
    maps = make_maps(*args, **how)
    return {key: maps[key] for key in ("logits", "valid")}


def terms(data: dict[str, Tensor], form: str) -> tuple[float, int]:
    result = TotalVariationLoss(form=form).terms(data["logits"], valid=data["valid"])
    return float(result.sum.detach()), int(result.count)


def certain(regions: Tensor, num_classes: int = 2) -> dict[str, Tensor]:
    """Scores that are sure of the regions of one image, all of it valid."""
    logits = 1e3 * torch.nn.functional.one_hot(regions.long(), num_classes).movedim(-1, 0)[None].double()
    return {"logits": logits, "valid": torch.ones(1, *regions.shape, dtype=torch.bool)}


@every_form
@pytest.mark.parametrize(("size", "grid"), GRIDS)
def test_equals_the_loops(form, size, grid):
    data = make(size, grid)
    expected, count = truth.terms(**data, form=form)
    total, counted = terms(data, form)
    assert count == counted > 0
    assert total == pytest.approx(expected, rel=1e-10)
    assert total > 0
    assert float(TotalVariationLoss(form=form)(**data)) == pytest.approx(expected / count, rel=1e-10)


@every_form
def test_scattered_padding_equals_the_loops(form):
    data = make((9, 8), (9, 8), holes=False)
    data["valid"] = torch.rand(data["valid"].shape, generator=torch.Generator().manual_seed(2)) > 0.3
    assert terms(data, form)[0] == pytest.approx(truth.terms(**data, form=form)[0], rel=1e-10)


@every_form
def test_gradcheck(form):
    data = make((4, 6), (4, 3))
    loss = TotalVariationLoss(form=form)
    assert torch.autograd.gradcheck(lambda x: loss(**data | {"logits": x}), data["logits"].requires_grad_())


class TestKnownValues:
    @every_form
    @pytest.mark.parametrize("num_classes", [2, 5])
    def test_a_straight_border_counts_its_length(self, form, num_classes):
        regions = torch.zeros(6, 8)
        regions[:, 4:] = 1
        assert terms(certain(regions, num_classes), form) == (pytest.approx(6, rel=1e-12), 48)
        assert terms(certain(regions.T, num_classes), form) == (pytest.approx(6, rel=1e-12), 48)

    @pytest.mark.parametrize(("form", "per_step"), [("anisotropic", 2), ("isotropic", 1 + math.sqrt(0.5)), ("contour", 2)])
    def test_a_diagonal_border(self, form, per_step):
        # Two sizes, so that what the ends of the border do is not counted.
        small, large = (terms(certain(torch.ones(n, n).tril()), form)[0] for n in (20, 30))
        assert (large - small) / 10 == pytest.approx(per_step, rel=1e-12)

    def test_a_lone_pixel(self):
        regions = torch.zeros(7, 7)
        regions[3, 3] = 1
        assert terms(certain(regions), "anisotropic")[0] == 4
        # Its own two-sided differences: √2 in each of 4 quadrants. Its 4 neighbours: 1 in 2 of 4 quadrants.
        assert terms(certain(regions), "isotropic")[0] == pytest.approx(math.sqrt(2) + 4 * 0.5, rel=1e-12)
        # The region is too thin to be seen; the 3×3 hole in the eroded surroundings is closed to all but the pixel itself.
        assert terms(certain(regions), "contour")[0] == pytest.approx(0.5 * 8, rel=1e-12)

    @every_form
    def test_one_region_has_no_border(self, form):
        data = certain(torch.zeros(5, 6))
        data["logits"] = data["logits"].requires_grad_()
        loss = TotalVariationLoss(form=form)(**data)
        loss.backward()
        assert float(loss.detach()) == 0
        assert torch.isfinite(data["logits"].grad).all()

    @every_form
    def test_an_even_prediction_has_a_zero_gradient(self, form):
        data = certain(torch.zeros(5, 6))
        logits = torch.zeros_like(data["logits"]).requires_grad_()
        TotalVariationLoss(form=form)(logits, valid=data["valid"]).backward()
        assert torch.equal(logits.grad, torch.zeros_like(logits))

    def test_of_wsl4mis(self):
        # Its mean over classes too: 2/C times ours. All pixels valid.
        data = make((9, 8), (9, 8), holes=False)
        p = data["logits"].softmax(1)
        pool = torch.nn.functional.max_pool2d
        eroded = -pool(-p, 3, 1, 1)
        theirs = (pool(eroded, 3, 1, 1) - eroded).mean()
        assert float(TotalVariationLoss(form="contour")(**data)) * 2 / 3 == pytest.approx(float(theirs), rel=1e-12)


class TestPadding:
    @every_form
    def test_is_no_edge(self, form):
        # A certain prediction that changes exactly where the padding begins.
        regions = torch.zeros(6, 8)
        regions[:, 5:] = 1
        data = certain(regions)
        data["valid"][..., 5:] = False
        assert terms(data, form) == (0, 30)

    @every_form
    def test_changes_nothing(self, form):
        maps = make_maps()
        assert terms(pad_maps(maps), form) == pytest.approx(terms(maps, form), rel=1e-12)

    @every_form
    def test_gets_no_gradient(self, form):
        data = make((5, 6), (5, 6))
        logits = data["logits"].requires_grad_()
        TotalVariationLoss(form=form)(logits, valid=data["valid"]).backward()
        moved = logits.grad.abs().sum(1) > 0
        assert not (moved & ~data["valid"]).any()
        assert moved.any()

    @every_form
    def test_everywhere_is_zero_with_a_zero_gradient(self, form):
        data = make()
        data["valid"][:] = False
        data["logits"].requires_grad_()
        loss = TotalVariationLoss(form=form)(**data)
        loss.backward()
        assert float(loss.detach()) == 0
        assert torch.equal(data["logits"].grad, torch.zeros_like(data["logits"]))


@every_form
class TestInvariance:
    def test_renumbering_classes(self, form):
        maps = make_maps()
        assert terms(renumber(maps, [2, 0, 1]), form) == pytest.approx(terms(maps, form), rel=1e-12)

    @pytest.mark.parametrize("axes", [(-1,), (-2,), (-1, -2)])
    def test_flips(self, form, axes):
        data = make()
        flipped = {key: value.flip(axes) for key, value in data.items()}
        assert terms(flipped, form) == pytest.approx(terms(data, form), rel=1e-12)

    def test_turning(self, form):
        data = make((6, 6), (6, 6))
        turned = {key: value.transpose(-1, -2) for key, value in data.items()}
        assert terms(turned, form) == pytest.approx(terms(data, form), rel=1e-12)

    def test_order_of_the_batch(self, form):
        data = make(num_images=3)
        other = {key: value[[2, 0, 1]] for key, value in data.items()}
        assert terms(other, form) == pytest.approx(terms(data, form), rel=1e-12)

    def test_terms_of_halves_add_up(self, form):
        data = make(num_images=4)
        halves = [terms({key: value[part] for key, value in data.items()}, form) for part in (slice(0, 1), slice(1, 4))]
        assert tuple(map(sum, zip(*halves, strict=True))) == pytest.approx(terms(data, form), rel=1e-12)


@every_form
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_half_precision_logits_give_float32(form, dtype):
    data = make()
    logits = data["logits"].to(dtype).requires_grad_()
    loss = TotalVariationLoss(form=form)(logits, valid=data["valid"])
    loss.backward()
    assert loss.dtype == torch.float32
    assert logits.grad.dtype == dtype
    same = TotalVariationLoss(form=form)(logits.detach().double(), valid=data["valid"])
    assert float(loss.detach()) == pytest.approx(float(same), rel=1e-5)
