"""The Triton backend against the definition: on a GPU where there is one, in Triton's interpreter elsewhere.

Whether a kernel is interpreted is settled when its file is first read, which ``energy_triton`` of the table does late, so it
is enough to ask for it when the tests are collected, even where something else imported Triton before.
"""

from __future__ import annotations

import importlib.util
import itertools
import math
import os
import sys

import pytest
import torch
from torch import Tensor

from benchmarks.ops import windowed_gpu
from benchmarks.ops.measure import Case
from scribbleseg.ops import backends
from scribbleseg.ops.windowed import BACKENDS, RELAXATIONS, energy_reference, windowed_energy

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    os.environ.setdefault("TRITON_INTERPRET", "1")
needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
every_relaxation = pytest.mark.parametrize("relaxation", RELAXATIONS)

# radius, dilation, sigma_px, (B, C, G, H, W); the interpreter's tile is 8 × 32 pixels
CASES = [
    pytest.param(2, 1, 3.0, (1, 3, 2, 1, 1), id="one pixel"),
    pytest.param(3, 1, 4.0, (2, 2, 3, 3, 4), id="smaller than the window"),
    pytest.param(1, 1, 1.5, (1, 3, 5, 11, 37), id="larger than a tile"),
    pytest.param(1, 1, math.inf, (1, 8, 4, 4, 32), id="a tile, whole quads, no sigma"),
    pytest.param(1, 2, 2.5, (2, 4, 1, 7, 5), id="dilated"),
    pytest.param(2, 3, 9.0, (1, 5, 2, 4, 3), id="smaller than the dilation"),
    pytest.param(1, 40, 60.0, (1, 2, 3, 2, 83), id="dilated over blocks"),
    pytest.param(2, 1, 1.5, (2, 3, 0, 5, 5), id="no guide"),
    pytest.param(1, 1, 2.0, (1, 1, 1, 11, 1), id="one class, one column"),
    pytest.param(1, 1, 2.0, (1, 64, 64, 2, 3), id="most channels"),
    pytest.param(1, 1, 2.0, (1, 21, 35, 3, 2), id="channels that fill no quad"),
]


@pytest.fixture(autouse=True)
def poison():
    """Fill memory that is asked for without being written with NaN, so that what a kernel leaves out shows."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def make(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return scores, guide and two unlike weight maps with many zeros."""
    b, c, g, h, w = shape
    rng = torch.Generator().manual_seed(b + 10 * c + 100 * g + 1000 * h + 10000 * w)
    probs = (2 * torch.randn(b, c, h, w, generator=rng, dtype=torch.float64)).softmax(1)
    guide = torch.randn(b, g, h, w, generator=rng, dtype=torch.float64) / max(1, g) ** 0.5
    source, destination = (
        torch.rand(b, h, w, generator=rng, dtype=torch.float64) * (torch.rand(b, h, w, generator=rng) > 0.3) for _ in range(2)
    )
    return tuple(x.to(DEVICE, dtype) for x in (probs, guide, source, destination))


def definition(probs: Tensor, guide: Tensor, source: Tensor, destination: Tensor, *numbers: object) -> list[Tensor]:
    """Return the value and both gradients in float64, on the CPU."""
    probs, guide = probs.double().cpu().requires_grad_(), guide.double().cpu().requires_grad_()
    value = energy_reference(probs, guide, source.cpu(), destination.cpu(), *numbers)
    grads = torch.autograd.grad(value, [probs, guide], materialize_grads=True)
    return [value.detach(), *grads]


def triton_energy(*arguments: object) -> tuple[Tensor, Tensor, Tensor]:
    return BACKENDS["triton"].run(*arguments)


def assert_near(got: Tensor, expected: Tensor, rel: float) -> None:
    got, expected = got.double().cpu(), expected.double().cpu()
    assert got.shape == expected.shape
    assert torch.isfinite(got).all()
    if expected.numel():
        # Of one class, collision has no gradient at all: nothing is asked to be nearer than 0.1 · rel.
        assert float((got - expected).abs().max()) <= rel * max(0.1, float(expected.abs().max()))


