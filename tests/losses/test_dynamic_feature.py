from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional as F

from scribbleseg.losses import DynamicFeatureLoss, Kernel
from scribbleseg.losses.dynamic_feature import DYNAMIC, STATIC
from scribbleseg.ops.windowed import RELAXATIONS
from tests.reference import losses as truth

SMALL_STATIC = Kernel(weight=0.7, radius=2, dilation=1, sigma_px=3.0, sigma_rgb=0.4)
SMALL_DYNAMIC = Kernel(weight=0.4, radius=1, dilation=2, sigma_px=5.0, sigma_rgb=0.6, sigma_feature=0.8)
LOSSES = [
    pytest.param({"static": SMALL_STATIC, "dynamic": SMALL_DYNAMIC}, id="both"),
    pytest.param({"static": SMALL_STATIC, "dynamic": None}, id="static"),
    pytest.param({"static": None, "dynamic": SMALL_DYNAMIC}, id="dynamic"),
    pytest.param({"static": None, "dynamic": Kernel(radius=2, sigma_rgb=None, sigma_feature=0.5)}, id="features alone"),
    pytest.param({"static": Kernel(radius=2, sigma_rgb=None), "dynamic": None}, id="position alone"),
    pytest.param({"static": STATIC, "dynamic": DYNAMIC}, id="defaults"),
]
GRIDS = [
    pytest.param((6, 6), (6, 6), id="full size"),
    pytest.param((8, 12), (4, 6), id="stride 2"),
    pytest.param((7, 9), (4, 5), id="odd"),
]


def make(size=(8, 12), grid=(4, 6), num_images=2, num_classes=3, holes=True, dtype=torch.float64) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(5)
    valid = torch.ones(num_images, *size, dtype=torch.bool)
    if holes:
        valid[0, :, -3:] = False
        valid[-1, -2:] = False
    return {
        "logits": torch.randn(num_images, num_classes, *grid, generator=rng, dtype=torch.float64).to(dtype),
        "rgb": torch.rand(num_images, 3, *size, generator=rng, dtype=torch.float64).to(dtype),
        "features": torch.nn.functional.normalize(
            torch.randn(num_images, 4, *grid, generator=rng, dtype=torch.float64), dim=1
        ).to(dtype),
        "valid": valid,
    }


def terms(data: dict[str, Tensor], **numbers: Any) -> tuple[float, int]:
    numbers = numbers or {"static": SMALL_STATIC, "dynamic": SMALL_DYNAMIC}
    result = DynamicFeatureLoss(**numbers).terms(**data)
    return float(result.sum.detach()), int(result.count)


@pytest.mark.parametrize(("size", "grid"), GRIDS)
@pytest.mark.parametrize("numbers", LOSSES)
@pytest.mark.parametrize("relaxation", RELAXATIONS)
def test_equals_the_loops(numbers, size, grid, relaxation):
    data = make(size, grid)
    kernels = [k.model_dump() for k in numbers.values() if k is not None]
    expected, count = truth.dynamic_feature(**data, kernels=kernels, relaxation=relaxation)
    numbers = numbers | {"relaxation": relaxation}
    total, counted = terms(data, **numbers)
    assert count == counted > 0
    assert total == pytest.approx(expected, rel=1e-10)
    assert float(DynamicFeatureLoss(**numbers)(**data)) == pytest.approx(expected / count, rel=1e-10)


@pytest.mark.parametrize("numbers", LOSSES[:3])
@pytest.mark.parametrize("relaxation", RELAXATIONS)
def test_gradcheck_of_the_logits(numbers, relaxation):
    data = make((4, 6), (4, 3), num_images=2)
    loss = DynamicFeatureLoss(**numbers, relaxation=relaxation)
    assert torch.autograd.gradcheck(lambda x: loss(**data | {"logits": x}), data["logits"].requires_grad_())


def test_gradcheck_of_the_features():
    data = make((4, 6), (4, 3), num_images=1)
    loss = DynamicFeatureLoss(static=SMALL_STATIC, dynamic=SMALL_DYNAMIC, feature_gradient=True)
    inputs = (data["logits"].requires_grad_(), data["features"].requires_grad_())
    assert torch.autograd.gradcheck(lambda x, z: loss(**data | {"logits": x, "features": z}), inputs)


