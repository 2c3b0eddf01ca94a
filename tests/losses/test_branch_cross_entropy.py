"""All that is its own is which scores it takes: the sum itself is that of partial cross-entropy."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from scribbleseg.losses import BranchCrossEntropyLoss
from tests.reference import losses as truth


def make(size=(8, 8), grid=(4, 4), num_images=2, num_classes=3) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(7)
    logits, branch = (torch.randn(num_images, num_classes, *grid, generator=rng, dtype=torch.float64) for _ in range(2))
    labels = torch.randint(0, num_classes, (num_images, *size), generator=rng)
    labels[torch.rand(num_images, *size, generator=rng) > 0.3] = 255
    return logits, branch, labels


def terms(logits: Tensor, branch: Tensor, labels: Tensor) -> tuple[float, int]:
    result = BranchCrossEntropyLoss().terms(logits, labels=labels, branch_logits=branch)
    return float(result.sum), int(result.count)


@pytest.mark.parametrize(("size", "grid"), [((8, 8), (8, 8)), ((8, 8), (4, 4)), ((7, 9), (4, 5))])
def test_equals_the_loops(size, grid):
    logits, branch, labels = make(size, grid)
    expected, count = truth.partial_cross_entropy(branch, labels)
    assert count > 5
    assert terms(logits, branch, labels) == pytest.approx((expected, count), rel=1e-10)
    assert float(BranchCrossEntropyLoss()(logits, labels=labels, branch_logits=branch)) == pytest.approx(expected / count)


def test_gradcheck():
    logits, branch, labels = make(num_images=1)
    loss = BranchCrossEntropyLoss()
    assert torch.autograd.gradcheck(lambda x: loss(logits, labels=labels, branch_logits=x), branch.requires_grad_())


def test_the_first_branch_is_left_alone():
    logits, branch, labels = make()
    assert terms(logits, branch, labels) == terms(3 * logits + 1, branch, labels)
    logits.requires_grad_()
    branch.requires_grad_()
    BranchCrossEntropyLoss()(logits, labels=labels, branch_logits=branch).backward()
    assert logits.grad is None
    assert bool((branch.grad != 0).any())


def test_nothing_labelled_is_zero_with_a_zero_gradient():
    logits, branch, labels = make()
    branch.requires_grad_()
    loss = BranchCrossEntropyLoss()(logits, labels=torch.full_like(labels, 255), branch_logits=branch)
    loss.backward()
    assert float(loss.detach()) == 0
    assert torch.equal(branch.grad, torch.zeros_like(branch))


def test_renumbering_flips_and_order():
    logits, branch, labels = make((8, 12), (4, 3))
    order = torch.tensor([2, 0, 1])
    renumbered = torch.cat([torch.argsort(order), torch.full((253,), 255)])[labels]
    expected = pytest.approx(terms(logits, branch, labels), rel=1e-12)
    assert terms(logits, branch[:, order], renumbered) == expected
    assert terms(logits, branch.flip(-1), labels.flip(-1)) == expected
    assert terms(logits, branch[[1, 0]], labels[[1, 0]]) == expected
