from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from scribbleseg.config import LossTerm
from scribbleseg.errors import ConfigError
from scribbleseg.losses import TreeEnergyLoss
from scribbleseg.losses.objective import build_loss, complete
from tests.fake.maps import GRIDS, make_maps, pad_maps, renumber
from tests.reference import tree as truth

SIGMAS = {"sigma_rgb": 0.5, "sigma_feature": 0.8}
LEVELS = [pytest.param({"high_level": True}, id="both trees"), pytest.param({"high_level": False}, id="low tree alone")]


def make(*args: Any, **how: Any) -> dict[str, Tensor]:
    return make_maps(*args, **how)


def needed(data: dict[str, Tensor], loss: TreeEnergyLoss) -> dict[str, Tensor]:
    return {key: value for key, value in data.items() if key == "logits" or key in loss.needs}


def terms(data: dict[str, Tensor], **numbers: Any) -> tuple[float, int]:
    loss = TreeEnergyLoss(**SIGMAS | numbers)
    result = loss.terms(**needed(data, loss))
    return float(result.sum.detach()), int(result.count)


def expected_terms(data: dict[str, Tensor], high_level: bool = True, scales: tuple[int, ...] = (1,)) -> tuple[float, int]:
    return truth.tree_energy(**(data if high_level else data | {"features": None}), **SIGMAS, scales=scales)


@pytest.mark.parametrize("numbers", LEVELS)
@pytest.mark.parametrize(("size", "grid"), GRIDS)
def test_equals_the_loops(numbers, size, grid):
    data = make(size, grid)
    expected, count = expected_terms(data, **numbers)
    total, counted = terms(data, **numbers)
    assert count == counted > 0
    assert total == pytest.approx(expected, rel=1e-10)
    assert total > 0
    loss = TreeEnergyLoss(**SIGMAS | numbers)
    assert float(loss(**data)) == pytest.approx(expected / count, rel=1e-10)


@pytest.mark.parametrize("numbers", LEVELS)
@pytest.mark.parametrize("scales", [(2,), (1, 2), (1, 2, 4)])
@pytest.mark.parametrize(("size", "grid"), [((8, 12), (8, 12)), ((8, 12), (4, 6)), ((7, 9), (7, 9))])
def test_scales_equal_the_loops(numbers, scales, size, grid):
    data = make(size, grid, share=0.05)
    expected, count = expected_terms(data, **numbers, scales=scales)
    total, counted = terms(data, **numbers, scales=scales)
    assert count == counted > 0
    assert total == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("numbers", LEVELS)
@pytest.mark.parametrize("scales", [(1,), (1, 2)])
def test_gradcheck_of_the_logits(numbers, scales):
    data = make((4, 6), (4, 6))
    loss = TreeEnergyLoss(**SIGMAS | numbers, scales=scales)
    assert torch.autograd.gradcheck(lambda x: loss(**data | {"logits": x}), data["logits"].requires_grad_())


def test_gradcheck_of_the_features():
    data = make((4, 6), (4, 3), num_images=1)
    loss = TreeEnergyLoss(**SIGMAS)
    inputs = (data["logits"].requires_grad_(), data["features"].requires_grad_())
    assert torch.autograd.gradcheck(lambda x, z: loss(**data | {"logits": x, "features": z}), inputs)


class TestWhereGradientFlows:
    @pytest.mark.parametrize("flows", [False, True])
    def test_into_the_features_is_a_choice(self, flows):
        data = make()
        data["features"].requires_grad_()
        data["logits"].requires_grad_()
        TreeEnergyLoss(**SIGMAS, feature_gradient=flows)(**data).backward()
        assert float(data["logits"].grad.abs().max()) > 0
        grad = data["features"].grad
        assert (grad is not None and float(grad.abs().max()) > 0) is flows

    @pytest.mark.parametrize("numbers", LEVELS)
    def test_a_detached_target_leaves_the_value_and_the_sign_of_the_gap(self, numbers):
        data = make((5, 6), (5, 6))
        data["logits"].requires_grad_()
        free = TreeEnergyLoss(**SIGMAS | numbers)
        held = TreeEnergyLoss(**SIGMAS | numbers, detach_target=True)
        assert float(held(**data).detach()) == float(free(**data).detach())
        by_free = torch.autograd.grad(free(**data), data["logits"])[0]
        by_held = torch.autograd.grad(held(**data), data["logits"])[0]
        assert not torch.allclose(by_free, by_held)
        # With ŷ a constant, the loss is Σ ± p over the free pixels, divided by their number.
        loss = held
        p = data["logits"].softmax(1)
        z = data["features"] if loss.high_level else None
        target = loss.target(p.detach(), data["rgb"], z, data["valid"])
        free_pixels = ((data["labels"] == 255) & data["valid"]).unsqueeze(1)
        plain = ((p - target) * (p.detach() - target).sign() * free_pixels).sum() / free_pixels.sum()
        torch.testing.assert_close(by_held, torch.autograd.grad(plain, data["logits"])[0])