@pytest.mark.parametrize("flows", [False, True])
def test_gradient_into_the_features_is_a_choice(flows):
    data = make()
    data["features"].requires_grad_()
    data["logits"].requires_grad_()
    DynamicFeatureLoss(static=SMALL_STATIC, dynamic=SMALL_DYNAMIC, feature_gradient=flows)(**data).backward()
    assert float(data["logits"].grad.abs().max()) > 0
    grad = data["features"].grad
    assert (grad is not None and float(grad.abs().max()) > 0) is flows


def test_gradient_into_the_features_is_off_by_default():
    data = make()
    data["features"].requires_grad_()
    data["logits"].requires_grad_()
    DynamicFeatureLoss()(**data).backward()
    assert data["features"].grad is None


def test_static_kernel_does_not_depend_on_the_features():
    data = make()
    other = data | {"features": data["features"].flip(0, 1)}
    assert terms(data, static=SMALL_STATIC, dynamic=None) == terms(other, static=SMALL_STATIC, dynamic=None)
    assert terms(data, static=None, dynamic=SMALL_DYNAMIC) != terms(other, static=None, dynamic=SMALL_DYNAMIC)


def test_features_that_differ_lower_the_energy():
    # Neighbours the network tells apart may disagree: that is what the dynamic kernel is for.
    data = make((6, 6), (6, 6))
    alike = torch.zeros_like(data["features"])
    alike[:, 0] = 1
    checks = alike.clone()
    checks[:, 0, :, ::2], checks[:, 1, :, ::2] = 0, 1
    numbers = {"static": None, "dynamic": SMALL_DYNAMIC.model_copy(update={"dilation": 1})}
    assert terms(data | {"features": checks}, **numbers)[0] < 0.9 * terms(data | {"features": alike}, **numbers)[0]


class TestExtremes:
    @pytest.mark.parametrize("relaxation", RELAXATIONS)
    @pytest.mark.parametrize("grid", [(4, 6), (8, 12)])
    def test_perfect_certain_prediction_is_zero(self, grid, relaxation):
        data = make(grid=grid)
        logits = torch.zeros_like(data["logits"])
        logits[:, 1] = 1e3
        energy = terms(data | {"logits": logits}, static=SMALL_STATIC, dynamic=SMALL_DYNAMIC, relaxation=relaxation)[0]
        assert energy == pytest.approx(0, abs=1e-12)

    def test_certain_border_between_unlike_colours_is_almost_zero(self):
        data = make((6, 6), (6, 6), holes=False)
        data["rgb"][..., :3], data["rgb"][..., 3:] = 0.0, 1.0
        data["logits"][:] = 0
        data["logits"][:, 0, :, :3] = data["logits"][:, 1, :, 3:] = 1e3
        assert terms(data, static=STATIC, dynamic=None)[0] < 1e-20
        data["rgb"][:] = 0.5
        assert terms(data, static=STATIC, dynamic=None)[0] > 1

    def test_everything_padded_is_zero_with_a_zero_gradient(self):
        data = make()
        data["valid"][:] = False
        data["logits"].requires_grad_()
        loss = DynamicFeatureLoss(static=SMALL_STATIC, dynamic=SMALL_DYNAMIC)(**data)
        loss.backward()
        assert float(loss.detach()) == 0
        assert torch.equal(data["logits"].grad, torch.zeros_like(data["logits"]))

    def test_a_wholly_padded_image_changes_nothing(self):
        data = make()
        data["valid"][1] = False
        alone = {key: value[:1] for key, value in data.items()}
        assert terms(data) == pytest.approx(terms(alone), rel=1e-12)

    def test_no_kernel_at_all_is_zero_with_a_zero_gradient(self):
        data = make()
        data["logits"].requires_grad_()
        loss = DynamicFeatureLoss(static=None, dynamic=SMALL_DYNAMIC.model_copy(update={"weight": 0.0}))(**data)
        loss.backward()
        assert float(loss.detach()) == 0
        assert torch.equal(data["logits"].grad, torch.zeros_like(data["logits"]))

    @pytest.mark.parametrize("relaxation", ["bilinear", "quadratic"])
    @pytest.mark.parametrize("kernel", [SMALL_STATIC, SMALL_DYNAMIC, STATIC, DYNAMIC])
    def test_never_negative_and_at_most_the_weight(self, kernel, relaxation):
        data = make((16, 18), (16, 18), holes=False)
        data["logits"] *= 100  # all pixels certain, most neighbours of another mind
        data["rgb"][:] = 0.5
        data["features"][:] = data["features"][:, :, :1, :1]
        value = float(DynamicFeatureLoss(static=kernel, dynamic=None, relaxation=relaxation)(**data))
        assert 0.3 * kernel.weight < value <= kernel.weight


