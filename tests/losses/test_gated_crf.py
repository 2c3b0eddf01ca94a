from __future__ import annotations

import importlib.util
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from scribbleseg.losses import DynamicFeatureLoss, GatedCRFLoss, Kernel
from scribbleseg.losses.base import at_grid
from tests.fake.maps import GRIDS, make_maps, pad_maps, renumber
from tests.reference import gated_crf as truth

NAMES = ("logits", "rgb", "valid", "labels", "features")
SMALL: dict[str, Any] = {"radius": 2, "sigma_px": 2.0, "sigma_rgb": 0.4}
NUMBERS = [
    pytest.param({}, id="defaults"),
    pytest.param(SMALL, id="small"),
    pytest.param(SMALL | {"dilation": 2}, id="dilated"),
    pytest.param(SMALL | {"sigma_rgb": None}, id="position alone"),
    pytest.param(SMALL | {"sigma_feature": 0.7}, id="features"),
    pytest.param(SMALL | {"sigma_rgb": None, "sigma_feature": 0.7}, id="features alone"),
    pytest.param(SMALL | {"source": "labelled", "destination": "unlabelled"}, id="strokes to the rest"),
    pytest.param(SMALL | {"source": "labelled"}, id="strokes to all"),
    pytest.param(SMALL | {"destination": "labelled"}, id="all to strokes"),
    pytest.param(SMALL | {"source": "unlabelled", "destination": "unlabelled"}, id="the rest"),
]
DEFAULTS: dict[str, Any] = {
    "radius": 5,
    "dilation": 1,
    "sigma_px": 6.0,
    "sigma_rgb": 0.1,
    "sigma_feature": None,
    "source": "valid",
    "destination": "valid",
}


def call(data: dict[str, Tensor], **numbers: Any) -> Tensor:
    return GatedCRFLoss(**numbers)(**{key: data[key] for key in NAMES})


def terms(data: dict[str, Tensor], **numbers: Any) -> tuple[float, int]:
    result = GatedCRFLoss(**numbers).terms(**{key: data[key] for key in NAMES})
    return float(result.sum.detach()), int(result.count)


@pytest.mark.parametrize(("size", "grid"), GRIDS)
@pytest.mark.parametrize("numbers", NUMBERS)
def test_equals_the_loops(numbers, size, grid):
    data = make_maps(size, grid, share=0.25)
    expected, count = truth.terms(**data, **DEFAULTS | numbers)
    total, counted = terms(data, **numbers)
    assert count == counted
    assert total == pytest.approx(expected, rel=1e-10)
    if grid != (1, 6):
        assert total > 0
        assert float(call(data, **numbers)) == pytest.approx(expected / count, rel=1e-10)


@pytest.mark.parametrize("numbers", NUMBERS[1:])
def test_gradcheck(numbers):
    data = make_maps((4, 6), (4, 3), share=0.3)
    assert torch.autograd.gradcheck(lambda x: call(data | {"logits": x}, **numbers), data["logits"].requires_grad_())


class TestKnownValues:
    def test_two_pixels_by_hand(self):
        # Opposite classes, grey 0.3 apart in three channels, one pixel apart: each sees the other with k.
        data = make_maps((1, 2), (1, 2), num_images=1, num_classes=2, holes=False)
        data["logits"] = torch.tensor([[1e3, 0.0], [0.0, 1e3]], dtype=torch.float64).view(1, 2, 1, 2)
        data["rgb"] = torch.tensor([0.2, 0.5], dtype=torch.float64).view(1, 1, 1, 2).expand(1, 3, 1, 2)
        k = math.exp(-0.5 / 36 - 0.5 * 3 * 0.3**2 / 0.2**2)
        assert terms(data, sigma_rgb=0.2) == (pytest.approx(2 * k, rel=1e-12), 2)

    def test_perfect_certain_prediction_is_zero(self):
        data = make_maps()
        data["logits"][:, 1] = 1e3
        assert terms(data)[0] == pytest.approx(0, abs=1e-12)

    def test_is_the_static_kernel_times_the_mass_of_its_window(self):
        data = make_maps()
        kernel = Kernel(radius=3, sigma_px=4.0, sigma_rgb=0.3)
        mean = DynamicFeatureLoss(static=kernel, dynamic=None)(**{key: data[key] for key in NAMES})
        assert float(call(data, radius=3, sigma_px=4.0, sigma_rgb=0.3)) == pytest.approx(
            float(mean) * kernel.window_mass(), rel=1e-10
        )

    def test_value_per_receiving_pixel(self):
        # One stroke pixel in the middle that differs from all: each of its eight neighbours receives 1/#receivers from it.
        data = make_maps((5, 5), (5, 5), num_images=1, num_classes=2, holes=False)
        data["labels"][:] = 255
        data["labels"][0, 2, 2] = 1
        data["rgb"][:] = 0.5
        data["logits"][:] = 0
        data["logits"][:, 0] = 1e3
        data["logits"][:, :, 2, 2] = torch.tensor([0, 1e3], dtype=torch.float64)
        numbers = {"radius": 1, "sigma_px": math.inf, "source": "labelled", "destination": "unlabelled"}
        assert terms(data, **numbers) == (8, 24)
        assert terms(data, radius=1, sigma_px=math.inf) == (16, 25)