@needs_triton
class TestAgainstTheDefinition:
    @every_relaxation
    @pytest.mark.parametrize(("radius", "dilation", "sigma", "shape"), CASES)
    def test_float32(self, radius, dilation, sigma, shape, relaxation):
        inputs = make(shape)
        numbers = (radius, dilation, sigma, relaxation)
        got = triton_energy(*inputs, *numbers, True, True)
        for a, b in zip(got, definition(*inputs, *numbers), strict=True):
            assert a.dtype == torch.float32
            assert_near(a, b, 1e-5)

    @every_relaxation
    def test_float64(self, relaxation):
        inputs = make((2, 5, 3, 5, 34), torch.float64)
        numbers = (1, 2, 2.7, relaxation)
        for a, b in zip(triton_energy(*inputs, *numbers, True, True), definition(*inputs, *numbers), strict=True):
            assert a.dtype == torch.float64
            assert_near(a, b, 1e-12)

    @every_relaxation
    def test_certain_pixels_meet_the_clamp(self, relaxation):
        _, guide, source, destination = make((1, 3, 2, 4, 6))
        probs = torch.eye(3, device=DEVICE)[torch.arange(24, device=DEVICE) * 5 % 3].T.reshape(1, 3, 4, 6)
        probs[..., 0, :2] = 0  # no class at all, and hardly one: ‖p‖ is clamped too
        probs[..., 1, :3] *= 1e-4
        numbers = (1, 1, 2.0, relaxation)
        got = triton_energy(probs, guide, source, destination, *numbers, True, True)
        for a, b in zip(got, definition(probs, guide, source, destination, *numbers), strict=True):
            assert_near(a, b, 1e-5)

    def test_through_the_op(self):
        probs, guide, source, destination = make((2, 3, 2, 4, 5))
        results = []
        for backend in ("triton", "torch"):
            p, g = probs.clone().requires_grad_(), guide.clone().requires_grad_()
            weights = {"source": source, "destination": destination}
            value = windowed_energy(p, g, radius=2, sigma_px=2.0, **weights, backend=backend)
            results.append([value.detach(), *torch.autograd.grad(1.5 * value, [p, g])])
        for a, b in zip(*results, strict=True):
            assert_near(a, b, 1e-6)


@needs_triton
class TestInputs:
    numbers = (1, 1, 2.0, "log_quadratic")

    def test_any_strides(self):
        inputs = make((2, 5, 6, 5, 7))
        expected = triton_energy(*inputs, *self.numbers, True, True)
        turned = [x.transpose(-1, -2).contiguous().transpose(-1, -2) for x in inputs]
        wide = [torch.stack([x, -x], -1)[..., 0] for x in inputs]
        last = [x.to(memory_format=torch.channels_last) if x.dim() == 4 else x for x in inputs]
        for strided in (turned, wide, last):
            assert not strided[0].is_contiguous()
            for a, b in zip(triton_energy(*strided, *self.numbers, True, True), expected, strict=True):
                assert torch.equal(a, b)

    def test_expanded_maps(self):
        probs, guide, source, _ = make((1, 3, 2, 4, 5))
        wide = [x.expand(2, *x.shape[1:]) for x in (probs, guide, source, source)]
        expected = triton_energy(*[x.contiguous() for x in wide], *self.numbers, True, True)
        for a, b in zip(triton_energy(*wide, *self.numbers, True, True), expected, strict=True):
            assert torch.equal(a, b)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_is_summed_in_float32(self, dtype):
        inputs = [x.to(dtype) for x in make((1, 5, 6, 4, 7))]
        value, *grads = triton_energy(*inputs, *self.numbers, True, True)
        expected, *expected_grads = triton_energy(*[x.float() for x in inputs], *self.numbers, True, True)
        assert value.dtype == torch.float32
        assert torch.equal(value, expected)
        for a, b in zip(grads, expected_grads, strict=True):
            assert a.dtype == dtype  # the interpreter cuts where a GPU rounds
            torch.testing.assert_close(a.float(), b, rtol=2 * torch.finfo(dtype).eps, atol=1e-6)

    def test_no_weights_stand_for_ones(self):
        probs, guide, source, _ = make((2, 3, 2, 4, 5))
        ones = torch.ones_like(source)
        for given in [(None, None), (source, None), (None, source)]:
            got = triton_energy(probs, guide, *given, *self.numbers, True, True)
            meant = [ones if x is None else x for x in given]
            for a, b in zip(got, triton_energy(probs, guide, *meant, *self.numbers, True, True), strict=True):
                assert torch.equal(a, b)

    @every_relaxation
    def test_what_is_not_wanted_is_empty_and_changes_nothing(self, relaxation):
        inputs = make((1, 3, 2, 4, 5))
        numbers = (1, 1, 2.0, relaxation)
        whole = triton_energy(*inputs, *numbers, True, True)
        for wanted in itertools.product([True, False], repeat=2):
            value, *grads = triton_energy(*inputs, *numbers, *wanted)
            assert torch.equal(value, whole[0])
            for want, grad, expected in zip(wanted, grads, whole[1:], strict=True):
                assert torch.equal(grad, expected) if want else grad.numel() == 0

    def test_inputs_are_left_alone(self):
        inputs = make((1, 3, 2, 4, 5))
        before = [x.clone() for x in inputs]
        triton_energy(*inputs, *self.numbers, True, True)
        assert all(torch.equal(a, b) for a, b in zip(inputs, before, strict=True))


