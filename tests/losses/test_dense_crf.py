from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from scribbleseg.config import LossTerm
from scribbleseg.errors import ConfigError
from scribbleseg.losses import DenseCRFLoss, NormalizedCutLoss
from scribbleseg.losses.base import Loss, at_grid
from scribbleseg.losses.objective import build_loss
from tests.reference import dense as truth

STATIC = {"sigma_px": 4.0, "sigma_rgb": 0.5, "method": "exact"}
DEEP = {"sigma_px": 5.0, "sigma_rgb": 0.7, "sigma_feature": 0.8, "method": "exact"}
NUMBERS = [
    pytest.param(STATIC, id="static"),
    pytest.param(DEEP, id="deep"),
    pytest.param({"sigma_px": 3.0, "sigma_rgb": None, "method": "exact"}, id="position alone"),
    pytest.param({"sigma_px": 4.0, "sigma_rgb": 0.5, "num_landmarks": 64}, id="low rank"),
]
GRIDS = [
    pytest.param((6, 6), (6, 6), id="full size"),
    pytest.param((8, 12), (4, 6), id="stride 2"),
    pytest.param((7, 9), (4, 5), id="odd"),
]
both_losses = pytest.mark.parametrize("loss", [DenseCRFLoss, NormalizedCutLoss])


def make(size=(8, 12), grid=(4, 6), num_images=2, num_classes=3, holes=True, dtype=torch.float64) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(5)
    valid = torch.ones(num_images, *size, dtype=torch.bool)
    if holes:
        valid[0, :, -3:] = False
        valid[-1, -2:] = False
    return {
        "logits": torch.randn(num_images, num_classes, *grid, generator=rng, dtype=torch.float64).to(dtype),
        "rgb": torch.rand(num_images, 3, *size, generator=rng, dtype=torch.float64).to(dtype),
        "features": F.normalize(torch.randn(num_images, 4, *grid, generator=rng, dtype=torch.float64), dim=1).to(dtype),
        "valid": valid,
    }


def inputs(loss: Loss, data: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"logits": data["logits"]} | {key: data[key] for key in loss.needs}


def terms(kind: type[Loss], data: dict[str, Tensor], **numbers: Any) -> tuple[float, int]:
    loss = kind(**(numbers or DEEP))
    result = loss.terms(**inputs(loss, data))
    return float(result.sum.detach()), int(result.count)


