from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from scribbleseg.losses import PartialDiceLoss
from tests.fake.maps import GRIDS, make_maps, renumber
from tests.reference import partial_dice as truth

DEFAULTS: dict[str, Any] = {"squared": False, "smooth": 1e-5, "include_background": True, "per_image": False}
FORMS = [
    pytest.param({}, id="defaults"),
    pytest.param({"squared": True}, id="squared"),
    pytest.param({"smooth": 0.0}, id="no smoothing"),
    pytest.param({"smooth": 1.5}, id="smooth"),
    pytest.param({"include_background": False}, id="no background"),
    pytest.param({"per_image": True}, id="per image"),
    pytest.param({"per_image": True, "squared": True, "include_background": False, "smooth": 0.3}, id="all"),
]


def make(size=(8, 12), grid=(4, 6), **how: Any) -> tuple[Tensor, Tensor]:
    maps = make_maps(size, grid, **how)
    return maps["logits"], maps["labels"]


def terms(logits: Tensor, labels: Tensor, **form: Any) -> tuple[float, int]:
    result = PartialDiceLoss(**form).terms(logits, labels=labels)
    return float(result.sum), int(result.count)


@pytest.mark.parametrize(("size", "grid"), GRIDS)
@pytest.mark.parametrize("form", FORMS)
def test_equals_the_loops(form, size, grid):
    logits, labels = make(size, grid, share=0.3)
    expected, count = truth.terms(logits, labels, **DEFAULTS | form)
    total, counted = terms(logits, labels, **form)
    assert count == counted > 0
    assert total == pytest.approx(expected, rel=1e-10)
    assert float(PartialDiceLoss(**form)(logits, labels=labels)) == pytest.approx(expected / count, rel=1e-10)


@pytest.mark.parametrize("form", FORMS)
def test_gradcheck(form):
    logits, labels = make((6, 8), (3, 4), share=0.3)
    loss = PartialDiceLoss(**form)
    assert torch.autograd.gradcheck(lambda x: loss(x, labels=labels), logits.requires_grad_())


class TestKnownValues:
    def test_two_pixels_by_hand(self):
        # Class 0: p 0.8 and 0.4, drawn on the first: 2·0.8/(1.2 + 1). Class 1: p 0.2 and 0.6, on the second: 1.2/(0.8 + 1).
        logits = torch.tensor([[0.8, 0.4], [0.2, 0.6]], dtype=torch.float64).log().view(1, 2, 1, 2)
        labels = torch.tensor([[[0, 1]]])
        dice = [1.6 / 2.2, 1.2 / 1.8]
        assert terms(logits, labels, smooth=0.0)[0] == pytest.approx(2 - sum(dice), rel=1e-12)
        squared = [1.6 / (0.64 + 0.16 + 1), 1.2 / (0.04 + 0.36 + 1)]
        assert terms(logits, labels, smooth=0.0, squared=True)[0] == pytest.approx(2 - sum(squared), rel=1e-12)
        assert terms(logits, labels, smooth=0.0, include_background=False) == (pytest.approx(1 - dice[1], rel=1e-12), 1)

    @pytest.mark.parametrize("form", FORMS)
    def test_perfect_certain_prediction_is_zero(self, form):
        _, labels = make((8, 12), (8, 12))
        logits = 1e3 * F.one_hot(labels.clamp(max=2), 3).movedim(-1, 1).double()
        assert terms(logits, labels, **form)[0] == 0

    def test_wrong_everywhere_is_one(self):
        _, labels = make((8, 12), (8, 12))
        logits = 1e3 * F.one_hot((labels + 1) % 3, 3).movedim(-1, 1).double()
        total, count = terms(logits, labels, smooth=0.0)
        assert total == count == 3


