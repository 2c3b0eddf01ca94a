from __future__ import annotations

import pytest
import torch
from torch import Tensor

from scribbleseg.losses import PartialCrossEntropyLoss
from tests.reference import losses as truth

GRIDS = [
    pytest.param((8, 8), (8, 8), id="full size"),
    pytest.param((8, 8), (4, 4), id="stride 2"),
    pytest.param((8, 8), (2, 2), id="stride 4"),
    pytest.param((7, 9), (4, 5), id="odd"),
]


def make(size=(8, 8), grid=(4, 4), num_images=2, num_classes=3, share=0.3) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(11)
    logits = 2 * torch.randn(num_images, num_classes, *grid, generator=rng, dtype=torch.float64)
    labels = torch.randint(0, num_classes, (num_images, *size), generator=rng)
    labels[torch.rand(num_images, *size, generator=rng) > share] = 255
    return logits, labels


def terms(logits: Tensor, labels: Tensor) -> tuple[float, int]:
    result = PartialCrossEntropyLoss().terms(logits, labels=labels)
    return float(result.sum), int(result.count)


@pytest.mark.parametrize(("size", "grid"), GRIDS)
def test_equals_the_loops(size, grid):
    logits, labels = make(size, grid)
    expected, count = truth.partial_cross_entropy(logits, labels)
    total, counted = terms(logits, labels)
    assert count == counted > 5
    assert total == pytest.approx(expected, rel=1e-10)
    assert float(PartialCrossEntropyLoss()(logits, labels=labels)) == pytest.approx(expected / count, rel=1e-10)


def test_dense_labels_give_ordinary_cross_entropy():
    logits, labels = make((6, 6), (6, 6), share=1.1)
    expected = torch.nn.functional.cross_entropy(logits, labels)
    torch.testing.assert_close(PartialCrossEntropyLoss()(logits, labels=labels), expected)


@pytest.mark.parametrize(("size", "grid"), GRIDS)
def test_gradcheck(size, grid):
    logits, labels = make(size, grid, num_images=1)
    loss = PartialCrossEntropyLoss()
    assert torch.autograd.gradcheck(lambda x: loss(x, labels=labels), logits.requires_grad_())


@pytest.mark.parametrize("grid", [(8, 8), (4, 4)])
def test_nothing_labelled_is_zero_with_a_zero_gradient(grid):
    logits, labels = make(grid=grid)
    logits.requires_grad_()
    loss = PartialCrossEntropyLoss()(logits, labels=torch.full_like(labels, 255))
    loss.backward()
    assert float(loss.detach()) == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_unlabelled_pixels_get_no_gradient():
    logits, labels = make((8, 8), (8, 8))
    logits.requires_grad_()
    PartialCrossEntropyLoss()(logits, labels=labels).backward()
    assert torch.equal(logits.grad.abs().sum(1) > 0, labels != 255)


def test_perfect_certain_prediction_is_zero():
    _, labels = make((8, 8), (8, 8))
    logits = 1e3 * torch.nn.functional.one_hot(labels.clamp(max=2), 3).movedim(-1, 1).double()
    assert terms(logits, labels)[0] == 0


class TestInvariance:
    def test_renumbering_classes(self):
        logits, labels = make()
        order = torch.tensor([2, 0, 1])  # new class k is old class order[k]
        renumbered = torch.cat([torch.argsort(order), torch.full((253,), 255)])[labels]
        assert terms(logits[:, order], renumbered) == pytest.approx(terms(logits, labels), rel=1e-12)

    @pytest.mark.parametrize("axes", [(-1,), (-2,), (-1, -2)])
    def test_flips(self, axes):
        logits, labels = make((8, 12), (4, 3))
        assert terms(logits.flip(axes), labels.flip(axes)) == pytest.approx(terms(logits, labels), rel=1e-12)

    def test_order_of_the_batch(self):
        logits, labels = make(num_images=3)
        assert terms(logits[[2, 0, 1]], labels[[2, 0, 1]]) == pytest.approx(terms(logits, labels), rel=1e-12)

    def test_unlabelled_padding(self):
        logits, labels = make((8, 8), (8, 8))
        padded = torch.nn.functional.pad(labels, (0, 3, 0, 2), value=255)
        larger = torch.nn.functional.pad(logits, (0, 3, 0, 2), value=5.0)
        assert terms(larger, padded) == pytest.approx(terms(logits, labels), rel=1e-12)

    def test_shift_of_all_scores(self):
        logits, labels = make()
        assert terms(logits + 7.5, labels) == pytest.approx(terms(logits, labels), rel=1e-10)


def test_terms_of_halves_add_up():
    logits, labels = make(num_images=4)
    labels[0] = 255  # counts as uneven as scribbles make them
    halves = [terms(logits[:1], labels[:1]), terms(logits[1:], labels[1:])]
    assert tuple(map(sum, zip(*halves, strict=True))) == pytest.approx(terms(logits, labels), rel=1e-12)
    assert halves[0] == (0, 0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_half_precision_logits_give_float32(dtype):
    logits, labels = make()
    logits = logits.to(dtype).requires_grad_()
    loss = PartialCrossEntropyLoss()(logits, labels=labels)
    loss.backward()
    assert loss.dtype == torch.float32
    assert logits.grad.dtype == dtype
    same = PartialCrossEntropyLoss()(logits.detach().double(), labels=labels)
    assert float(loss.detach()) == pytest.approx(float(same), rel=1e-5)


def test_scores_of_any_size_stay_finite():
    logits, labels = make((8, 8), (8, 8))
    logits = (logits * 1e4).float().requires_grad_()
    loss = PartialCrossEntropyLoss()(logits, labels=labels)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()
