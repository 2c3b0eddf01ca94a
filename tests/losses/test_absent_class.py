from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from scribbleseg.losses import AbsentClassLoss
from tests.fake.maps import GRIDS, make_maps, pad_maps, renumber
from tests.reference import absent_class as truth


def make(*args: Any, **how: Any) -> dict[str, Tensor]:
    """Maps whose images lack a class each: the first the last class, the second the first one."""
    maps = make_maps(*args, **how)
    num_images, num_classes = maps["logits"].shape[:2]
    drawn = torch.zeros(num_images, 255, dtype=torch.bool)
    drawn[:, :num_classes] = True
    for b in range(num_images):
        drawn[b, (num_classes - 1 - b) % num_classes] = False
    return {key: maps[key] for key in ("logits", "labels", "valid")} | {"drawn": drawn}


def terms(data: dict[str, Tensor]) -> tuple[float, int]:
    result = AbsentClassLoss().terms(**{key: data[key] for key in ("logits", "labels", "valid", "drawn")})
    return float(result.sum.detach()), int(result.count)


@pytest.mark.parametrize("num_classes", [2, 3, 5])
@pytest.mark.parametrize(("size", "grid"), GRIDS)
def test_equals_the_loops(size, grid, num_classes):
    data = make(size, grid, num_classes=num_classes)
    expected, count = truth.terms(**data)
    total, counted = terms(data)
    assert count == counted > 0
    assert total == pytest.approx(expected, rel=1e-10)
    assert float(AbsentClassLoss()(**data)) == pytest.approx(expected / count, rel=1e-10)


def test_gradcheck():
    data = make((4, 6), (4, 3))
    loss = AbsentClassLoss()
    assert torch.autograd.gradcheck(lambda x: loss(**data | {"logits": x}), data["logits"].requires_grad_())


class TestKnownValues:
    def test_all_classes_drawn_is_zero_with_a_zero_gradient(self):
        data = make()
        data["drawn"][:, :3] = True
        data["logits"].requires_grad_()
        loss = AbsentClassLoss()(**data)
        loss.backward()
        assert float(loss.detach()) == pytest.approx(0, abs=1e-12)
        assert float(data["logits"].grad.abs().max()) < 1e-12

    def test_one_class_drawn_is_cross_entropy_of_the_unlabelled_pixels(self):
        data = make((4, 6), (4, 6), num_images=1, holes=False)
        data["drawn"][:] = False
        data["drawn"][0, 1] = True
        asked = data["labels"] == 255
        expected = -data["logits"].log_softmax(1)[:, 1][asked].mean()
        assert float(AbsentClassLoss()(**data)) == pytest.approx(float(expected), rel=1e-12)

    def test_undecided_between_four_classes_of_which_two_are_drawn_is_ln_2(self):
        data = make(num_classes=4, num_images=1)
        data["drawn"][:] = False
        data["drawn"][0, [0, 3]] = True
        assert float(AbsentClassLoss()(**data | {"logits": 0 * data["logits"]})) == pytest.approx(math.log(2), rel=1e-12)


class TestWhatCounts:
    def test_an_image_without_a_stroke_is_left_out(self):
        data = make()
        data["drawn"][0] = False
        logits = data["logits"].requires_grad_()
        AbsentClassLoss()(**data).backward()
        assert torch.equal(logits.grad[0], torch.zeros_like(logits.grad[0]))
        assert logits.grad[1].abs().max() > 0

    def test_no_stroke_anywhere_is_zero_with_a_zero_gradient(self):
        data = make()
        data["drawn"][:] = False
        data["logits"].requires_grad_()
        loss = AbsentClassLoss()(**data)
        loss.backward()
        assert float(loss.detach()) == 0
        assert torch.equal(data["logits"].grad, torch.zeros_like(data["logits"]))

    def test_labelled_pixels_and_padding_get_no_gradient(self):
        data = make((4, 6), (4, 6))
        logits = data["logits"].requires_grad_()
        AbsentClassLoss()(**data).backward()
        assert torch.equal(logits.grad.abs().sum(1) > 0, (data["labels"] == 255) & data["valid"])

    def test_the_gradient_moves_scores_from_absent_to_drawn_classes(self):
        data = make((4, 6), (4, 6), num_images=1, holes=False)
        logits = data["logits"].requires_grad_()
        AbsentClassLoss()(**data).backward()
        asked = data["labels"][0] == 255
        assert (logits.grad[0, 2][asked] > 0).all(), "the class that nobody drew"
        assert (logits.grad[0, :2][:, asked] < 0).all()


class TestInvariance:
    def test_renumbering_classes(self):
        data = make()
        order = [2, 0, 1]
        new = renumber(data, order)
        new["drawn"] = torch.cat([data["drawn"][:, order], data["drawn"][:, 3:]], 1)
        assert terms(new) == pytest.approx(terms(data), rel=1e-12)

    @pytest.mark.parametrize("axes", [(-1,), (-2,), (-1, -2)])
    def test_flips(self, axes):
        data = make()
        flipped = {key: value if key == "drawn" else value.flip(axes) for key, value in data.items()}
        assert terms(flipped) == pytest.approx(terms(data), rel=1e-12)

    def test_order_of_the_batch(self):
        data = make(num_images=3)
        assert terms({key: value[[2, 0, 1]] for key, value in data.items()}) == pytest.approx(terms(data), rel=1e-12)

    def test_padding(self):
        maps, data = make_maps(), make()
        assert terms(pad_maps(maps) | {"drawn": data["drawn"]}) == pytest.approx(terms(data), rel=1e-12)

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
    loss = AbsentClassLoss()(**data | {"logits": logits})
    loss.backward()
    assert loss.dtype == torch.float32
    assert logits.grad.dtype == dtype
    same = AbsentClassLoss()(**data | {"logits": logits.detach().double()})
    assert float(loss.detach()) == pytest.approx(float(same), rel=1e-5)


@pytest.mark.parametrize("size", [1e4, 1e30])
def test_scores_of_any_size_stay_finite(size):
    data = make()
    logits = (data["logits"] * size).float().requires_grad_()
    loss = AbsentClassLoss()(**data | {"logits": logits})
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()
