from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from scribbleseg.errors import ConfigError
from scribbleseg.losses import PottsRelaxationLoss
from scribbleseg.losses.objective import build_loss
from scribbleseg.losses.potts_relaxation import image_sigma, soft_labels
from tests.fake.maps import GRIDS, make_maps, pad_maps, renumber
from tests.reference import potts_relaxation as truth

NAMES = ("logits", "rgb", "valid", "labels")
RELAXATIONS = ("bilinear", "quadratic", "log_quadratic", "collision")
DEFAULTS: dict[str, Any] = {
    "relaxation": "collision",
    "radius": 1,
    "sigma_px": 1 / math.sqrt(math.log(2)),
    "sigma_rgb": "image",
    "self_labels": True,
    "unary_weight": 0.3,
    "pair_weight": 6.0,
    "num_steps": 10,
    "step": 2.0,
}
NUMBERS = [
    pytest.param({"num_steps": 3}, id="defaults"),
    pytest.param({"num_steps": 2, "sigma_rgb": 0.3, "radius": 2, "sigma_px": 2.0}, id="wider"),
    pytest.param({"num_steps": 1, "radius": 2}, id="wider, own sigma"),
    pytest.param({"num_steps": 3, "unary_weight": 2.0, "pair_weight": 0.5, "step": 0.4}, id="other weights"),
    pytest.param({"self_labels": False}, id="predictions"),
    pytest.param({"self_labels": False, "sigma_rgb": 0.3, "radius": 2, "sigma_px": 2.0}, id="predictions, wider"),
]
every_relaxation = pytest.mark.parametrize("relaxation", RELAXATIONS)
both = pytest.mark.parametrize("self_labels", [True, False])


def make(*args: Any, **how: Any) -> dict[str, Tensor]:
    maps = make_maps(*args, **how)
    return {key: maps[key] for key in NAMES}


def terms(data: dict[str, Tensor], **numbers: Any) -> tuple[float, int]:
    result = PottsRelaxationLoss(**numbers).terms(**{key: data[key] for key in NAMES})
    return float(result.sum.detach()), int(result.count)


@every_relaxation
@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize(("size", "grid"), GRIDS)
def test_equals_the_loops(numbers, relaxation, size, grid):
    data = make(size, grid)
    numbers = numbers | {"relaxation": relaxation}
    expected, count = truth.terms(**data, **DEFAULTS | numbers)
    total, counted = terms(data, **numbers)
    assert count == counted > 0
    assert total == pytest.approx(expected, rel=1e-9)
    assert float(PottsRelaxationLoss(**numbers)(**data)) == pytest.approx(expected / count, rel=1e-9)


@every_relaxation
def test_gradcheck_of_the_energy(relaxation):
    data = make((4, 6), (4, 3))
    loss = PottsRelaxationLoss(relaxation=relaxation, self_labels=False)
    assert torch.autograd.gradcheck(lambda x: loss(**data | {"logits": x}), data["logits"].requires_grad_())