@needs_triton
class TestExtremes:
    @every_relaxation
    def test_no_weight_is_zero_with_a_zero_gradient(self, relaxation):
        probs, guide, source, _ = make((2, 3, 2, 5, 6))
        none = torch.zeros_like(source)
        for weights in [(none, none), (none, source), (source, none)]:
            value, for_probs, for_guide = triton_energy(probs, guide, *weights, 1, 1, 2.0, relaxation, True, True)
            assert float(value) == 0
            assert torch.equal(for_probs, torch.zeros_like(probs))
            assert torch.equal(for_guide, torch.zeros_like(guide))

    def test_a_pixel_without_weight_has_no_gradient(self):
        probs, guide, source, destination = make((1, 3, 2, 6, 7))
        out = (source == 0) & (destination == 0)
        assert out.any()
        _, for_probs, for_guide = triton_energy(probs, guide, source, destination, 2, 1, 2.0, "quadratic", True, True)
        for grad in (for_probs, for_guide):
            assert not (grad * out[:, None]).any()
            assert (grad * ~out[:, None]).any()

    @every_relaxation
    def test_a_nan_is_not_hidden(self, relaxation):
        probs, guide, *_ = make((1, 3, 2, 4, 5))
        probs[0, 1, 2, 2] = math.nan
        assert math.isnan(float(triton_energy(probs, guide, None, None, 1, 1, 2.0, relaxation, True, True)[0]))

    def test_far_apart_guides_give_zero(self):
        probs, guide, *_ = make((1, 3, 2, 4, 5))
        value, for_probs, for_guide = triton_energy(probs, guide * 1e9, None, None, 1, 1, 2.0, "bilinear", True, True)
        assert float(value) == 0
        assert not for_probs.any()
        assert not for_guide.any()

    def test_no_images(self):
        value, for_probs, for_guide = triton_energy(*[x[:0] for x in make((1, 3, 2, 4, 5))], 1, 1, 2.0, "bilinear", True, True)
        assert float(value) == 0
        assert (for_probs.shape, for_guide.shape) == ((0, 3, 4, 5), (0, 2, 4, 5))


@needs_triton
@pytest.mark.skipif(DEVICE == "cuda", reason="the tile is tuned there")
@pytest.mark.parametrize(("rows", "columns"), [(1, 16), (2, 32), (2, 64)])
def test_the_tile_changes_nothing(monkeypatch, rows, columns):
    inputs = make((1, 2, 3, 3, 35))
    expected = triton_energy(*inputs, 1, 1, 2.0, "log_quadratic", True, True)
    from scribbleseg.ops import windowed_triton

    monkeypatch.setattr(windowed_triton, "INTERPRETED", {"TILE_Y": rows, "TILE_X": columns})
    for a, b in zip(triton_energy(*inputs, 1, 1, 2.0, "log_quadratic", True, True), expected, strict=True):
        assert torch.equal(a, b)


def test_without_triton_the_file_can_be_read_and_the_reason_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    spec = importlib.util.find_spec("scribbleseg.ops.windowed_triton")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.triton is None
    assert "triton is not installed" in backends.why_not_triton(torch.device("cuda"))


class TestBenchmark:
    def test_unfold_computes_the_same(self):
        probs, guide = windowed_gpu.inputs(Case(2, 3, 7, radius=2, features=4), "cpu", torch.float64)
        ones = torch.ones(2, 7, 7)
        for radius in (1, 2, 4):
            expected = energy_reference(probs, guide, ones, ones, radius, 1, 3.0, "bilinear")
            got = windowed_gpu.unfold_energy(probs, guide, radius, 3.0)
            torch.testing.assert_close(got, expected, rtol=1e-12, atol=0)

    @needs_triton
    def test_it_checks_before_it_measures(self, monkeypatch):
        case = Case(1, 3, 6, radius=1, features=2)
        assert all(max(found.values()) < 1e-5 for found in windowed_gpu.check(case, DEVICE).values())
        monkeypatch.setattr(windowed_gpu, "TOLERANCE", 1e-12)
        with pytest.raises(ArithmeticError, match="bilinear"):
            windowed_gpu.check(case, DEVICE)

    @pytest.mark.skipif(DEVICE == "cuda", reason="there is a GPU")
    def test_without_a_gpu_it_says_so(self, monkeypatch):
        monkeypatch.setattr(sys, "argv", ["windowed_gpu"])
        with pytest.raises(SystemExit, match="no CUDA GPU here"):
            windowed_gpu.main()
