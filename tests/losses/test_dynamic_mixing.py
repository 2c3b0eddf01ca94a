from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from scribbleseg.losses import DynamicMixingLoss
from tests.reference import pseudo_labels as truth

GRIDS = [pytest.param((8, 8), (8, 8), id="full size"), pytest.param((8, 12), (4, 3), id="strides 2 and 4")]
FORMS = pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])


def make(size=(8, 8), grid=(4, 4), num_images=2, num_classes=4) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(3)
    valid = torch.ones(num_images, *size, dtype=torch.bool)
    valid[0, -4:] = False
    logits, branch = (2 * torch.randn(num_images, num_classes, *grid, generator=rng, dtype=torch.float64) for _ in range(2))
    logits[-1, 0] -= 50  # a class that the last image lacks
    branch[-1, 0] -= 50
    return {"logits": logits, "branch_logits": branch, "valid": valid}


def terms(data: dict[str, Tensor], soft: bool, beta: float | None = 0.3) -> tuple[float, int]:
    result = DynamicMixingLoss(soft=soft, beta=beta).terms(**data)
    return float(result.sum), int(result.count)


@FORMS
@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("size", "grid"), GRIDS)
def test_equals_the_loops(size, grid, beta, soft):
    data = make(size, grid)
    expected, count = truth.dynamic_mixing(*data.values(), beta, soft)
    total, counted = terms(data, soft, beta)
    assert count == counted == (2 if not soft else 3 * grid[0] * grid[1] // 2)
    assert total == pytest.approx(expected, rel=1e-10)
    assert float(DynamicMixingLoss(soft=soft, beta=beta)(**data)) == pytest.approx(expected / count, rel=1e-10)


@FORMS
def test_gradient_is_that_of_a_fixed_label(soft):
    """The mixture gets no gradient: finite differences must hold it still while one branch moves."""
    data = make(num_images=1)
    data["logits"].requires_grad_()
    data["branch_logits"].requires_grad_()
    DynamicMixingLoss(soft=soft, beta=0.4)(**data).backward()
    p, q = (data[k].detach().softmax(1) for k in ("logits", "branch_logits"))
    mixed = 0.4 * p + 0.6 * q
    inside = torch.nn.functional.adaptive_avg_pool2d(data["valid"].double(), (4, 4)) > 0.999

    def value(logits: Tensor) -> Tensor:
        if soft:
            return -0.5 * (mixed * logits.log_softmax(1)).sum(1)[inside].mean()
        label = torch.nn.functional.one_hot(mixed.argmax(1), 4).movedim(-1, 1).double() * inside[:, None]
        probs = logits.softmax(1) * inside[:, None]
        ratios = 2 * (probs * label).sum((2, 3)) / (probs.square() + label).sum((2, 3))
        return -0.5 * ratios[label.sum((2, 3)) > 0].mean()

    for key in ("logits", "branch_logits"):
        alone = data[key].detach().clone().requires_grad_()
        assert torch.autograd.gradcheck(value, alone)
        value(alone).backward()
        torch.testing.assert_close(data[key].grad, alone.grad, rtol=1e-9, atol=1e-12)


class TestKnownValues:
    valid = torch.ones(1, 2, 2, dtype=torch.bool)
    sure = 1e3 * torch.tensor([[[[1.0, 1.0], [0.0, 0.0]], [[0.0, 0.0], [1.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]]]]).double()

    @FORMS
    def test_certain_branches_that_agree_are_zero(self, soft):
        data = {"logits": self.sure, "branch_logits": self.sure + 3, "valid": self.valid}
        assert terms(data, soft, None)[0] == 0

    def test_hard_value_of_opposite_branches(self):
        """The label is the first branch's: its distance is 0, that of a branch wrong everywhere 1."""
        data = {"logits": self.sure, "branch_logits": self.sure.flip(-2), "valid": self.valid}
        assert terms(data, soft=False, beta=0.7) == (0.5, 1)

    def test_hard_value_of_an_even_branch(self):
        """p = ⅓: each class of y has 2·(2·⅓)/(4·⅑ + 2), its distance is 1 less 6/11."""
        data = {"logits": self.sure, "branch_logits": torch.zeros_like(self.sure), "valid": self.valid}
        assert terms(data, soft=False, beta=1.0)[0] == pytest.approx(0.5 * 5 / 11, rel=1e-12)

    def test_soft_value_of_even_branches(self):
        even = torch.zeros_like(self.sure)
        data = {"logits": even, "branch_logits": even, "valid": self.valid}
        assert terms(data, soft=True) == pytest.approx((4 * math.log(3), 4), rel=1e-12)


@FORMS
def test_the_share_is_drawn_from_the_default_generator_once_a_call(soft):
    data = make()
    torch.manual_seed(11)
    beta = float(torch.rand(()))
    torch.manual_seed(11)
    drawn = terms(data, soft, None)
    assert drawn == terms(data, soft, beta)
    values = {terms(data, soft, None)[0] for _ in range(8)}
    assert len(values) > 2, "another share at another call"


@FORMS
def test_exchanging_the_branches_exchanges_their_shares(soft):
    data = make()
    swapped = data | {"logits": data["branch_logits"], "branch_logits": data["logits"]}
    assert terms(swapped, soft, 0.75) == pytest.approx(terms(data, soft, 0.25), rel=1e-12)


@FORMS
def test_nothing_valid_is_zero_with_a_zero_gradient(soft):
    data = make()
    data["valid"] = torch.zeros_like(data["valid"])
    for key in ("logits", "branch_logits"):
        data[key].requires_grad_()
    loss = DynamicMixingLoss(soft=soft)(**data)
    loss.backward()
    assert float(loss.detach()) == 0
    for key in ("logits", "branch_logits"):
        assert torch.equal(data[key].grad, torch.zeros_like(data[key]))


@FORMS
def test_count_is_no_matter_of_predictions(soft):
    data = make(num_images=3)
    data["valid"][1] = False
    other = data | {"logits": -data["logits"], "branch_logits": torch.zeros_like(data["logits"])}
    assert terms(data, soft)[1] == terms(other, soft)[1] == (24 if soft else 2)


@FORMS
class TestInvariance:
    def test_renumbering_classes(self, soft):
        data = make()
        other = data | {key: data[key][:, [3, 2, 0, 1]] for key in ("logits", "branch_logits")}
        assert terms(other, soft) == pytest.approx(terms(data, soft), rel=1e-12)

    @pytest.mark.parametrize("axes", [(-1,), (-2,), (-1, -2)])
    def test_flips(self, axes, soft):
        data = make((8, 12), (4, 3))
        assert terms({k: v.flip(axes) for k, v in data.items()}, soft) == pytest.approx(terms(data, soft), rel=1e-12)

    def test_order_of_the_batch(self, soft):
        data = make(num_images=3)
        assert terms({k: v[[2, 0, 1]] for k, v in data.items()}, soft) == pytest.approx(terms(data, soft), rel=1e-12)

    def test_padding(self, soft):
        data = make((8, 8), (8, 8))
        larger = {k: torch.nn.functional.pad(v, (0, 3, 0, 2), value=0) for k, v in data.items()}
        larger["logits"][:, 0, -2:] = 50.0
        assert terms(larger, soft) == pytest.approx(terms(data, soft), rel=1e-12)


@FORMS
def test_terms_of_halves_add_up(soft):
    data = make(num_images=4)
    halves = [terms({k: v[:1] for k, v in data.items()}, soft), terms({k: v[1:] for k, v in data.items()}, soft)]
    assert tuple(map(sum, zip(*halves, strict=True))) == pytest.approx(terms(data, soft), rel=1e-12)


@FORMS
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_half_precision_gives_float32(dtype, soft):
    data = {k: v.to(dtype) if v.is_floating_point() else v for k, v in make().items()}
    data["logits"].requires_grad_()
    loss = DynamicMixingLoss(soft=soft, beta=0.5)(**data)
    loss.backward()
    assert loss.dtype == torch.float32
    assert data["logits"].grad.dtype == dtype
    same = {k: v.detach().double() if v.is_floating_point() else v for k, v in data.items()}
    assert float(loss.detach()) == pytest.approx(terms(same, soft, 0.5)[0] / terms(same, soft, 0.5)[1], rel=1e-4)


@FORMS
def test_scores_of_any_size_stay_finite(soft):
    data = make()
    data = data | {key: (data[key] * 1e4).float().requires_grad_() for key in ("logits", "branch_logits")}
    loss = DynamicMixingLoss(soft=soft)(**data)
    loss.backward()
    assert math.isfinite(float(loss.detach()))
    assert all(torch.isfinite(data[key].grad).all() for key in ("logits", "branch_logits"))
