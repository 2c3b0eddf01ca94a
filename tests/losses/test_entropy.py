from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from scribbleseg.losses import EntropyLoss
from tests.fake.maps import GRIDS, make_maps, pad_maps, renumber
from tests.reference import entropy as truth

both = pytest.mark.parametrize("pixels", ["unlabelled", "valid"])


def make(*args: Any, **how: Any) -> dict[str, Tensor]:
    maps = make_maps(*args, **how)
    return {key: maps[key] for key in ("logits", "labels", "valid")}


def terms(data: dict[str, Tensor], pixels: str = "unlabelled") -> tuple[float, int]:
    data = {key: data[key] for key in ("logits", "labels", "valid")}
    result = EntropyLoss(pixels=pixels).terms(**data)
    return float(result.sum.detach()), int(result.count)


@both
@pytest.mark.parametrize("num_classes", [1, 2, 3])
@pytest.mark.parametrize(("size", "grid"), GRIDS)
def test_equals_the_loops(pixels, size, grid, num_classes):
    data = make(size, grid, num_classes=num_classes)
    expected, count = truth.terms(**data, pixels=pixels)
    total, counted = terms(data, pixels)
    assert count == counted > 0
    assert total == pytest.approx(expected, rel=1e-10)
    assert float(EntropyLoss(pixels=pixels)(**data)) == pytest.approx(expected / count, rel=1e-10)


@both
def test_gradcheck(pixels):
    data = make((4, 6), (4, 3))
    loss = EntropyLoss(pixels=pixels)
    assert torch.autograd.gradcheck(lambda x: loss(**data | {"logits": x}), data["logits"].requires_grad_())


class TestKnownValues:
    def test_undecided_is_one_and_certain_is_zero(self):
        data = make()
        assert float(EntropyLoss()(**data | {"logits": 0 * data["logits"]})) == pytest.approx(1, rel=1e-12)
        certain = torch.zeros_like(data["logits"])
        certain[:, 1] = 1e4
        assert terms(data | {"logits": certain})[0] == 0

    def test_two_of_four_classes_undecided_is_one_half(self):
        logits = torch.full((1, 4, 2, 2), -1e3, dtype=torch.float64)
        logits[:, :2] = 0
        data = {"logits": logits, "labels": torch.full((1, 2, 2), 255), "valid": torch.ones(1, 2, 2, dtype=torch.bool)}
        assert terms(data) == (pytest.approx(4 * 0.5, rel=1e-12), 4)

    def test_one_class_is_zero_with_a_zero_gradient(self):
        data = make(num_classes=1)
        data["logits"].requires_grad_()
        loss = EntropyLoss()(**data)
        loss.backward()
        assert float(loss.detach()) == 0
        assert torch.equal(data["logits"].grad, torch.zeros_like(data["logits"]))


@both
def test_nothing_valid_is_zero_with_a_zero_gradient(pixels):
    data = make()
    data["valid"][:] = False
    data["logits"].requires_grad_()
    loss = EntropyLoss(pixels=pixels)(**data)
    loss.backward()
    assert float(loss.detach()) == 0
    assert torch.equal(data["logits"].grad, torch.zeros_like(data["logits"]))


class TestPixels:
    def test_labelled_pixels_get_no_gradient_unless_asked(self):
        data = make((4, 6), (4, 6), holes=False)
        drawn = data["labels"] != 255
        for pixels, expected in (("unlabelled", ~drawn), ("valid", torch.ones_like(drawn))):
            logits = data["logits"].clone().requires_grad_()
            EntropyLoss(pixels=pixels)(**data | {"logits": logits}).backward()
            assert torch.equal(logits.grad.abs().sum(1) > 0, expected)
        assert drawn.any()

    def test_labels_are_needed_only_for_unlabelled(self):
        data = make()
        assert EntropyLoss(pixels="valid").needs == {"valid"}
        assert float(EntropyLoss(pixels="valid")(data["logits"], valid=data["valid"])) > 0
        with pytest.raises(TypeError, match="needs labels"):
            EntropyLoss()(data["logits"], valid=data["valid"])
        assert EntropyLoss.needs == {"labels", "valid"}, "an instance must not change the class"


class TestInvariance:
    def test_renumbering_classes(self):
        data = make()
        assert terms(renumber(data, [2, 0, 1])) == pytest.approx(terms(data), rel=1e-12)

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

    def test_shift_of_all_scores(self):
        data = make()
        assert terms(data | {"logits": data["logits"] + 7.5}) == pytest.approx(terms(data), rel=1e-10)


def test_terms_of_halves_add_up():
    data = make(num_images=4)
    halves = [terms({key: value[part] for key, value in data.items()}) for part in (slice(0, 1), slice(1, 4))]
    assert tuple(map(sum, zip(*halves, strict=True))) == pytest.approx(terms(data), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_half_precision_logits_give_float32(dtype):
    data = make()
    logits = data["logits"].to(dtype).requires_grad_()
    loss = EntropyLoss()(**data | {"logits": logits})
    loss.backward()
    assert loss.dtype == torch.float32
    assert logits.grad.dtype == dtype
    same = EntropyLoss()(**data | {"logits": logits.detach().double()})
    assert float(loss.detach()) == pytest.approx(float(same), rel=1e-5)


@pytest.mark.parametrize("size", [1e4, 1e30])
def test_scores_of_any_size_stay_finite(size):
    data = make()
    logits = (data["logits"] * size).float().requires_grad_()
    loss = EntropyLoss()(**data | {"logits": logits})
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_agrees_with_the_form_of_wsl4mis():
    # All pixels, and 1e-6 inside their logarithm.
    data = make(holes=False)
    p = data["logits"].softmax(1)
    theirs = (-(p * (p + 1e-6).log()).sum(1) / math.log(3)).mean()
    assert float(EntropyLoss(pixels="valid")(**data)) == pytest.approx(float(theirs), rel=1e-4)
