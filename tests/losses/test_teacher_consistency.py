from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from scribbleseg.losses import TeacherConsistencyLoss
from tests.reference import pseudo_labels as truth

GRIDS = [pytest.param((8, 8), (8, 8), id="full size"), pytest.param((8, 12), (4, 3), id="strides 2 and 4")]


def make(size=(8, 8), grid=(4, 4), num_images=2, num_classes=3) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(5)
    valid = torch.ones(num_images, *size, dtype=torch.bool)
    valid[0, -2:] = False
    return {
        "logits": 2 * torch.randn(num_images, num_classes, *grid, generator=rng, dtype=torch.float64),
        "teacher_logits": 2 * torch.randn(num_images, num_classes, *grid, generator=rng, dtype=torch.float64),
        "valid": valid,
    }


def terms(data: dict[str, Tensor], **numbers: float) -> tuple[float, int]:
    result = TeacherConsistencyLoss(**numbers).terms(**data)
    return float(result.sum), int(result.count)


@pytest.mark.parametrize("max_entropy", [1.0, 0.6])
@pytest.mark.parametrize(("size", "grid"), GRIDS)
def test_equals_the_loops(size, grid, max_entropy):
    data = make(size, grid)
    expected, count = truth.teacher_consistency(*data.values(), max_entropy)
    total, counted = terms(data, max_entropy=max_entropy)
    assert count == counted < grid[0] * grid[1] * 2
    assert total == pytest.approx(expected, rel=1e-10)
    assert float(TeacherConsistencyLoss(max_entropy=max_entropy)(**data)) == pytest.approx(expected / count, rel=1e-10)


def test_an_unsure_teacher_is_counted_and_not_believed():
    data = make()
    believed = [terms(data, max_entropy=h) for h in (0.0, 0.3, 0.6, 1.0)]
    assert [total for total, _ in believed] == sorted({total for total, _ in believed}), "more of it the more it may doubt"
    assert believed[0][0] == 0
    assert len({count for _, count in believed}) == 1, "the count is no matter of predictions"


def test_known_values():
    """Opposite certain predictions of two classes are 2/2 apart, an even one and a certain one (¼ + ¼)/2."""
    valid = torch.ones(1, 1, 1, dtype=torch.bool)
    sure, other, even = (torch.tensor(v, dtype=torch.float64).view(1, 2, 1, 1) for v in ([1e3, 0.0], [0.0, 1e3], [0.0, 0.0]))
    loss = TeacherConsistencyLoss()
    assert float(loss(sure, teacher_logits=other, valid=valid)) == 1
    assert float(loss(even, teacher_logits=sure, valid=valid)) == 0.25
    assert float(loss(sure, teacher_logits=sure + 7, valid=valid)) == 0
    assert float(TeacherConsistencyLoss(max_entropy=0.99)(sure, teacher_logits=even, valid=valid)) == 0


@pytest.mark.parametrize("max_entropy", [1.0, 0.6])
def test_gradcheck(max_entropy):
    data = make(num_images=1)
    loss = TeacherConsistencyLoss(max_entropy=max_entropy)
    logits = data.pop("logits").requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, **data), logits)


def test_the_teacher_gets_no_gradient():
    data = make()
    data["logits"].requires_grad_()
    data["teacher_logits"].requires_grad_()
    TeacherConsistencyLoss()(**data).backward()
    assert data["teacher_logits"].grad is None
    assert bool((data["logits"].grad != 0).any())


def test_a_step_down_the_gradient_moves_towards_the_teacher():
    data = make()
    data["logits"].requires_grad_()
    loss = TeacherConsistencyLoss()(**data)
    loss.backward()
    moved = data | {"logits": (data["logits"] - data["logits"].grad).detach()}
    assert float(TeacherConsistencyLoss()(**moved)) < float(loss.detach())


def test_nothing_valid_is_zero_with_a_zero_gradient():
    data = make()
    data["valid"] = torch.zeros_like(data["valid"])
    data["logits"].requires_grad_()
    loss = TeacherConsistencyLoss()(**data)
    loss.backward()
    assert float(loss.detach()) == 0
    assert torch.equal(data["logits"].grad, torch.zeros_like(data["logits"]))


class TestInvariance:
    def test_renumbering_classes(self):
        data = make()
        order = [2, 0, 1]
        other = data | {key: data[key][:, order] for key in ("logits", "teacher_logits")}
        assert terms(other) == pytest.approx(terms(data), rel=1e-12)

    @pytest.mark.parametrize("axes", [(-1,), (-2,), (-1, -2)])
    def test_flips(self, axes):
        data = make((8, 12), (4, 3))
        assert terms({k: v.flip(axes) for k, v in data.items()}) == pytest.approx(terms(data), rel=1e-12)

    def test_order_of_the_batch(self):
        data = make(num_images=3)
        assert terms({k: v[[2, 0, 1]] for k, v in data.items()}) == pytest.approx(terms(data), rel=1e-12)

    def test_padding(self):
        data = make((8, 8), (8, 8))
        larger = {k: torch.nn.functional.pad(v, (0, 3, 0, 2), value=False if k == "valid" else 5.0) for k, v in data.items()}
        larger["teacher_logits"][:, 0, -2:] = -50.0
        assert terms(larger) == pytest.approx(terms(data), rel=1e-12)


def test_terms_of_halves_add_up():
    data = make(num_images=4)
    halves = [terms({k: v[:1] for k, v in data.items()}), terms({k: v[1:] for k, v in data.items()})]
    assert tuple(map(sum, zip(*halves, strict=True))) == pytest.approx(terms(data), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_half_precision_gives_float32(dtype):
    data = {k: v.to(dtype) if v.is_floating_point() else v for k, v in make().items()}
    data["logits"].requires_grad_()
    loss = TeacherConsistencyLoss()(**data)
    loss.backward()
    assert loss.dtype == torch.float32
    assert data["logits"].grad.dtype == dtype
    same = TeacherConsistencyLoss()(**{k: v.detach().double() if v.is_floating_point() else v for k, v in data.items()})
    assert float(loss.detach()) == pytest.approx(float(same), rel=1e-5)


def test_scores_of_any_size_stay_finite():
    data = make()
    data = data | {key: (data[key] * 1e4).float() for key in ("logits", "teacher_logits")}
    data["logits"].requires_grad_()
    loss = TeacherConsistencyLoss(max_entropy=0.5)(**data)
    loss.backward()
    assert math.isfinite(float(loss.detach()))
    assert torch.isfinite(data["logits"].grad).all()