class TestWindowMass:
    @pytest.mark.parametrize("kernel", [SMALL_STATIC, SMALL_DYNAMIC, STATIC, DYNAMIC])
    def test_equals_the_loops(self, kernel):
        assert kernel.window_mass() == pytest.approx(truth.window_mass(kernel.model_dump()), rel=1e-12)

    def test_of_gated_crf_is_what_the_docstring_says(self):
        assert round(Kernel(radius=5, sigma_px=6.0).window_mass()) == 92
        assert "M is 92" in (DynamicFeatureLoss.__doc__ or "")

    @pytest.mark.parametrize("kernel", [SMALL_STATIC, SMALL_DYNAMIC])
    def test_a_pixel_that_differs_from_its_whole_window_has_energy_1(self, kernel):
        # In a large flat picture a single certain pixel of another class: its window once, and each of the window's pixels.
        data = make((11, 11), (11, 11), num_images=1, num_classes=2, holes=False)
        data["rgb"][:] = 0.5
        data["features"][:] = data["features"][:, :, :1, :1]
        data["logits"][:, 0], data["logits"][:, 1] = 1e3, 0
        data["logits"][:, :, 5, 5] = torch.tensor([0, 1e3], dtype=torch.float64)
        assert terms(data, static=kernel, dynamic=None)[0] == pytest.approx(2 * kernel.weight, rel=1e-12)


class TestInvariance:
    def test_renumbering_classes(self):
        data = make()
        assert terms(data | {"logits": data["logits"][:, [2, 0, 1]]}) == pytest.approx(terms(data), rel=1e-12)

    @pytest.mark.parametrize("axes", [(-1,), (-2,), (-1, -2)])
    def test_flips(self, axes):
        data = make()
        assert terms({key: value.flip(axes) for key, value in data.items()}) == pytest.approx(terms(data), rel=1e-12)

    def test_order_of_the_batch(self):
        data = make(num_images=3)
        assert terms({key: value[[2, 0, 1]] for key, value in data.items()}) == pytest.approx(terms(data), rel=1e-12)

    def test_padding(self):
        data = make()
        pad = torch.nn.functional.pad
        larger = {
            "logits": pad(data["logits"], (0, 2, 0, 1), value=3.0),
            "features": pad(data["features"], (0, 2, 0, 1), value=0.5),
            "rgb": pad(data["rgb"], (0, 4, 0, 2), value=0.5),
            "valid": pad(data["valid"], (0, 4, 0, 2), value=False),
        }
        assert terms(larger) == pytest.approx(terms(data), rel=1e-12)


def test_terms_of_halves_add_up():
    data = make(num_images=4)
    halves = [terms({key: value[part] for key, value in data.items()}) for part in (slice(0, 1), slice(1, 4))]
    assert tuple(map(sum, zip(*halves, strict=True))) == pytest.approx(terms(data), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_and_features_give_float32(dtype):
    data = make(dtype=torch.float32)
    data |= {"logits": data["logits"].to(dtype).requires_grad_(), "features": data["features"].to(dtype)}
    loss = DynamicFeatureLoss(static=SMALL_STATIC, dynamic=SMALL_DYNAMIC)(**data)
    loss.backward()
    assert loss.dtype == torch.float32
    assert data["logits"].grad.dtype == dtype
    wide = {key: value.detach().double() if value.is_floating_point() else value for key, value in data.items()}
    same = DynamicFeatureLoss(static=SMALL_STATIC, dynamic=SMALL_DYNAMIC)(**wide)
    assert float(loss.detach()) == pytest.approx(float(same), rel=1e-5)


@pytest.mark.parametrize(
    "numbers",
    [
        {"radius": 0},
        {"dilation": 0},
        {"sigma_px": 0.0},
        {"sigma_rgb": -0.1},
        {"sigma_feature": 0.0},
        {"weight": -1.0},
        {"radus": 2},
    ],
)
def test_impossible_kernels_are_refused(numbers):
    with pytest.raises(ValidationError, match=next(iter(numbers))):
        Kernel(**numbers)


def test_a_refined_grid_is_the_loss_of_the_enlarged_scores():
    torch.manual_seed(0)
    logits, features = torch.randn(1, 3, 6, 5).double(), F.normalize(torch.randn(1, 4, 6, 5).double(), dim=1)
    rgb, valid = torch.rand(1, 3, 24, 20), torch.ones(1, 24, 20, dtype=torch.bool)
    large = F.interpolate(logits, scale_factor=2, mode="bilinear", align_corners=False)
    z = F.normalize(F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False), dim=1)
    refined = DynamicFeatureLoss(refine=2)(logits, rgb=rgb, features=features, valid=valid)
    assert float(refined) == pytest.approx(float(DynamicFeatureLoss()(large, rgb=rgb, features=z, valid=valid)))
    assert float(refined) != pytest.approx(float(DynamicFeatureLoss()(logits, rgb=rgb, features=features, valid=valid)))