class TestSoftLabels:
    def descend(self, data: dict[str, Tensor], num_steps: int, **numbers: Any) -> tuple[Tensor, float]:
        """Return y and the truth's objective at y."""
        loss = PottsRelaxationLoss(**numbers)
        known, log_y = data["labels"], self.run(data, loss, num_steps)
        value = 0.0
        for b in range(len(log_y)):
            picture = truth.Picture(*(data[key][b] for key in NAMES), radius=1)
            sigma = [truth.softmax(s) for s in picture.scores]
            y = log_y[b].exp().flatten(1).T.tolist()
            one_hot = torch.eye(log_y.shape[1]).tolist()
            y = [p if k == 255 else one_hot[k] for p, k in zip(y, known[b].flatten().tolist(), strict=True)]
            for i, inside in enumerate(picture.valid):
                if inside and picture.known[i] == 255:
                    value -= loss.unary_weight * math.log(truth.dot(y[i], sigma[i]))
            for (i, j, _), w in zip(picture.pairs, picture.weights(loss.sigma_px, loss.sigma_rgb), strict=True):
                differ = truth.differ(y[i], y[j], loss.relaxation) if truth.dot(y[i], y[j]) > 0 else math.log(1e6)
                value += loss.pair_weight * w * differ
        return log_y.exp(), value

    def run(self, data: dict[str, Tensor], loss: PottsRelaxationLoss, num_steps: int) -> Tensor:
        from scribbleseg.ops.windowed import windowed_energy

        guide = data["rgb"] / image_sigma(data["rgb"], data["valid"], 1)

        def pairs(y: Tensor) -> Tensor:
            energy = windowed_energy(y, guide, data["valid"], radius=1, sigma_px=loss.sigma_px, relaxation=loss.relaxation)
            return 0.5 * loss.pair_weight * loss.scale * energy

        step = loss.step / (loss.unary_weight + loss.pair_weight * loss.mass)
        known, weight = data["labels"], loss.unary_weight
        return soft_labels(data["logits"], known, pairs, unary_weight=weight, num_steps=num_steps, step=step)

    @every_relaxation
    def test_every_step_lowers_the_objective(self, relaxation):
        data = make((7, 8), (7, 8), num_images=1)
        data["logits"] *= 3
        # One stroke: two of different classes side by side cannot agree, and the logarithms end there.
        data["labels"][:] = 255
        data["labels"][0, 1, 1:5] = 1
        values = [self.descend(data, n, relaxation=relaxation)[1] for n in range(12)]
        assert all(after < before for before, after in pairwise(values))
        assert values[-1] < 0.9 * values[0]

    @every_relaxation
    def test_strokes_win_over_uncertain_predictions(self, relaxation):
        data = make((6, 6), (6, 6), num_images=1, holes=False)
        data["rgb"][:] = 0.5
        data["logits"] *= 0.1
        data["labels"][:] = 255
        data["labels"][0, 2:4, 2:4] = 2
        y = self.run(data, PottsRelaxationLoss(relaxation=relaxation), 60).exp()
        around = torch.zeros(6, 6, dtype=torch.bool)
        around[1:5, 1:5] = True
        free = around & (data["labels"][0] == 255)
        assert (y[0].argmax(0)[free] == 2).all()
        assert float(y[0, 2][free].min()) > float(data["logits"].softmax(1)[0, 2][free].max())

    def test_unlike_colours_keep_labels_apart(self):
        data = make((6, 8), (6, 8), num_images=1, num_classes=2, holes=False)
        data["logits"] *= 0.1
        data["labels"][:] = 255
        data["labels"][0, :, 0], data["labels"][0, :, 7] = 0, 1
        data["rgb"][..., :5], data["rgb"][..., 5:] = 0.2, 0.8
        y = self.run(data, PottsRelaxationLoss(), 200)[0].argmax(0)
        assert (y[:, 1:5] == 0).all()
        assert (y[:, 5:7] == 1).all()

    def test_without_pairs_or_strokes_it_starts_at_the_prediction(self):
        data = make((5, 6), (5, 6))
        y = self.run(data, PottsRelaxationLoss(), 0)
        torch.testing.assert_close(y, data["logits"].log_softmax(1), rtol=1e-12, atol=1e-12)

    def test_no_class_is_out_of_reach(self):
        # Certain of the wrong class beside a stroke: float32 knows no probability below the floor.
        data = make((3, 5), (3, 5), num_images=1, num_classes=2, holes=False)
        data = {key: value.float() if value.is_floating_point() else value for key, value in data.items()}
        data["rgb"][:] = 0.5
        data["logits"][:, 0], data["logits"][:, 1] = 200.0, 0.0
        data["labels"][:] = 255
        data["labels"][0, :, 2] = 1
        assert float(data["logits"].softmax(1)[0, 1].max()) == 0
        y = self.run(data, PottsRelaxationLoss(unary_weight=0.0), 40)[0].exp()
        assert float(y[1, :, [1, 3]].min()) > 0.4  # between the stroke and the rest they end undecided


class TestGradient:
    @every_relaxation
    def test_is_that_of_the_collision_cross_entropy_to_fixed_labels(self, relaxation):
        data = make((5, 6), (5, 6))
        y = TestSoftLabels().run(data, PottsRelaxationLoss(relaxation=relaxation), 10).exp()
        free = data["valid"] & (data["labels"] == 255)
        a, b = (data["logits"].clone().requires_grad_() for _ in range(2))
        PottsRelaxationLoss(relaxation=relaxation)(**data | {"logits": a}).backward()
        (-(y * b.softmax(1)).sum(1)[free].log().mean()).backward()
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-10, atol=1e-14)
        assert float(a.grad.abs().max()) > 0

    def test_strokes_get_none_from_self_labels(self):
        data = make((5, 6), (5, 6), holes=False)
        data["logits"].requires_grad_()
        PottsRelaxationLoss()(**data).backward()
        assert torch.equal(data["logits"].grad.abs().sum(1) > 0, data["labels"] == 255)

    def test_works_where_gradients_are_off(self):
        data = make()
        expected = float(PottsRelaxationLoss()(**data))
        with torch.no_grad():
            assert float(PottsRelaxationLoss()(**data)) == expected
        with torch.inference_mode():
            inside = {key: value.clone() for key, value in data.items()}
            assert float(PottsRelaxationLoss()(**inside)) == expected