def at_cells(data: dict[str, Tensor], numbers: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Return probabilities, the truth's guide and validity on the logits' grid."""
    probs = data["logits"].softmax(1)
    rgb, _, valid = at_grid(probs, rgb=data["rgb"], valid=data["valid"])
    sigmas = (numbers["sigma_px"], numbers["sigma_rgb"], numbers.get("sigma_feature"))
    return probs, truth.guide_of(rgb, data["features"], data["rgb"].shape[-2:], sigmas), valid


@pytest.mark.parametrize(("size", "grid"), GRIDS)
@pytest.mark.parametrize("numbers", NUMBERS)
def test_equals_the_loops(numbers, size, grid):
    data = make(size, grid)
    expected, count = truth.dense_crf(*at_cells(data, numbers))
    total, counted = terms(DenseCRFLoss, data, **numbers)
    assert count == counted > 0
    close = 1e-10 if numbers.get("method") == "exact" else 1e-3
    assert total == pytest.approx(expected, rel=close)
    loss = DenseCRFLoss(**numbers)
    assert float(loss(**inputs(loss, data))) == pytest.approx(expected / count, rel=close)


@both_losses
@pytest.mark.parametrize("numbers", NUMBERS)
def test_gradcheck_of_the_logits(loss, numbers):
    data = make((4, 6), (4, 3))
    module = loss(**numbers)
    assert torch.autograd.gradcheck(lambda x: module(**inputs(module, data) | {"logits": x}), data["logits"].requires_grad_())


@both_losses
def test_gradcheck_of_the_features(loss):
    data = make((4, 6), (4, 3), num_images=1)
    module = loss(**DEEP, feature_gradient=True)
    both = (data["logits"].requires_grad_(), data["features"].requires_grad_())
    assert torch.autograd.gradcheck(lambda x, z: module(**inputs(module, data) | {"logits": x, "features": z}), both)


@both_losses
@pytest.mark.parametrize("flows", [None, False, True])
def test_gradient_into_the_features_is_a_choice(loss, flows):
    data = make()
    data["features"].requires_grad_()
    data["logits"].requires_grad_()
    module = loss(**DEEP) if flows is None else loss(**DEEP, feature_gradient=flows)
    module(**inputs(module, data)).backward()
    assert float(data["logits"].grad.abs().max()) > 0
    grad = data["features"].grad
    assert (grad is not None and float(grad.abs().max()) > 0) is bool(flows)


@both_losses
def test_features_are_asked_for_only_where_they_are_used(loss):
    assert loss(**STATIC).needs == {"rgb", "valid"}
    assert loss(**DEEP).needs == {"rgb", "valid", "features"}
    with pytest.raises(TypeError, match="needs features"):
        loss(**DEEP)(torch.zeros(1, 2, 4, 4), rgb=torch.rand(1, 3, 4, 4), valid=torch.ones(1, 4, 4, dtype=torch.bool))


@both_losses
class TestGrid:
    def test_sigma_px_counts_pixels_of_the_full_image(self, loss):
        # Every pixel four times: the same colours and scores on a grid of half the size, in a picture of the same size.
        small = make((6, 8), (6, 8), holes=False)
        twice = {key: value.repeat_interleave(2, -1).repeat_interleave(2, -2) for key, value in small.items()}
        fine = terms(loss, twice, sigma_px=8.0, sigma_rgb=0.5, method="exact")[0]
        coarse = terms(
            loss, small | {"rgb": twice["rgb"], "valid": twice["valid"]}, sigma_px=8.0, sigma_rgb=0.5, method="exact"
        )[0]
        per_pixel = 4 if loss is DenseCRFLoss else 1  # pixels are counted, or images
        assert coarse == pytest.approx(fine / per_pixel, rel=0.01)

    def test_stride_is_the_loss_of_means(self, loss):
        data = make((8, 12), (8, 12), holes=False)
        rgb, valid = F.avg_pool2d(data["rgb"], 2), torch.ones(2, 4, 6, dtype=torch.bool)
        probs = F.avg_pool2d(data["logits"].softmax(1), 2)
        numbers = {"sigma_px": 4.0, "sigma_rgb": 0.5, "method": "exact"}
        expected = terms(loss, data | {"logits": probs.log(), "rgb": rgb, "valid": valid}, **numbers | {"sigma_px": 2.0})
        assert terms(loss, data, **numbers, stride=2) == pytest.approx(expected, rel=1e-12)

    def test_stride_with_features(self, loss):
        data = make((8, 12), (8, 12), holes=False)
        means = F.normalize(F.avg_pool2d(data["features"], 2), dim=1)
        probs = F.avg_pool2d(data["logits"].softmax(1), 2)
        expected = terms(loss, data | {"logits": probs.log(), "features": means}, **DEEP)
        assert terms(loss, data, **DEEP, stride=2) == pytest.approx(expected, rel=1e-12)

    def test_size_of_the_image_does_not_change_the_scale(self, loss):
        # The mean form: a picture of twice the side, with twice the sigma, has about the same value.
        values = []
        for factor in (1, 2):
            rng = torch.Generator().manual_seed(3)
            coarse = torch.randn(1, 6, 4, 4, generator=rng, dtype=torch.float64)
            maps = F.interpolate(coarse, scale_factor=6 * factor, mode="bilinear")
            data = {
                "logits": 2 * maps[:, :3],
                "rgb": maps[:, 3:].sigmoid(),
                "features": maps,
                "valid": torch.ones(1, *maps.shape[-2:]).bool(),
            }
            module = loss(sigma_px=8.0 * factor, sigma_rgb=0.3, method="exact")
            values.append(float(module(**inputs(module, data))))
        assert values[1] == pytest.approx(values[0], rel=0.03)


@both_losses
class TestExtremes:
    @pytest.mark.parametrize("method", ["exact", "low_rank", "lattice"])
    def test_one_class_everywhere_is_zero(self, loss, method):
        data = make()
        data["logits"][:] = 0
        data["logits"][:, 1] = 1e3
        assert terms(loss, data, method=method)[0] == pytest.approx(0, abs=1e-10)

    def test_certain_border_between_unlike_colours_is_almost_zero(self, loss):
        data = make((6, 6), (6, 6), holes=False)
        data["rgb"][..., :3], data["rgb"][..., 3:] = 0.0, 1.0
        data["logits"][:] = 0
        data["logits"][:, 0, :, :3] = data["logits"][:, 1, :, 3:] = 1e3
        assert terms(loss, data, sigma_px=4.0, sigma_rgb=0.1, method="exact")[0] < 1e-20
        data["rgb"][:] = 0.5
        assert terms(loss, data, sigma_px=4.0, sigma_rgb=0.1, method="exact")[0] > 0.5

    @pytest.mark.parametrize("method", ["exact", "low_rank", "lattice"])
    def test_everything_padded_is_zero_with_a_zero_gradient(self, loss, method):
        data = make()
        data["valid"][:] = False
        data["logits"].requires_grad_()
        module = loss(method=method)
        value = module(**inputs(module, data))
        value.backward()
        assert float(value.detach()) == 0
        assert torch.equal(data["logits"].grad, torch.zeros_like(data["logits"]))

    def test_a_wholly_padded_image_changes_nothing(self, loss):
        data = make()
        data["valid"][1] = False
        alone = {key: value[:1] for key, value in data.items()}
        assert terms(loss, data) == pytest.approx(terms(loss, alone), rel=1e-12)

    @pytest.mark.parametrize("method", ["exact", "low_rank", "lattice"])
    def test_bounds(self, loss, method):
        data = make((16, 18), (16, 18), holes=False)
        data["logits"] *= 100  # all pixels certain, most neighbours of another mind
        data["rgb"][:] = 0.5
        module = loss(method=method)
        value = float(module(**inputs(module, data)))
        most = 1 if loss is DenseCRFLoss else 3
        assert 0.5 * most < value <= most


@both_losses
class TestInvariance:
    def test_renumbering_classes(self, loss):
        data = make()
        other = terms(loss, data | {"logits": data["logits"][:, [2, 0, 1]]})
        assert other == pytest.approx(terms(loss, data), rel=1e-12)

    @pytest.mark.parametrize("axes", [(-1,), (-2,), (-1, -2)])
    def test_flips(self, loss, axes):
        data = make()
        flipped = {key: value.flip(axes) for key, value in data.items()}
        assert terms(loss, flipped) == pytest.approx(terms(loss, data), rel=1e-12)

    @pytest.mark.parametrize("method", ["low_rank", "lattice"])
    def test_flips_change_an_approximation_little(self, loss, method):
        data = make((24, 24), (24, 24))
        flipped = {key: value.flip(-1) for key, value in data.items()}
        numbers = {"sigma_px": 12.0, "sigma_rgb": 0.4, "method": method}
        assert terms(loss, flipped, **numbers) == pytest.approx(terms(loss, data, **numbers), rel=0.02)

    def test_order_of_the_batch(self, loss):
        data = make(num_images=3)
        other = terms(loss, {key: value[[2, 0, 1]] for key, value in data.items()})
        assert other == pytest.approx(terms(loss, data), rel=1e-12)

    def test_padding(self, loss):
        data = make()
        pad = F.pad
        larger = {
            "logits": pad(data["logits"], (0, 2, 0, 1), value=3.0),
            "features": pad(data["features"], (0, 2, 0, 1), value=0.5),
            "rgb": pad(data["rgb"], (0, 4, 0, 2), value=0.5),
            "valid": pad(data["valid"], (0, 4, 0, 2), value=False),
        }
        assert terms(loss, larger) == pytest.approx(terms(loss, data), rel=1e-12)

    def test_terms_of_halves_add_up(self, loss):
        data = make(num_images=4)
        halves = [terms(loss, {key: value[part] for key, value in data.items()}) for part in (slice(0, 1), slice(1, 4))]
        assert tuple(map(sum, zip(*halves, strict=True))) == pytest.approx(terms(loss, data), rel=1e-12)

    def test_the_count_is_of_the_batch_alone(self, loss):
        data = make()
        other = data | {"logits": 50 * data["logits"]}
        assert terms(loss, data)[1] == terms(loss, other)[1]


@both_losses
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_and_features_give_float32(loss, dtype):
    data = make(dtype=torch.float32)
    data |= {"logits": data["logits"].to(dtype).requires_grad_(), "features": data["features"].to(dtype)}
    module = loss(**DEEP)
    value = module(**inputs(module, data))
    value.backward()
    assert value.dtype == torch.float32
    assert data["logits"].grad.dtype == dtype
    wide = {key: x.detach().double() if x.is_floating_point() else x for key, x in data.items()}
    assert float(value.detach()) == pytest.approx(float(module(**inputs(module, wide))), rel=1e-5)


def test_rloss_weight_converts_as_the_docstring_says():
    # rloss: −(w/N) Σ_b Σ_ij k_ij p_i·p_j. Ours with the weight w·Σ_ij k_ij differs by a constant: equal gradients.
    data, w = make((6, 6), (6, 6), num_images=1, holes=False), 2e-3
    data["logits"].requires_grad_()
    probs, guide, valid = at_cells(data, STATIC)
    kernel = torch.tensor(truth.kernel(guide[0]), dtype=torch.float64)
    p = probs.flatten(2)[0]
    theirs = torch.autograd.grad(-w * ((p @ kernel) * p).sum(), data["logits"])[0]
    module = DenseCRFLoss(**STATIC)
    ours = torch.autograd.grad(w * float(kernel.sum()) * module(**inputs(module, data)), data["logits"])[0]
    assert bool(valid.all())
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-14)


@both_losses
@pytest.mark.parametrize(
    "numbers",
    [
        {"sigma_px": 0.0},
        {"sigma_rgb": -0.1},
        {"sigma_feature": 0.0},
        {"method": "permutohedral"},
        {"num_landmarks": 0},
        {"stride": 0},
        {"sigma_xy": 3.0},
    ],
)
def test_impossible_numbers_are_refused(loss, numbers):
    name = {DenseCRFLoss: "dense_crf", NormalizedCutLoss: "normalized_cut"}[loss]
    with pytest.raises(ConfigError, match=next(iter(numbers))):
        build_loss(name, numbers)


def test_it_can_be_switched_on_by_name():
    assert isinstance(build_loss("dense_crf", LossTerm(weight=0.2, sigma_px=40.0).numbers()), DenseCRFLoss)


@both_losses
def test_colours_on_the_wrong_scale_are_refused(loss):
    with pytest.raises(ValueError, match=r"rgb in \[0, 1\]"):
        loss()(torch.zeros(1, 2, 6, 5), rgb=torch.full((1, 3, 6, 5), 255.0), valid=torch.ones(1, 6, 5, dtype=torch.bool))