class TestAbsentClasses:
    def test_a_class_nobody_drew_is_left_out(self):
        logits, labels = make()
        labels[labels == 1] = 255
        assert terms(logits, labels)[1] == 2
        assert terms(logits, labels, include_background=False)[1] == 1

    def test_each_image_has_its_own_absent_classes(self):
        logits, labels = make(num_images=3)
        labels[0][labels[0] == 1] = 255
        labels[2] = 255
        assert terms(logits, labels, per_image=True)[1] == 2 + 3
        assert terms(logits, labels)[1] == 3

    def test_predicting_an_absent_class_still_costs_the_present_ones(self):
        # Its probability is missing elsewhere: it need not enter a fraction of its own.
        _, labels = make((8, 12), (8, 12))
        labels[labels == 2] = 255
        right = 5.0 * F.one_hot(labels.clamp(max=2), 3).movedim(-1, 1).double()
        wrong = right.clone()
        wrong[:, 2] += 4.0
        assert terms(wrong, labels)[0] > terms(right, labels)[0] + 0.05

    @pytest.mark.parametrize("form", FORMS)
    def test_nothing_labelled_is_zero_with_a_zero_gradient(self, form):
        logits, labels = make()
        logits.requires_grad_()
        loss = PartialDiceLoss(**form)(logits, labels=torch.full_like(labels, 255))
        loss.backward()
        assert float(loss.detach()) == 0
        assert torch.equal(logits.grad, torch.zeros_like(logits))

    @pytest.mark.parametrize("per_image", [False, True])
    def test_background_alone_without_background_is_zero_with_a_zero_gradient(self, per_image):
        logits, labels = make()
        labels[labels != 255] = 0
        logits.requires_grad_()
        loss = PartialDiceLoss(include_background=False, smooth=0.0, per_image=per_image)(logits, labels=labels)
        loss.backward()
        assert float(loss.detach()) == 0
        assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_unlabelled_pixels_get_no_gradient():
    logits, labels = make((8, 12), (8, 12))
    logits.requires_grad_()
    PartialDiceLoss()(logits, labels=labels).backward()
    assert torch.equal(logits.grad.abs().sum(1) > 0, labels != 255)


class TestInvariance:
    def test_renumbering_classes(self):
        maps = make_maps()
        other = renumber(maps, [2, 0, 1])
        assert terms(other["logits"], other["labels"]) == pytest.approx(terms(maps["logits"], maps["labels"]), rel=1e-12)

    @pytest.mark.parametrize("axes", [(-1,), (-2,), (-1, -2)])
    def test_flips(self, axes):
        logits, labels = make()
        assert terms(logits.flip(axes), labels.flip(axes)) == pytest.approx(terms(logits, labels), rel=1e-12)

    @pytest.mark.parametrize("per_image", [False, True])
    def test_order_of_the_batch(self, per_image):
        logits, labels = make(num_images=3)
        again = terms(logits[[2, 0, 1]], labels[[2, 0, 1]], per_image=per_image)
        assert again == pytest.approx(terms(logits, labels, per_image=per_image), rel=1e-12)

    def test_unlabelled_padding(self):
        logits, labels = make((8, 12), (8, 12))
        larger = F.pad(logits, (0, 3, 0, 2), value=5.0), F.pad(labels, (0, 3, 0, 2), value=255)
        assert terms(*larger) == pytest.approx(terms(logits, labels), rel=1e-12)


class TestSplitting:
    def test_per_image_halves_add_up(self):
        logits, labels = make(num_images=4)
        labels[0] = 255
        halves = [terms(logits[part], labels[part], per_image=True) for part in (slice(0, 1), slice(1, 4))]
        whole = terms(logits, labels, per_image=True)
        assert tuple(map(sum, zip(*halves, strict=True))) == pytest.approx(whole, rel=1e-12)

    def test_pooled_halves_are_the_mean_of_the_halves(self):
        # Not the Dice of one pool: what is promised is that both are means of Dice losses, so they stay of one size.
        logits, labels = make(num_images=4, share=0.3)
        halves = [terms(logits[part], labels[part]) for part in (slice(0, 2), slice(2, 4))]
        means = [total / count for total, count in halves]
        total, count = map(sum, zip(*halves, strict=True))
        assert count == 6
        assert min(means) <= total / count <= max(means)
        assert total / count != pytest.approx(terms(logits, labels)[0] / 3, rel=1e-6)

    def test_the_count_does_not_depend_on_the_prediction(self):
        logits, labels = make()
        assert terms(logits, labels)[1] == terms(-1e3 * logits, labels)[1]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_half_precision_logits_give_float32(dtype):
    logits, labels = make()
    logits = logits.to(dtype).requires_grad_()
    loss = PartialDiceLoss()(logits, labels=labels)
    loss.backward()
    assert loss.dtype == torch.float32
    assert logits.grad.dtype == dtype
    same = PartialDiceLoss()(logits.detach().double(), labels=labels)
    assert float(loss.detach()) == pytest.approx(float(same), rel=1e-5)


def test_scores_of_any_size_stay_finite():
    logits, labels = make()
    logits = (logits * 1e4).float().requires_grad_()
    loss = PartialDiceLoss(smooth=0.0, squared=True)(logits, labels=labels)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_labels_are_left_alone():
    logits, labels = make()
    before = labels.clone()
    PartialDiceLoss()(logits, labels=labels)
    assert torch.equal(labels, before)