class TestKnownValues:
    def test_two_pixels_by_hand(self):
        # Colours 0.1·√2 apart: a = exp(−½·0.02/0.01) = 1/e. p = (1, 0) and (0, 1): ŷ_0 = (1, a)/(1 + a); both are a·2/(1 + a) off.
        rgb = torch.zeros(1, 3, 1, 2, dtype=torch.float64)
        rgb[0, :2, 0, 1] = 0.1
        logits = torch.tensor([[500.0, 0.0], [0.0, 500.0]], dtype=torch.float64).view(1, 2, 1, 2)
        data = {
            "logits": logits,
            "rgb": rgb,
            "labels": torch.full((1, 1, 2), 255),
            "valid": torch.ones(1, 1, 2, dtype=torch.bool),
        }
        a = math.exp(-1)
        assert float(TreeEnergyLoss(high_level=False)(**data)) == pytest.approx(2 * a / (1 + a), rel=1e-12)
        data["labels"][0, 0, 1] = 1  # a stroke's pixel is not counted, but still seen by the other
        assert float(TreeEnergyLoss(high_level=False)(**data)) == pytest.approx(2 * a / (1 + a), rel=1e-12)
        assert int(TreeEnergyLoss(high_level=False).terms(**data).count) == 1

    def test_sigma_of_the_authors(self):
        # exp(−d/0.02), d the squared distance of colours in [0, 1]: sigma_rgb 0.1, the default.
        data = make((5, 6), (5, 6), holes=False)
        theirs = data | {"rgb": data["rgb"] / math.sqrt(0.02)}
        loss = TreeEnergyLoss(high_level=False, sigma_rgb=math.sqrt(0.5))  # exp(−d)
        plain = loss.terms(**needed(theirs, loss)).mean
        assert float(TreeEnergyLoss(high_level=False)(**data)) == pytest.approx(float(plain), rel=1e-10)

    @pytest.mark.parametrize("numbers", LEVELS)
    def test_an_even_prediction_is_zero(self, numbers):
        data = make()
        data["logits"] = torch.tensor([0.3, -1.0, 2.0]).double().view(1, 3, 1, 1).expand(2, 3, 4, 6).clone().requires_grad_()
        value = TreeEnergyLoss(**SIGMAS | numbers)(**data)
        value.backward()
        assert float(value.detach()) == pytest.approx(0, abs=1e-14)
        assert torch.isfinite(data["logits"].grad).all()

    def test_regions_that_follow_the_colours_are_almost_zero(self):
        data = make((6, 6), (6, 6), holes=False)
        data["labels"][:] = 255
        data["rgb"][..., :3], data["rgb"][..., 3:] = 0.0, 1.0
        data["logits"][:] = 0
        data["logits"][:, 0, :, :3] = data["logits"][:, 1, :, 3:] = 1e3
        assert terms(data, high_level=False, sigma_rgb=0.1)[0] < 1e-20
        data["rgb"][:] = 0.5  # one region of one colour and a border through its middle: every pixel is 1 off
        assert terms(data, high_level=False, sigma_rgb=0.1) == (pytest.approx(2 * 36), 2 * 36)

    def test_features_that_differ_keep_what_colours_would_mix(self):
        data = make((6, 6), (6, 6), holes=False)
        data["rgb"][:] = 0.5
        data["logits"][:] = 0
        data["logits"][:, 0, :, :3] = data["logits"][:, 1, :, 3:] = 1e3
        halves = torch.zeros_like(data["features"])
        halves[:, 0, :, :3] = halves[:, 1, :, 3:] = 1
        alike = torch.zeros_like(halves)
        alike[:, 0] = 1
        # The low tree mixes the halves, and no second tree can part them; it is the same target with either features …
        assert terms(data | {"features": halves})[0] == pytest.approx(terms(data | {"features": alike})[0])
        # … but a target from the features' tree alone is not.
        loss = TreeEnergyLoss(**SIGMAS | {"sigma_rgb": 1e-3})
        data["rgb"] = torch.rand(data["rgb"].shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        assert float(loss(**data | {"features": halves})) < 0.5 * float(loss(**data | {"features": alike}))


class TestNothingToCount:
    @pytest.mark.parametrize("numbers", LEVELS)
    @pytest.mark.parametrize("scales", [(1,), (1, 2)])
    @pytest.mark.parametrize("kind", ["all labelled", "all padded"])
    def test_is_zero_with_a_zero_gradient(self, kind, scales, numbers):
        data = make()
        if kind == "all labelled":
            data["labels"][:] = 1
        else:
            data["valid"][:] = False
        data["logits"].requires_grad_()
        loss = TreeEnergyLoss(**SIGMAS | numbers, scales=scales)
        value = loss(**data)
        value.backward()
        assert float(value.detach()) == 0
        assert torch.equal(data["logits"].grad, torch.zeros_like(data["logits"]))
        assert int(loss.terms(**needed(data, loss)).count) == 0

    def test_a_wholly_padded_image_changes_nothing(self):
        data = make()
        data["valid"][1] = False
        alone = {key: value[:1] for key, value in data.items()}
        assert terms(data) == pytest.approx(terms(alone), rel=1e-12)

    def test_nan_in_the_padding_stays_there(self):
        data = make((5, 6), (5, 6))
        expected = terms(data)
        out = ~data["valid"].unsqueeze(1)
        data["rgb"] = data["rgb"].masked_fill(out, math.nan)
        data["features"] = data["features"].masked_fill(out, math.nan)
        assert terms(data) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("numbers", LEVELS)
class TestInvariance:
    def test_renumbering_classes(self, numbers):
        data = make()
        assert terms(renumber(data, [2, 0, 1]), **numbers) == pytest.approx(terms(data, **numbers), rel=1e-12)

    def test_which_class_is_drawn_does_not_matter(self, numbers):
        data = make((5, 6), (5, 6))
        assert (data["labels"] == 2).any()
        other = data | {"labels": torch.where(data["labels"] == 255, 255, 0)}
        assert terms(other, **numbers) == terms(data, **numbers)

    @pytest.mark.parametrize("axes", [(-1,), (-2,), (-1, -2)])
    def test_flips(self, numbers, axes):
        data = make()
        flipped = {key: value.flip(axes) for key, value in data.items()}
        assert terms(flipped, **numbers) == pytest.approx(terms(data, **numbers), rel=1e-10)

    def test_turning(self, numbers):
        data = make((6, 6), (6, 6))
        turned = {key: value.transpose(-1, -2) for key, value in data.items()}
        assert terms(turned, **numbers) == pytest.approx(terms(data, **numbers), rel=1e-10)

    def test_order_of_the_batch(self, numbers):
        data = make(num_images=3)
        other = {key: value[[2, 0, 1]] for key, value in data.items()}
        assert terms(other, **numbers) == pytest.approx(terms(data, **numbers), rel=1e-12)

    def test_padding(self, numbers):
        data = make()
        assert terms(pad_maps(data), **numbers) == pytest.approx(terms(data, **numbers), rel=1e-12)

    def test_terms_of_halves_add_up(self, numbers):
        data = make(num_images=4)
        numbers = numbers | {"scales": (1, 2)}
        halves = [terms({key: value[part] for key, value in data.items()}, **numbers) for part in (slice(0, 1), slice(1, 4))]
        assert tuple(map(sum, zip(*halves, strict=True))) == pytest.approx(terms(data, **numbers), rel=1e-12)

    def test_the_count_does_not_depend_on_the_prediction(self, numbers):
        data = make()
        other = data | {"logits": 7 * data["logits"].flip(1)}
        assert terms(other, **numbers)[1] == terms(data, **numbers)[1]
        assert terms(other, **numbers)[0] != terms(data, **numbers)[0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_and_features_give_float32(dtype):
    data = {key: x.float() if x.is_floating_point() else x for key, x in make().items()}
    data |= {"logits": data["logits"].to(dtype).requires_grad_(), "features": F.normalize(data["features"], dim=1).to(dtype)}
    loss = TreeEnergyLoss(**SIGMAS, scales=(1, 2))
    value = loss(**data)
    value.backward()
    assert value.dtype == torch.float32
    assert data["logits"].grad.dtype == dtype
    wide = {key: x.detach().double() if x.is_floating_point() else x for key, x in data.items()}
    assert float(value.detach()) == pytest.approx(float(loss(**wide)), rel=1e-5)


class TestInARun:
    def test_features_are_needed_only_by_the_high_tree(self):
        assert "features" in TreeEnergyLoss().needs
        assert TreeEnergyLoss(high_level=False).needs == {"labels", "rgb", "valid"}
        assert "features" in TreeEnergyLoss.needs
        data = make()
        with pytest.raises(TypeError, match="needs features"):
            TreeEnergyLoss()(**{key: value for key, value in data.items() if key != "features"})

    def test_numbers_are_checked(self):
        loss = build_loss("tree_energy", {"scales": [1, 4], "high_level": False, "sigma_rgb": 0.0316})
        assert isinstance(loss, TreeEnergyLoss)
        assert (loss.scales, loss.high_level, loss.sigma_rgb, loss.detach_target) == ((1, 4), False, 0.0316, False)
        for wrong in ({"scales": []}, {"scales": [0]}, {"sigma_rgb": 0}, {"sigma_feature": -1}, {"sigma": 0.02}):
            with pytest.raises(ConfigError, match=next(iter(wrong))):
                build_loss("tree_energy", wrong)

    def test_written_out_numbers_are_the_same_loss(self):
        numbers = complete({"tree_energy": LossTerm(weight=0.4)})["tree_energy"].numbers()
        again = build_loss("tree_energy", numbers)
        data = make()
        assert float(again(**data)) == float(TreeEnergyLoss()(**data))