class TestGates:
    def test_a_pair_that_no_gate_lets_through_gets_no_gradient(self):
        data = make_maps((7, 7), (7, 7), num_images=1, holes=False)
        data["labels"][:] = 255
        data["labels"][0, 0, 0] = 1
        data["logits"].requires_grad_()
        call(data, radius=2, source="labelled", destination="unlabelled").backward()
        moved = data["logits"].grad.abs().sum(1)[0] > 0
        expected = torch.zeros(7, 7, dtype=torch.bool)
        expected[:3, :3] = True
        assert torch.equal(moved, expected)

    @pytest.mark.parametrize("numbers", [{"source": "labelled"}, {"destination": "labelled"}])
    def test_without_strokes_is_zero_with_a_zero_gradient(self, numbers):
        data = make_maps()
        data["labels"][:] = 255
        data["logits"].requires_grad_()
        loss = call(data, **numbers)
        loss.backward()
        assert float(loss.detach()) == 0
        assert torch.equal(data["logits"].grad, torch.zeros_like(data["logits"]))

    def test_only_what_is_used_is_needed(self):
        assert GatedCRFLoss().needs == {"rgb", "valid"}
        assert GatedCRFLoss(sigma_feature=0.5).needs == {"rgb", "valid", "features"}
        assert GatedCRFLoss(destination="unlabelled").needs == {"rgb", "valid", "labels"}
        assert GatedCRFLoss.needs == {"rgb", "valid"}, "an instance must not change the class"
        data = make_maps()
        with pytest.raises(TypeError, match="needs features"):
            GatedCRFLoss(sigma_feature=0.5)(data["logits"], rgb=data["rgb"], valid=data["valid"])


def test_features_get_no_gradient():
    data = make_maps()
    data["features"].requires_grad_()
    data["logits"].requires_grad_()
    call(data, sigma_feature=0.5).backward()
    assert data["features"].grad is None
    assert float(data["logits"].grad.abs().max()) > 0


class TestPadding:
    def test_everywhere_is_zero_with_a_zero_gradient(self):
        data = make_maps()
        data["valid"][:] = False
        data["logits"].requires_grad_()
        loss = call(data)
        loss.backward()
        assert float(loss.detach()) == 0
        assert torch.equal(data["logits"].grad, torch.zeros_like(data["logits"]))

    @pytest.mark.parametrize("numbers", NUMBERS)
    def test_changes_nothing(self, numbers):
        data = make_maps()
        assert terms(pad_maps(data), **numbers) == pytest.approx(terms(data, **numbers), rel=1e-12)


