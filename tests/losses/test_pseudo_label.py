from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from scribbleseg.losses import PseudoLabelLoss
from scribbleseg.losses.pseudo_label import Window
from tests.fake.maps import GRIDS, make_maps, pad_maps, renumber
from tests.reference import pseudo_labels as truth

NEEDED = ("logits", "labels", "drawn", "teacher_clean_logits", "valid")


def make(*args: Any, **how: Any) -> dict[str, Tensor]:
    """Maps with a teacher; the first image lacks the last class, the second the first one."""
    maps = make_maps(*args, **how)
    num_images, num_classes = maps["logits"].shape[:2]
    drawn = torch.zeros(num_images, 255, dtype=torch.bool)
    drawn[:, :num_classes] = True
    for b in range(num_images):
        absent = (num_classes - 1 - b) % num_classes
        drawn[b, absent] = False
        maps["labels"][b][maps["labels"][b] == absent] = 255
    rng = torch.Generator().manual_seed(11)
    teacher = 2 * torch.randn(maps["logits"].shape, generator=rng, dtype=torch.float64)
    return {k: maps[k] for k in ("logits", "labels", "valid")} | {"drawn": drawn, "teacher_clean_logits": teacher}


def terms(data: dict[str, Tensor], **numbers: Any) -> tuple[float, int]:
    loss = PseudoLabelLoss(**numbers)
    result = loss.terms(data["logits"], **{key: data[key] for key in loss.needs})
    return float(result.sum.detach()), int(result.count)


@pytest.mark.parametrize(("among", "margin"), [("drawn", 0.0), ("drawn", 0.2), ("all", 0.1)])
@pytest.mark.parametrize("confidence", [0.0, 0.7, 0.9])
@pytest.mark.parametrize(("size", "grid"), GRIDS)
def test_equals_the_loops(size, grid, confidence, among, margin):
    data = make(size, grid, num_classes=4)
    numbers = {"confidence": confidence, "among": among, "margin": margin}
    expected, count = truth.pseudo_label(*(data[key] for key in NEEDED), **numbers)
    total, counted = terms(data, **numbers)
    assert count == counted > 0
    assert total == pytest.approx(expected, rel=1e-10)
    assert float(PseudoLabelLoss(**numbers)(**data)) == pytest.approx(expected / count, rel=1e-10)


WINDOW = {"weight": 3.0, "radius": 2, "steps_across": 6.0, "sigma_rgb": 0.5, "num_steps": 2}


def make_fine(*args: Any, **how: Any) -> dict[str, Tensor]:
    """The same with colours, for labels as fine as the image."""
    return make(*args, **how) | {"rgb": make_maps(*args, **how)["rgb"]}


@pytest.mark.parametrize(("among", "margin"), [("drawn", 0.0), ("drawn", 0.2), ("all", 0.1)])
@pytest.mark.parametrize("confidence", [0.0, 0.7])
@pytest.mark.parametrize(("size", "grid"), GRIDS)
def test_refined_labels_equal_the_loops(size, grid, confidence, among, margin):
    data = make_fine(size, grid, num_classes=4)
    numbers = {"confidence": confidence, "among": among, "margin": margin}
    loss = PseudoLabelLoss(**numbers, refine=Window(**WINDOW))
    keys = ("logits", "teacher_clean_logits")
    logits, teacher = (F.interpolate(data[key], size=size, mode="bilinear") for key in keys)
    words = (logits, data["labels"], data["drawn"], teacher, data["valid"])
    expected, count = truth.pseudo_label(*words, **numbers, rgb=data["rgb"], window=WINDOW)
    got = loss.terms(data["logits"], **{key: data[key] for key in loss.needs})
    assert int(got.count) == count > 0
    assert float(got.sum) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("numbers", [{}, {"refine": Window(**WINDOW)}])