class TestKnownValues:
    @pytest.mark.parametrize(
        ("relaxation", "expected"),
        [
            ("bilinear", 0.74),
            ("quadratic", 0.49),
            ("log_quadratic", -math.log(0.51)),
            ("collision", -math.log(0.26 / (0.9**2 + 0.1**2) ** 0.5 / (0.2**2 + 0.8**2) ** 0.5)),
        ],
    )
    def test_two_pixels_by_hand(self, relaxation, expected):
        # p = (0.9, 0.1), q = (0.2, 0.8), one image pair, so σ² is its own ‖ΔI‖² and w = exp(−½). M = 4 + 4/√2.
        data = make((1, 2), (1, 2), num_images=1, num_classes=2, holes=False)
        data["logits"] = torch.tensor([[0.9, 0.2], [0.1, 0.8]], dtype=torch.float64).log().view(1, 2, 1, 2)
        weight = math.exp(-0.5) / (4 + 4 / math.sqrt(2))
        total, count = terms(data, relaxation=relaxation, self_labels=False)
        assert (total, count) == (pytest.approx(2 * weight * expected, rel=1e-12), 2)

    @pytest.mark.parametrize("relaxation", ["bilinear", "quadratic"])
    def test_a_pixel_unlike_its_neighbours_has_energy_one(self, relaxation):
        data = make((7, 7), (7, 7), num_images=1, num_classes=2, holes=False)
        data["rgb"][:] = 0.5
        data["logits"][:, 0], data["logits"][:, 1] = 1e3, 0
        data["logits"][:, :, 3, 3] = torch.tensor([0, 1e3], dtype=torch.float64)
        assert terms(data, relaxation=relaxation, self_labels=False)[0] == pytest.approx(2, rel=1e-12)

    def test_diagonal_neighbours_weigh_one_over_their_distance(self):
        loss = PottsRelaxationLoss()
        assert loss.mass == pytest.approx(4 + 4 / math.sqrt(2), rel=1e-12)

    @every_relaxation
    @both
    def test_one_certain_class_is_zero(self, relaxation, self_labels):
        data = make()
        data["labels"][data["labels"] != 255] = 1
        data["logits"][:] = 0
        data["logits"][:, 1] = 1e3
        total, count = terms(data, relaxation=relaxation, self_labels=self_labels)
        assert 0 <= total <= 1e-4 * count  # no label starts below 1e-5 of any class

    def test_sigma_is_the_root_mean_square_of_the_differences(self):
        rgb = torch.tensor([0.0, 0.3, 0.4], dtype=torch.float64).view(1, 1, 1, 3).expand(1, 3, 1, 3)
        valid = torch.ones(1, 1, 3, dtype=torch.bool)
        assert float(image_sigma(rgb, valid, 1)) == pytest.approx(math.sqrt(3 * (0.09 + 0.01) / 2), rel=1e-12)
        valid[..., 2] = False
        assert float(image_sigma(rgb, valid, 1)) == pytest.approx(math.sqrt(3 * 0.09), rel=1e-12)
        assert float(image_sigma(0 * rgb, valid, 1)) == 1
        assert float(image_sigma(rgb, valid & False, 1)) == 1


class TestExtremes:
    @every_relaxation
    @both
    def test_nothing_valid_is_zero_with_a_zero_gradient(self, relaxation, self_labels):
        data = make()
        data["valid"][:] = False
        data["logits"].requires_grad_()
        loss = PottsRelaxationLoss(relaxation=relaxation, self_labels=self_labels)(**data)
        loss.backward()
        assert float(loss.detach()) == 0
        assert torch.equal(data["logits"].grad, torch.zeros_like(data["logits"]))

    def test_everything_labelled_is_zero_with_a_zero_gradient(self):
        data = make((5, 6), (5, 6), share=2.0)
        data["logits"].requires_grad_()
        loss = PottsRelaxationLoss()(**data)
        loss.backward()
        assert float(loss.detach()) == 0
        assert torch.equal(data["logits"].grad, torch.zeros_like(data["logits"]))

    @every_relaxation
    @both
    def test_scores_of_any_size_stay_finite(self, relaxation, self_labels):
        data = make()
        logits = (1e4 * data["logits"]).float().requires_grad_()
        data = data | {"logits": logits, "rgb": data["rgb"].float()}
        loss = PottsRelaxationLoss(relaxation=relaxation, self_labels=self_labels)(**data)
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(logits.grad).all()

    def test_a_flat_picture_is_finite(self):
        data = make()
        data["rgb"][:] = 0.5
        assert math.isfinite(terms(data)[0])


