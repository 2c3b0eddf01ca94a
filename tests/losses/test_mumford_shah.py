from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from scribbleseg.losses import MumfordShahLoss, TotalVariationLoss
from tests.fake.maps import GRIDS, make_maps, pad_maps, renumber
from tests.reference import mumford_shah as truth

weights = pytest.mark.parametrize("length_weight", [0.0, 1.0, 2.5])


def make(*args: Any, **how: Any) -> dict[str, Tensor]:
    maps = make_maps(*args, **how)
    return {key: maps[key] for key in ("logits", "rgb", "valid")}


def terms(data: dict[str, Tensor], length_weight: float = 1.0) -> tuple[float, int]:
    data = {key: data[key] for key in ("logits", "rgb", "valid")}
    result = MumfordShahLoss(length_weight=length_weight).terms(**data)
    return float(result.sum.detach()), int(result.count)


@weights
@pytest.mark.parametrize(("size", "grid"), GRIDS)
def test_equals_the_loops(length_weight, size, grid):
    data = make(size, grid)
    expected, count = truth.terms(**data, length_weight=length_weight)
    total, counted = terms(data, length_weight)
    assert count == counted > 0
    assert total == pytest.approx(expected, rel=1e-10)
    assert float(MumfordShahLoss(length_weight=length_weight)(**data)) == pytest.approx(expected / count, rel=1e-10)


@weights
def test_gradcheck_though_the_mean_colours_are_held(length_weight):
    data = make((4, 6), (4, 3))
    loss = MumfordShahLoss(length_weight=length_weight)
    assert torch.autograd.gradcheck(lambda x: loss(**data | {"logits": x}), data["logits"].requires_grad_())


class TestKnownValues:
    def test_regions_of_one_colour_cost_their_border_alone(self):
        data = make((6, 8), (6, 8), num_images=1, num_classes=2, holes=False)
        data["rgb"][..., :4], data["rgb"][..., 4:] = 0.2, 0.9
        data["logits"][:] = 0
        data["logits"][:, 0, :, :4] = data["logits"][:, 1, :, 4:] = 1e3
        assert terms(data, 0.0)[0] == pytest.approx(0, abs=1e-25)
        assert terms(data, 1.0)[0] == pytest.approx(2 * 6, rel=1e-12)

    def test_one_region_costs_the_spread_of_the_colours(self):
        data = make((6, 8), (6, 8), num_images=1, holes=False)
        data["logits"][:, 1] = 1e3
        spread = data["rgb"].var((2, 3), correction=0).sum()
        assert float(MumfordShahLoss()(**data)) == pytest.approx(float(spread), rel=1e-12)

    def test_the_second_term_is_twice_the_total_variation(self):
        data = make()
        border = terms(data, 1.0)[0] - terms(data, 0.0)[0]
        variation = TotalVariationLoss().terms(data["logits"], valid=data["valid"]).sum
        assert border == pytest.approx(2 * float(variation), rel=1e-12)

    def test_the_weight_of_wsl4mis(self):
        # Its sum over images, pixels and one grey channel, λ = 1: ours · B·H·W with a third of the weight and λ = 3.
        data = make((6, 8), (6, 8), holes=False)
        grey = data["rgb"][:, :1].expand_as(data["rgb"])
        p = data["logits"].softmax(1)
        centres = (p * grey[:, :1]).sum((2, 3), keepdim=True) / p.sum((2, 3), keepdim=True)
        theirs = (p * (grey[:, :1] - centres) ** 2).sum() + p.diff(dim=-1).abs().sum() + p.diff(dim=-2).abs().sum()
        ours = MumfordShahLoss(length_weight=3.0)(data["logits"], rgb=grey, valid=data["valid"])
        assert float(ours) * 2 * 6 * 8 / 3 == pytest.approx(float(theirs), rel=1e-12)


class TestExtremes:
    def test_nothing_valid_is_zero_with_a_zero_gradient(self):
        data = make()
        data["valid"][:] = False
        data["logits"].requires_grad_()
        loss = MumfordShahLoss()(**data)
        loss.backward()
        assert float(loss.detach()) == 0
        assert torch.equal(data["logits"].grad, torch.zeros_like(data["logits"]))

    def test_a_class_without_any_probability_has_no_mean_and_does_no_harm(self):
        data = make()
        data["logits"][:, 2] = -1e5
        data["logits"].requires_grad_()
        loss = MumfordShahLoss()(**data)
        loss.backward()
        two = MumfordShahLoss()(**data | {"logits": data["logits"][:, :2]})
        assert float(loss.detach()) == pytest.approx(float(two.detach()), rel=1e-12)
        assert torch.isfinite(data["logits"].grad).all()

    def test_the_content_of_padding_does_not_matter(self):
        data = make((5, 6), (5, 6))
        other = {key: value.clone() for key, value in data.items()}
        out = ~data["valid"]
        other["rgb"].masked_fill_(out[:, None], 0.123)
        other["logits"].masked_fill_(out[:, None], 9.0)
        assert out.any()
        assert terms(other) == pytest.approx(terms(data), rel=1e-12)

    def test_twice_the_size_is_the_same_value(self):
        data = make((6, 8), (6, 8), holes=False)
        large = {key: value.repeat_interleave(2, -1).repeat_interleave(2, -2) for key, value in data.items()}
        loss = MumfordShahLoss(length_weight=0.0)
        assert float(loss(**large)) == pytest.approx(float(loss(**data)), rel=1e-12)


class TestInvariance:
    def test_renumbering_classes(self):
        maps = make_maps()
        assert terms(renumber(maps, [2, 0, 1])) == pytest.approx(terms(maps), rel=1e-12)

    @pytest.mark.parametrize("axes", [(-1,), (-2,), (-1, -2)])
    def test_flips(self, axes):
        data = make()
        assert terms({key: value.flip(axes) for key, value in data.items()}) == pytest.approx(terms(data), rel=1e-12)

    def test_order_of_the_batch(self):
        data = make(num_images=3)
        assert terms({key: value[[2, 0, 1]] for key, value in data.items()}) == pytest.approx(terms(data), rel=1e-12)

    def test_padding(self):
        maps = make_maps()
        assert terms(pad_maps(maps)) == pytest.approx(terms(maps), rel=1e-12)

    def test_colours_turned_and_shifted(self):
        data = make()
        other = data | {"rgb": 0.9 - 0.5 * data["rgb"][:, [1, 2, 0]]}
        assert terms(other, 0.0)[0] == pytest.approx(0.25 * terms(data, 0.0)[0], rel=1e-10)


def test_terms_of_halves_add_up():
    data = make(num_images=4)
    halves = [terms({key: value[part] for key, value in data.items()}) for part in (slice(0, 1), slice(1, 4))]
    assert tuple(map(sum, zip(*halves, strict=True))) == pytest.approx(terms(data), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_half_precision_logits_give_float32(dtype):
    data = make()
    logits = data["logits"].to(dtype).requires_grad_()
    loss = MumfordShahLoss()(**data | {"logits": logits, "rgb": data["rgb"].float()})
    loss.backward()
    assert loss.dtype == torch.float32
    assert logits.grad.dtype == dtype
    same = MumfordShahLoss()(**data | {"logits": logits.detach().double()})
    assert float(loss.detach()) == pytest.approx(float(same), rel=1e-5)