def test_gradcheck(numbers):
    data = make_fine((4, 6), (4, 3))
    loss = PseudoLabelLoss(confidence=0.6, **numbers)
    assert torch.autograd.gradcheck(lambda x: loss(**data | {"logits": x}), data["logits"].requires_grad_())


class TestWhatIsLearned:
    def test_a_class_that_nobody_drew_is_never_a_label(self):
        """A teacher that takes the sheep for a cow labels it as a sheep, where sheep and ground alone were drawn."""
        data = make((4, 6), (4, 6), num_images=1, holes=False)  # class 2 is not drawn
        data["teacher_clean_logits"] = torch.tensor([0.0, 4.0, 9.0]).view(1, 3, 1, 1).expand(1, 3, 4, 6)
        data["logits"].requires_grad_()
        PseudoLabelLoss()(**data).backward()
        asked = data["labels"][0] == 255
        slope = data["logits"].grad[0][:, asked]
        assert (slope[1] < 0).all(), "towards the likelier of the two that were drawn"
        assert (slope[[0, 2]] > 0).all()
        data["logits"].grad = None
        PseudoLabelLoss(among="all")(**data).backward()
        assert (data["logits"].grad[0][2, asked] < 0).all()

    def test_an_unsure_teacher_is_counted_and_not_believed(self):
        data = make()
        believed = [terms(data, confidence=t) for t in (1.0, 0.9, 0.7, 0.0)]
        assert [total for total, _ in believed] == sorted({total for total, _ in believed})
        assert believed[0][0] == 0
        assert len({count for _, count in believed}) == 1, "the count is no matter of predictions"

    def test_refined_labels_end_where_a_colour_ends(self):
        """The teacher's border is two pixels late; the network is asked for the colours' own."""
        data = make_fine((24, 32), (24, 32))
        data["labels"], data["drawn"] = torch.full_like(data["labels"], 255), torch.ones_like(data["drawn"])
        data["rgb"] = torch.zeros_like(data["rgb"])
        data["rgb"][..., 16:] = 0.8
        data["teacher_clean_logits"] = torch.zeros_like(data["logits"])
        data["teacher_clean_logits"][:, 0, :, :18] = data["teacher_clean_logits"][:, 1, :, 18:] = 3.0
        data["logits"].requires_grad_()
        PseudoLabelLoss(refine=Window(steps_across=32.0))(**data).backward()
        asked = data["logits"].grad.argmin(1)
        assert (asked[..., :16] == 0)[data["valid"][..., :16]].all()
        assert (asked[..., 16:] == 1)[data["valid"][..., 16:]].all()

    def test_refined_labels_grow_from_the_strokes(self):
        """A teacher that is sure of the wrong class is overruled beside a stroke of the same colour."""
        data = make_fine((9, 9), (9, 9))
        data["valid"], data["rgb"] = torch.ones_like(data["valid"]), torch.zeros_like(data["rgb"])
        data["drawn"] = torch.ones_like(data["drawn"])
        data["labels"] = torch.full_like(data["labels"], 2)
        data["labels"][:, 4, 4] = 255
        data["teacher_clean_logits"] = torch.tensor([2.0, 0.0, 0.0], dtype=torch.float64).view(1, 3, 1, 1).expand(2, 3, 9, 9)
        data["logits"].requires_grad_()
        PseudoLabelLoss(refine=Window())(**data).backward()
        assert (data["logits"].grad[:, :, 4, 4].argmin(1) == 2).all()

    def test_near_a_stroke_no_other_class_is_believed(self):
        """The teacher takes a pole for the road around it; beside the pole's stroke it is not asked."""
        data = make((9, 9), (9, 9), num_images=1, holes=False)
        data["labels"], data["drawn"] = torch.full_like(data["labels"], 255), torch.ones_like(data["drawn"])
        data["labels"][0, 3:6, 4] = 1
        data["teacher_clean_logits"] = torch.tensor([9.0, 0.0, 0.0], dtype=torch.float64).view(1, 3, 1, 1).expand(1, 3, 9, 9)
        data["logits"].requires_grad_()
        PseudoLabelLoss(margin=0.2)(**data).backward()  # two of nine pixels
        believed = data["logits"].grad[0].abs().sum(0) > 0
        expected = torch.ones(9, 9, dtype=torch.bool)
        expected[1:8, 2:7] = False
        assert torch.equal(believed, expected)

    def test_only_unlabelled_valid_pixels_get_a_gradient(self):
        data = make((4, 6), (4, 6))
        data["logits"].requires_grad_()
        PseudoLabelLoss(confidence=0.0)(**data).backward()
        assert torch.equal(data["logits"].grad.abs().sum(1) > 0, (data["labels"] == 255) & data["valid"])

    def test_an_image_without_a_stroke_has_all_classes_to_choose_from(self):
        data = make()
        data["drawn"][:] = False
        assert terms(data, confidence=0.0) == terms(data, confidence=0.0, among="all")

    def test_the_teacher_gets_no_gradient(self):
        data = make()
        data["logits"].requires_grad_()
        data["teacher_clean_logits"].requires_grad_()
        PseudoLabelLoss(confidence=0.0)(**data).backward()
        assert data["teacher_clean_logits"].grad is None
        assert bool((data["logits"].grad != 0).any())

    def test_nothing_unlabelled_is_zero_with_a_zero_gradient(self):
        data = make((4, 6), (4, 6))
        data["labels"] = torch.zeros_like(data["labels"])
        data["logits"].requires_grad_()
        loss = PseudoLabelLoss()(**data)
        loss.backward()
        assert float(loss.detach()) == 0
        assert torch.equal(data["logits"].grad, torch.zeros_like(data["logits"]))