@both
class TestInvariance:
    def test_renumbering_classes(self, self_labels):
        data = make()
        again = terms(renumber(data, [2, 0, 1]), self_labels=self_labels)
        assert again == pytest.approx(terms(data, self_labels=self_labels), rel=1e-10)

    @pytest.mark.parametrize("axes", [(-1,), (-2,), (-1, -2)])
    def test_flips(self, self_labels, axes):
        data = make()
        flipped = {key: value.flip(axes) for key, value in data.items()}
        assert terms(flipped, self_labels=self_labels) == pytest.approx(terms(data, self_labels=self_labels), rel=1e-10)

    def test_order_of_the_batch(self, self_labels):
        data = make(num_images=3)
        other = {key: value[[2, 0, 1]] for key, value in data.items()}
        assert terms(other, self_labels=self_labels) == pytest.approx(terms(data, self_labels=self_labels), rel=1e-10)

    def test_padding(self, self_labels):
        maps = make_maps()
        again = terms(pad_maps(maps), self_labels=self_labels)
        assert again == pytest.approx(terms(maps, self_labels=self_labels), rel=1e-10)

    def test_brightness_under_the_images_own_sigma(self, self_labels):
        data = make()
        other = data | {"rgb": 0.2 + 0.5 * data["rgb"]}
        assert terms(other, self_labels=self_labels) == pytest.approx(terms(data, self_labels=self_labels), rel=1e-10)

    def test_terms_of_halves_add_up(self, self_labels):
        data = make(num_images=4)
        halves = [
            terms({key: value[part] for key, value in data.items()}, self_labels=self_labels)
            for part in (slice(0, 1), slice(1, 4))
        ]
        whole = terms(data, self_labels=self_labels)
        assert tuple(map(sum, zip(*halves, strict=True))) == pytest.approx(whole, rel=1e-10)


@both
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_half_precision_logits_give_float32(dtype, self_labels):
    data = make()
    data["rgb"] = data["rgb"].float()
    logits = data["logits"].to(dtype).requires_grad_()
    loss = PottsRelaxationLoss(self_labels=self_labels)(**data | {"logits": logits})
    loss.backward()
    assert loss.dtype == torch.float32
    assert logits.grad.dtype == dtype
    wide = data | {"logits": logits.detach().double(), "rgb": data["rgb"].double()}
    assert float(loss.detach()) == pytest.approx(float(PottsRelaxationLoss(self_labels=self_labels)(**wide)), rel=1e-4)


class TestNumbers:
    def test_labels_are_needed_only_for_self_labels(self):
        data = make()
        assert PottsRelaxationLoss(self_labels=False).needs == {"rgb", "valid"}
        assert PottsRelaxationLoss.needs == {"labels", "rgb", "valid"}, "an instance must not change the class"
        with pytest.raises(TypeError, match="needs labels"):
            PottsRelaxationLoss()(data["logits"], rgb=data["rgb"], valid=data["valid"])

    @pytest.mark.parametrize(
        "numbers",
        [{"radius": 0}, {"sigma_px": 0.1}, {"sigma_rgb": 0.0}, {"sigma_rgb": "images"}, {"num_steps": 0}, {"pair_weight": 0}],
    )
    def test_impossible_ones_are_refused_in_a_configuration(self, numbers):
        with pytest.raises(ConfigError, match=f"potts_relaxation.*{next(iter(numbers))}"):
            build_loss("potts_relaxation", numbers)

    def test_both_kinds_of_sigma_can_be_configured(self):
        assert build_loss("potts_relaxation", {"sigma_rgb": 0.1}).sigma_rgb == 0.1
        assert build_loss("potts_relaxation", {"sigma_rgb": "image"}).sigma_rgb == "image"