@pytest.mark.parametrize("numbers", [{}, {"source": "labelled", "destination": "unlabelled"}])
class TestInvariance:
    def test_renumbering_classes(self, numbers):
        data = make_maps()
        assert terms(renumber(data, [2, 0, 1]), **numbers) == pytest.approx(terms(data, **numbers), rel=1e-12)

    @pytest.mark.parametrize("axes", [(-1,), (-2,), (-1, -2)])
    def test_flips(self, numbers, axes):
        data = make_maps()
        flipped = {key: value.flip(axes) for key, value in data.items()}
        assert terms(flipped, **numbers) == pytest.approx(terms(data, **numbers), rel=1e-12)

    def test_order_of_the_batch(self, numbers):
        data = make_maps(num_images=3)
        other = {key: value[[2, 0, 1]] for key, value in data.items()}
        assert terms(other, **numbers) == pytest.approx(terms(data, **numbers), rel=1e-12)

    def test_terms_of_halves_add_up(self, numbers):
        data = make_maps(num_images=4)
        halves = [terms({k: v[part] for k, v in data.items()}, **numbers) for part in (slice(0, 1), slice(1, 4))]
        assert tuple(map(sum, zip(*halves, strict=True))) == pytest.approx(terms(data, **numbers), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_half_precision_logits_give_float32(dtype):
    data = make_maps()
    data["rgb"] = data["rgb"].float()
    logits = data["logits"].to(dtype).requires_grad_()
    loss = call(data | {"logits": logits})
    loss.backward()
    assert loss.dtype == torch.float32
    assert logits.grad.dtype == dtype
    same = call(data | {"logits": logits.detach().double(), "rgb": data["rgb"].double()})
    assert float(loss.detach()) == pytest.approx(float(same), rel=1e-5)


@pytest.mark.parametrize("numbers", [{"radius": 0}, {"dilation": 0}, {"sigma_px": 0.0}, {"sigma_rgb": -0.1}])
def test_impossible_numbers_are_refused(numbers):
    with pytest.raises(ValidationError, match=next(iter(numbers))):
        GatedCRFLoss(**numbers)


PEERS = os.environ.get("PEERS_DIR")


@pytest.mark.skipif(PEERS is None, reason="PEERS_DIR does not name a folder that holds WSL4MIS/code/utils/gate_crf_loss.py")
class TestAgainstItsAuthors:
    """The published loss, float32, as WSL4MIS carries it (one image tensor for every feature that is not the position)."""

    def theirs(self, logits: Tensor, rgb: Tensor, radius: int, sigma_rgb: float, **masks: Tensor) -> Tensor:
        path = Path(PEERS or "", "WSL4MIS", "code", "utils", "gate_crf_loss.py")
        spec = importlib.util.spec_from_file_location("gate_crf_loss", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        kernel = [{"weight": 1, "xy": 6, "rgb": sigma_rgb}]
        loss = module.ModelLossSemsegGatedCRF()
        return loss(logits.softmax(1), kernel, radius, rgb.clone(), *rgb.shape[-2:], **masks)["loss"]

    @pytest.mark.parametrize(("size", "grid"), [((24, 32), (24, 32)), ((48, 64), (24, 32))])
    @pytest.mark.parametrize("radius", [1, 5])
    @pytest.mark.parametrize("gates", ["no masks", ("valid", "valid"), ("labelled", "unlabelled"), ("unlabelled", "valid")])
    def test_value_and_gradient(self, size, grid, radius, gates):
        data = make_maps(size, grid, num_classes=4, holes=gates != "no masks")
        data |= {"logits": data["logits"].float(), "rgb": data["rgb"].float()}
        masks, numbers = {}, {}
        if gates != "no masks":
            _, known, inside = at_grid(data["logits"], labels=data["labels"], valid=data["valid"])
            fits = {"valid": inside, "labelled": inside & (known != 255), "unlabelled": inside & (known == 255)}
            numbers = dict(zip(("source", "destination"), gates, strict=True))
            masks = {f"mask_{name}": fits[gate].unsqueeze(1).float() for name, gate in zip(("src", "dst"), gates, strict=True)}
        x, y = (data["logits"].clone().requires_grad_() for _ in range(2))
        ours = call(data | {"logits": x}, radius=radius, sigma_rgb=0.3, **numbers)
        theirs = self.theirs(y, data["rgb"], radius, 0.3, **masks)
        ours.backward()
        theirs.backward()
        # Without masks theirs also counts neighbours beyond the edge, as of colour 0 at place 0: a constant, no gradient.
        if gates != "no masks":
            assert float(ours.detach()) == pytest.approx(float(theirs.detach()), rel=1e-5)
        assert float(theirs.detach()) >= (1 - 1e-5) * float(ours.detach()) > 0
        assert float((x.grad - y.grad).norm()) <= 1e-5 * float(y.grad.norm())
