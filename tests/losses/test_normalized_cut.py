from __future__ import annotations

import pytest
import torch

from scribbleseg.losses import NormalizedCutLoss
from scribbleseg.losses.objective import build_loss
from tests.losses.test_dense_crf import GRIDS, NUMBERS, STATIC, at_cells, inputs, make, terms
from tests.reference import dense as truth

# What the two losses on the dense kernel have in common is tested with both in test_dense_crf.py.


@pytest.mark.parametrize("smallest", [0.0, 1e-3, 0.2])
@pytest.mark.parametrize(("size", "grid"), GRIDS)
@pytest.mark.parametrize("numbers", NUMBERS)
def test_equals_the_loops(numbers, size, grid, smallest):
    data = make(size, grid)
    expected, count = truth.normalized_cut(*at_cells(data, numbers), smallest)
    numbers = numbers | {"smallest": smallest}
    total, counted = terms(NormalizedCutLoss, data, **numbers)
    assert count == counted == 2
    close = 1e-10 if numbers.get("method") == "exact" else 1e-3
    assert total == pytest.approx(expected, rel=close)
    loss = NormalizedCutLoss(**numbers)
    assert float(loss(**inputs(loss, data))) == pytest.approx(expected / count, rel=close)


def test_is_the_number_of_classes_less_the_associations():
    data = make()
    probs, guide, valid = at_cells(data, STATIC)
    parts = truth.forms(probs, guide, valid)
    expected = sum(probs.shape[1] - sum(a / v for a, v in zip(*image[:2], strict=True)) for image in parts)
    assert terms(NormalizedCutLoss, data, **STATIC, smallest=0.0)[0] == pytest.approx(expected, rel=1e-10)


def test_the_analytic_gradient_of_the_papers():
    # d·(sᵀAs)/(dᵀs)² − 2As/(dᵀs), by the probabilities of one image.
    data = make((5, 6), (5, 6), num_images=1, holes=False)
    probs, guide, _ = at_cells(data, STATIC)
    kernel = torch.tensor(truth.kernel(guide[0]), dtype=torch.float64)
    s = probs.flatten(2)[0]
    filtered, degree = s @ kernel, kernel.sum(1)
    volume = (s * degree).sum(1, keepdim=True)
    by_probs = degree * (s * filtered).sum(1, keepdim=True) / volume**2 - 2 * filtered / volume
    scores = data["logits"].requires_grad_()
    expected = torch.autograd.grad(scores.softmax(1).flatten(2)[0], scores, by_probs)[0]
    loss = NormalizedCutLoss(**STATIC, smallest=0.0)
    torch.testing.assert_close(torch.autograd.grad(loss(**inputs(loss, data)), scores)[0], expected, rtol=1e-9, atol=1e-14)


class TestEmptyClasses:
    @pytest.mark.parametrize("smallest", [0.0, 1e-3])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_a_class_that_is_nowhere_counts_nothing(self, smallest, dtype):
        data = make(dtype=dtype)
        without = terms(NormalizedCutLoss, data, **STATIC, smallest=smallest)
        nowhere = torch.full_like(data["logits"][:, :1], -1e4)
        data["logits"] = torch.cat([data["logits"], nowhere], 1).requires_grad_()
        assert terms(NormalizedCutLoss, data, **STATIC, smallest=smallest) == pytest.approx(without, rel=1e-6)
        loss = NormalizedCutLoss(**STATIC, smallest=smallest)
        loss(**inputs(loss, data)).backward()
        assert torch.isfinite(data["logits"].grad).all()
        assert torch.count_nonzero(data["logits"].grad[:, -1]) == 0

    def test_a_rare_class_fades_out(self):
        data = make(num_classes=2)
        data["logits"][:, 1] = data["logits"][:, 0] - 12  # e^-12 of every pixel
        assert terms(NormalizedCutLoss, data, **STATIC, smallest=0.0)[0] == pytest.approx(2, abs=0.001)
        assert terms(NormalizedCutLoss, data, **STATIC, smallest=1e-3)[0] < 0.02


def test_a_cut_is_measured_by_the_class():
    # One of 36 pixels, in a flat picture, of its own certain class: nearly all of its ties lead out, few of the others' do.
    data = make((6, 6), (6, 6), num_images=1, num_classes=2, holes=False)
    data["rgb"][:] = 0.5
    data["logits"][:, 0], data["logits"][:, 1] = 1e3, 0
    data["logits"][:, :, 2, 3] = torch.tensor([0, 1e3], dtype=torch.float64)
    probs, guide, valid = at_cells(data, STATIC)
    ((_, volume, _),) = truth.forms(probs, guide, valid)
    expected = (volume[1] - 1) / volume[1] + (volume[1] - 1) / volume[0]
    value = terms(NormalizedCutLoss, data, **STATIC, smallest=0.0)[0]
    assert value == pytest.approx(expected, rel=1e-10)
    assert value > 0.9


def test_it_can_be_switched_on_by_name():
    loss = build_loss("normalized_cut", {"smallest": 0.01})
    assert isinstance(loss, NormalizedCutLoss)
    assert loss.smallest == 0.01