@pytest.mark.parametrize(
    ("size", "grid", "stride"),
    [
        pytest.param((6, 8), (6, 8), 2, id="full size"),
        pytest.param((7, 9), (7, 9), 2, id="odd"),
        pytest.param((12, 16), (6, 8), 2, id="logits of stride 2"),
        pytest.param((6, 9), (6, 9), 3, id="cells of nine"),
        pytest.param((3, 5), (3, 5), 8, id="one cell"),
    ],
)
def test_a_coarser_grid_equals_the_loops_on_means_of_cells(size, grid, stride):
    """Probabilities, features and colours are averaged over cells, not the logits; a cell is valid if all of it is."""
    data = make(size, grid)
    h, w = (-(-side // stride) for side in grid)
    probs, z = data["logits"].softmax(1), data["features"]
    coarse = {name: x.new_zeros(*x.shape[:2], h, w) for name, x in (("probs", probs), ("features", z))}
    for name, x in (("probs", probs), ("features", z)):
        for b in range(len(x)):
            for k in range(x.shape[1]):
                coarse[name][b, k] = x.new_tensor(truth.cells(x[b, k].tolist(), h, w, truth.cell_mean))
    means = {"logits": coarse["probs"].log(), "features": F.normalize(coarse["features"], dim=1)}  # softmax undoes the log
    kernels = [SMALL_STATIC.model_dump(), SMALL_DYNAMIC.model_dump()]
    expected, count = truth.dynamic_feature(**data | means, kernels=kernels)
    total, counted = terms(data, static=SMALL_STATIC, dynamic=SMALL_DYNAMIC, stride=stride)
    assert counted == count
    assert total == pytest.approx(expected, rel=1e-10)


def test_gradcheck_of_a_coarser_grid():
    data = make((5, 6), (5, 6), num_images=1)
    loss = DynamicFeatureLoss(static=SMALL_STATIC, dynamic=SMALL_DYNAMIC, stride=2, feature_gradient=True)
    inputs = (data["logits"].requires_grad_(), data["features"].requires_grad_())
    assert torch.autograd.gradcheck(lambda x, z: loss(**data | {"logits": x, "features": z}), inputs)


def test_colours_on_the_wrong_scale_are_refused():
    data = {"features": torch.randn(1, 4, 6, 5), "valid": torch.ones(1, 6, 5, dtype=torch.bool)}
    with pytest.raises(ValueError, match=r"rgb in \[0, 1\]"):
        DynamicFeatureLoss()(torch.randn(1, 3, 6, 5), rgb=torch.full((1, 3, 6, 5), 255.0), **data)


@pytest.mark.parametrize("source", ["teacher", "first"])
def test_the_kernel_may_have_the_features_of_another_network(source):
    data, other = make(), make(num_images=3)
    key = f"{source}_features"
    loss = DynamicFeatureLoss(static=SMALL_STATIC, dynamic=SMALL_DYNAMIC, source=source)
    assert loss.needs == {"rgb", "valid", key}
    assert DynamicFeatureLoss.needs == {"rgb", "features", "valid"}, "an instance must not change the class"
    theirs = other["features"][:2].flip(0)
    found = loss(data["logits"], rgb=data["rgb"], valid=data["valid"], features=data["features"], **{key: theirs})
    own = DynamicFeatureLoss(static=SMALL_STATIC, dynamic=SMALL_DYNAMIC)
    expected, without = own(**data | {"features": theirs}), own(**data)
    assert float(found) == pytest.approx(float(expected), rel=1e-12)
    assert float(found) != pytest.approx(float(without), rel=1e-6)
    with pytest.raises(TypeError, match=f"needs {key}"):
        loss(**data)