class TestInvariance:
    def test_renumbering_classes(self):
        data = make()
        order = [2, 0, 1]
        new = renumber(data, order)
        new["teacher_clean_logits"] = data["teacher_clean_logits"][:, order]
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
        data = make()
        larger = pad_maps(make_maps() | {"labels": data["labels"]}) | {"drawn": data["drawn"]}
        larger["teacher_clean_logits"] = torch.nn.functional.pad(data["teacher_clean_logits"], (0, 2, 0, 1), value=9.0)
        assert terms(larger) == pytest.approx(terms(data), rel=1e-12)

    def test_shift_of_all_scores(self):
        data = make()
        moved = data | {key: data[key] + 7.5 for key in ("logits", "teacher_clean_logits")}
        assert terms(moved) == pytest.approx(terms(data), rel=1e-10)


def test_terms_of_halves_add_up():
    data = make(num_images=4)
    halves = [terms({key: value[part] for key, value in data.items()}) for part in (slice(0, 1), slice(1, 4))]
    assert tuple(map(sum, zip(*halves, strict=True))) == pytest.approx(terms(data), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_half_precision_gives_float32(dtype):
    data = {k: v.to(dtype) if v.is_floating_point() else v for k, v in make().items()}
    data["logits"].requires_grad_()
    loss = PseudoLabelLoss(confidence=0.0)(**data)
    loss.backward()
    assert loss.dtype == torch.float32
    assert data["logits"].grad.dtype == dtype
    same = PseudoLabelLoss(confidence=0.0)(**{k: v.detach().double() if v.is_floating_point() else v for k, v in data.items()})
    assert float(loss.detach()) == pytest.approx(float(same), rel=1e-5)


@pytest.mark.parametrize("size", [1e4, 1e30])
def test_scores_of_any_size_stay_finite(size):
    data = make()
    data = data | {key: (data[key] * size).float() for key in ("logits", "teacher_clean_logits")}
    data["logits"].requires_grad_()
    loss = PseudoLabelLoss()(**data)
    loss.backward()
    assert math.isfinite(float(loss.detach()))
    assert torch.isfinite(data["logits"].grad).all()
