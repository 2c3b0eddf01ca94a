from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from scribbleseg.errors import ConfigError, DataError
from scribbleseg.ops.backends import BY_NAME_ONLY, compiled
from scribbleseg.ops.windowed import BACKENDS, RELAXATIONS, energy_reference, windowed_energy
from tests.reference import windowed as truth

CPU = torch.device("cpu")


def backend_cases(*, definition: bool = False) -> list[object]:
    """Return the backends that this machine has as parameters; a missing one is a skipped test that says why."""
    cases = []
    for name, backend in BACKENDS.items():
        reason = backend.why_not(CPU)
        if name == "triton" or (name == "reference" and not definition):
            continue  # Triton's own tests are in test_windowed_triton.py
        asked_only = reason is not None and reason.startswith(BY_NAME_ONLY)
        cases.append(pytest.param(name, marks=pytest.mark.skipif(reason is not None and not asked_only, reason=str(reason))))
    return cases


# radius, dilation, sigma_px, (B, C, G, H, W), which pixels are valid
CASES = [
    pytest.param(1, 1, math.inf, (2, 3, 2, 5, 7), "all", id="smallest window"),
    pytest.param(2, 1, 3.0, (2, 3, 4, 7, 5), "some", id="holes"),
    pytest.param(2, 2, 2.5, (1, 4, 3, 8, 8), "some", id="dilated"),
    pytest.param(3, 3, 6.0, (1, 2, 1, 8, 6), "all", id="dilation leaves gaps"),
    pytest.param(5, 1, 4.0, (2, 2, 3, 3, 4), "all", id="map smaller than the window"),
    pytest.param(5, 2, 12.0, (1, 3, 2, 4, 3), "some", id="map smaller than the dilated window"),
    pytest.param(2, 1, 1.5, (2, 3, 0, 5, 5), "all", id="no guide"),
    pytest.param(2, 1, math.inf, (1, 1, 0, 4, 5), "some", id="no guide, no sigma, one class"),
    pytest.param(2, 1, 3.0, (3, 2, 2, 4, 4), "not the second", id="one image all padding"),
    pytest.param(2, 1, 3.0, (2, 2, 2, 4, 4), "none", id="all padding"),
    pytest.param(2, 1, 3.0, (1, 3, 2, 1, 9), "all", id="one row"),
    pytest.param(2, 1, 3.0, (1, 3, 2, 9, 1), "all", id="one column"),
    pytest.param(3, 1, 3.0, (1, 3, 2, 1, 1), "all", id="one pixel"),
]


def make(shape: tuple[int, ...], kind: str = "all", dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    b, c, g, h, w = shape
    rng = torch.Generator().manual_seed(b + 10 * c + 100 * g + 1000 * h + 10000 * w)
    probs = torch.randn(b, c, h, w, generator=rng, dtype=torch.float64).softmax(1)
    guide = 0.7 * torch.randn(b, g, h, w, generator=rng, dtype=torch.float64)
    valid = torch.ones(b, h, w, dtype=torch.bool)
    if kind == "some":
        valid = torch.rand(b, h, w, generator=rng) > 0.3
    elif kind == "not the second":
        valid[1] = False
    elif kind == "none":
        valid[:] = False
    return probs.to(dtype), guide.to(dtype), valid


def value_and_gradients(probs: Tensor, guide: Tensor, valid: Tensor | None, **numbers: object) -> tuple[Tensor, Tensor, Tensor]:
    probs, guide = probs.clone().requires_grad_(), guide.clone().requires_grad_()
    value = windowed_energy(probs, guide, valid, **numbers)
    grads = torch.autograd.grad(value * 1.5, [probs, guide])  # a factor, so that a backward that forgets it shows
    return value.detach(), *grads


every_relaxation = pytest.mark.parametrize("relaxation", RELAXATIONS)


@every_relaxation
@pytest.mark.parametrize(("radius", "dilation", "sigma", "shape", "kind"), CASES)
def test_definition_equals_the_loops(radius, dilation, sigma, shape, kind, relaxation):
    probs, guide, valid = make(shape, kind)
    expected = truth.energy(probs, guide, valid, radius, dilation, sigma, relaxation)
    ones = valid.double()
    value = energy_reference(probs, guide, ones, ones, radius, dilation, sigma, relaxation)
    assert float(value) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@every_relaxation
@pytest.mark.parametrize("backend", backend_cases())
@pytest.mark.parametrize(("radius", "dilation", "sigma", "shape", "kind"), CASES)
def test_backend_equals_the_definition(backend, radius, dilation, sigma, shape, kind, relaxation):
    probs, guide, valid = make(shape, kind)
    numbers = {"radius": radius, "dilation": dilation, "sigma_px": sigma, "relaxation": relaxation}
    expected = value_and_gradients(probs, guide, valid, **numbers, backend="reference")
    got = value_and_gradients(probs, guide, valid, **numbers, backend=backend)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("kind", ["all", "some"])
@pytest.mark.parametrize("backend", backend_cases(definition=True))
@every_relaxation
def test_gradcheck(backend, kind, relaxation):
    probs, guide, valid = make((2, 3, 2, 3, 4), kind)

    def energy(p: Tensor, g: Tensor) -> Tensor:
        return windowed_energy(p, g, valid, radius=2, dilation=1, sigma_px=2.0, relaxation=relaxation, backend=backend)

    assert torch.autograd.gradcheck(energy, (probs.requires_grad_(), guide.requires_grad_()))


def test_gradient_of_one_input_alone():
    probs, guide, valid = make((2, 3, 2, 4, 5), "some")
    _, for_probs, for_guide = value_and_gradients(probs, guide, valid, radius=2)
    p = probs.clone().requires_grad_()
    windowed_energy(p, guide, valid, radius=2).mul(1.5).backward()
    torch.testing.assert_close(p.grad, for_probs)
    g = guide.clone().requires_grad_()
    windowed_energy(probs, g, valid, radius=2).mul(1.5).backward()
    torch.testing.assert_close(g.grad, for_guide)


@every_relaxation
@pytest.mark.parametrize("kind", ["all", "some"])
def test_float32_agrees_with_float64(kind, relaxation):
    probs, guide, valid = make((2, 4, 3, 12, 11), kind)
    numbers = {"radius": 3, "dilation": 2, "sigma_px": 5.0, "relaxation": relaxation}
    wide = value_and_gradients(probs, guide, valid, **numbers)
    narrow = value_and_gradients(probs.float(), guide.float(), valid, **numbers)
    for a, b in zip(narrow, wide, strict=True):
        assert a.dtype == torch.float32
        assert float((a.double() - b).abs().max()) <= 1e-5 * float(b.abs().max())


@every_relaxation
@pytest.mark.parametrize("backend", backend_cases(definition=True))
def test_source_and_destination_equal_the_loops(backend, relaxation):
    probs, guide, valid = make((2, 3, 2, 5, 6), "some")
    rng = torch.Generator().manual_seed(8)
    destination = torch.rand(2, 5, 6, generator=rng, dtype=torch.float64)
    expected = truth.energy(probs, guide, valid, 2, 1, 3.0, relaxation, destination)
    numbers = {"radius": 2, "sigma_px": 3.0, "relaxation": relaxation, "source": valid, "destination": destination}
    got = value_and_gradients(probs, guide, None, **numbers, backend=backend)
    assert float(got[0]) == pytest.approx(expected, rel=1e-12)
    for a, b in zip(got, value_and_gradients(probs, guide, None, **numbers, backend="reference"), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("backend", backend_cases(definition=True))
def test_valid_stands_in_for_the_side_that_is_not_given(backend):
    probs, guide, valid = make((2, 3, 2, 5, 6), "some")
    other = ~valid
    whole = windowed_energy(probs, guide, valid, radius=2, source=other, backend=backend)
    assert float(whole) == pytest.approx(truth.energy(probs, guide, other, 2, 1, math.inf, "bilinear", valid), rel=1e-12)


@pytest.mark.parametrize("backend", backend_cases())
@pytest.mark.parametrize(
    "shape",
    [
        (1, 1, 0, 1, 1),
        (1, 1, 1, 7, 1),
        (2, 2, 5, 13, 17),
        (1, 21, 3, 37, 41),
        (1, 64, 2, 5, 19),
        (1, 3, 64, 11, 7),
        (1, 5, 19, 4, 67),
    ],
    ids=str,
)
@every_relaxation
def test_sizes_that_are_no_multiple_of_anything(backend, shape, relaxation):
    probs, guide, _ = make(shape, dtype=torch.float32)
    guide = guide / max(1, shape[2]) ** 0.5
    keep = torch.rand(shape[0], *shape[3:], generator=torch.Generator().manual_seed(2)) > 0.2
    numbers = {"radius": 3, "dilation": 2, "sigma_px": 4.0, "relaxation": relaxation}
    got = value_and_gradients(probs, guide, keep, **numbers, backend=backend)
    wide = value_and_gradients(probs.double(), guide.double(), keep, **numbers, backend="reference")
    for a, b in zip(got, wide, strict=True):
        assert float((a.double() - b).abs().sum()) <= 2e-5 * float(b.abs().sum()) + 1e-9


@pytest.mark.parametrize("backend", backend_cases())
def test_views_are_read_as_they_are_seen(backend):
    probs, guide, valid = make((2, 3, 4, 6, 8), "some")
    turned = [x.transpose(-1, -2).contiguous().transpose(-1, -2) for x in (probs, guide, valid)]
    assert not turned[0].is_contiguous()
    for a, b in zip(
        value_and_gradients(*turned, radius=2, sigma_px=2.0, backend=backend),
        value_and_gradients(probs, guide, valid, radius=2, sigma_px=2.0, backend=backend),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-13, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("backend", backend_cases(definition=True))
def test_half_precision_is_computed_in_float32(backend, dtype):
    probs, guide, valid = make((1, 3, 2, 6, 7), "some", dtype)
    narrow = value_and_gradients(probs, guide, valid, radius=2, backend=backend)
    wide = value_and_gradients(probs.float(), guide.float(), valid, radius=2, backend=backend)
    assert narrow[0].dtype == torch.float32
    assert narrow[1].dtype == dtype
    assert float(narrow[0]) == float(wide[0])
    torch.testing.assert_close(narrow[1].float(), wide[1], rtol=1e-2, atol=1e-3)


@pytest.mark.skipif(compiled("_windowed") is None, reason="scribbleseg-kernels is not installed")
def test_the_number_of_threads_changes_no_bit():
    probs, guide, valid = make((2, 5, 6, 33, 29), "some", torch.float32)
    alone = value_and_gradients(probs, guide, valid, radius=3, dilation=2, backend="compiled")
    torch.set_num_threads(3)
    try:
        together = value_and_gradients(probs, guide, valid, radius=3, dilation=2, backend="compiled")
    finally:
        torch.set_num_threads(1)
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


COMPILED_LOSS = """
import torch
from scribbleseg.ops.windowed import BACKENDS, windowed_energy

guide, scores = torch.rand(1, 2, 7, 6), torch.randn(1, 3, 7, 6, requires_grad=True)
for name in [name for name, backend in BACKENDS.items() if backend.why_not(torch.device("cpu")) is None]:

    def loss(scores, guide):
        return windowed_energy(scores.softmax(1), guide, radius=2, sigma_px=3.0, backend=name)

    eager = torch.autograd.grad(loss(scores, guide), scores)[0]
    torch._dynamo.reset()
    compiled = torch.autograd.grad(torch.compile(loss, fullgraph=True)(scores, guide), scores)[0]
    torch.testing.assert_close(compiled, eager)
    print(name)
"""


class TestTorchLibrary:
    @pytest.mark.parametrize("backend", backend_cases())
    @pytest.mark.parametrize("weighted", [False, True])
    def test_opcheck(self, backend, weighted):
        probs, guide, valid = make((1, 3, 2, 5, 6), "some")
        weight = valid.double() if weighted else probs.new_empty(0)
        arguments = (
            probs.requires_grad_(),
            guide.requires_grad_(),
            weight,
            weight.clone(),
            2,
            1,
            3.0,
            "bilinear",
            backend,
            True,
            True,
        )
        torch.library.opcheck(torch.ops.scribbleseg.windowed_energy, arguments)

    @pytest.mark.slow
    def test_compiles_without_a_break(self):
        # In a process of its own: the shape checks of the tests cannot be compiled.
        done = subprocess.run([sys.executable, "-c", COMPILED_LOSS], capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == [name for name, backend in BACKENDS.items() if backend.why_not(CPU) is None]

    @pytest.mark.parametrize("backend", backend_cases())
    def test_autocast(self, backend):
        probs, guide, valid = make((1, 3, 2, 7, 6), "some", torch.float32)
        plain = value_and_gradients(probs, guide, valid, radius=2, backend=backend)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = value_and_gradients(probs, guide, valid, radius=2, backend=backend)
        for a, b in zip(mixed, plain, strict=True):
            torch.testing.assert_close(a, b)


class TestNotFinite:
    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("which", ["probs", "guide"])
    def test_the_check_names_the_input_and_the_place(self, bad, which):
        probs, guide, valid = make((2, 3, 2, 4, 5))
        {"probs": probs, "guide": guide}[which][1, 0, 2, 3] = bad
        with pytest.raises(DataError, match=rf"(?s)windowed_energy, {which}.*1 values.*\[1, 0, 2, 3\]"):
            windowed_energy(probs, guide, valid, radius=1, check=True)

    @every_relaxation
    @pytest.mark.parametrize("backend", backend_cases(definition=True))
    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_without_the_check_it_ends(self, bad, backend, relaxation):
        probs, guide, valid = make((1, 3, 2, 6, 7), dtype=torch.float32)
        probs[0, 0, 2, 3] = bad
        guide[0, 1, 4, 4] = bad
        value, *_ = value_and_gradients(probs, guide, valid, radius=2, relaxation=relaxation, backend=backend)
        assert value.shape == ()
        assert math.isinf(bad) or math.isnan(float(value)), "a NaN went unseen"

    def test_finite_inputs_pass_the_check(self):
        probs, guide, valid = make((1, 3, 2, 4, 5), "some")
        checked = windowed_energy(probs, guide, valid, radius=1, check=True)
        assert torch.equal(checked, windowed_energy(probs, guide, valid, radius=1))


def test_known_value_by_hand():
    # Two pixels, opposite classes, guide 1 apart, sigma 1: both ordered pairs give exp(-1/2 - 1/2) * 1.
    probs = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64).view(1, 2, 1, 2)
    guide = torch.tensor([0.0, 1.0], dtype=torch.float64).view(1, 1, 1, 2)
    assert float(windowed_energy(probs, guide, radius=1, sigma_px=1.0)) == pytest.approx(2 * math.exp(-1), rel=1e-12)


def test_no_valid_mask_means_every_pixel():
    probs, guide, valid = make((2, 3, 2, 5, 4))
    for a, b in zip(
        value_and_gradients(probs, guide, None, radius=2), value_and_gradients(probs, guide, valid, radius=2), strict=True
    ):
        assert torch.equal(a, b)


@every_relaxation
@pytest.mark.parametrize("kind", ["all", "some"])
class TestInvariance:
    @pytest.fixture(autouse=True)
    def choose(self, relaxation):
        self.numbers = {"radius": 2, "dilation": 2, "sigma_px": 3.0, "relaxation": relaxation}

    def value(self, probs, guide, valid):
        return float(windowed_energy(probs, guide, valid, **self.numbers))

    def test_renumbering_classes(self, kind):
        probs, guide, valid = make((2, 4, 2, 6, 7), kind)
        assert self.value(probs[:, [2, 0, 3, 1]], guide, valid) == pytest.approx(self.value(probs, guide, valid), rel=1e-12)

    @pytest.mark.parametrize("axes", [(-1,), (-2,), (-1, -2)])
    def test_flips(self, kind, axes):
        probs, guide, valid = make((2, 3, 2, 6, 7), kind)
        flipped = self.value(probs.flip(axes), guide.flip(axes), valid.flip(axes))
        assert flipped == pytest.approx(self.value(probs, guide, valid), rel=1e-12)

    def test_transposition(self, kind):
        probs, guide, valid = make((2, 3, 2, 6, 7), kind)
        turned = self.value(probs.transpose(-1, -2), guide.transpose(-1, -2), valid.transpose(-1, -2))
        assert turned == pytest.approx(self.value(probs, guide, valid), rel=1e-12)

    def test_batch_is_the_sum_of_its_images(self, kind):
        probs, guide, valid = make((3, 3, 2, 5, 6), kind)
        alone = [self.value(probs[b : b + 1], guide[b : b + 1], valid[b : b + 1]) for b in range(3)]
        assert self.value(probs, guide, valid) == pytest.approx(sum(alone), rel=1e-12)
        order = [2, 0, 1]
        assert self.value(probs[order], guide[order], valid[order]) == pytest.approx(sum(alone), rel=1e-12)

    def test_shift_of_the_guide(self, kind):
        probs, guide, valid = make((2, 3, 2, 5, 6), kind)
        assert self.value(probs, guide + 3.25, valid) == pytest.approx(self.value(probs, guide, valid), rel=1e-12)

    def test_padding_changes_nothing(self, kind):
        probs, guide, valid = make((2, 3, 2, 5, 6), kind)
        p, g, _ = make((2, 3, 2, 9, 8))
        m = torch.zeros(2, 9, 8, dtype=torch.bool)
        p[..., 2:7, 1:7], g[..., 2:7, 1:7], m[..., 2:7, 1:7] = probs, guide, valid
        small = value_and_gradients(probs, guide, valid, **self.numbers)
        large = value_and_gradients(p, g, m, **self.numbers)
        assert float(large[0]) == pytest.approx(float(small[0]), rel=1e-12)
        for inner, outer in zip(small[1:], large[1:], strict=True):
            torch.testing.assert_close(outer[..., 2:7, 1:7], inner, rtol=1e-11, atol=1e-13)
            assert torch.count_nonzero(outer * ~m[:, None]) == 0


class TestExtremes:
    @every_relaxation
    def test_certain_and_equal_everywhere_is_zero(self, relaxation):
        _, guide, valid = make((2, 3, 2, 5, 6))
        probs = torch.zeros(2, 3, 5, 6, dtype=torch.float64)
        probs[:, 1] = 1
        assert float(windowed_energy(probs, guide, valid, radius=2, relaxation=relaxation)) == 0

    @pytest.mark.parametrize(
        ("relaxation", "expected"), [("bilinear", 0.5), ("quadratic", 0.0), ("log_quadratic", 0.0), ("collision", 0.0)]
    )
    def test_equal_but_doubtful(self, relaxation, expected):
        # Two equal pixels, undecided between two classes: only the bilinear form asks for certainty.
        probs = torch.full((1, 2, 1, 2), 0.5, dtype=torch.float64)
        guide = torch.zeros(1, 1, 1, 2, dtype=torch.float64)
        assert float(windowed_energy(probs, guide, radius=1, relaxation=relaxation)) == pytest.approx(2 * expected, abs=1e-15)

    @pytest.mark.parametrize(
        ("relaxation", "most"),
        [("bilinear", 1), ("quadratic", 1), ("log_quadratic", math.log(1e6)), ("collision", math.log(1e6))],
    )
    def test_different_everywhere_counts_every_ordered_pair(self, relaxation, most):
        # One pixel of class 0 in a field of class 1 with a flat guide: eight neighbours, each pair twice.
        probs = torch.zeros(1, 2, 5, 5, dtype=torch.float64)
        probs[:, 1] = 1
        probs[:, :, 2, 2] = torch.tensor([1.0, 0.0], dtype=torch.float64)
        guide = torch.zeros(1, 1, 5, 5, dtype=torch.float64)
        assert float(windowed_energy(probs, guide, radius=1, relaxation=relaxation)) == pytest.approx(16 * most)

    @every_relaxation
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("backend", backend_cases(definition=True))
    def test_nothing_valid_is_zero_with_a_zero_gradient(self, backend, dtype, relaxation):
        probs, guide, valid = make((2, 3, 2, 5, 6), "none", dtype)
        numbers = {"radius": 2, "relaxation": relaxation, "backend": backend}
        value, for_probs, for_guide = value_and_gradients(probs, guide, valid, **numbers)
        assert float(value) == 0
        assert torch.equal(for_probs, torch.zeros_like(probs))
        assert torch.equal(for_guide, torch.zeros_like(guide))

    def test_far_apart_guides_give_zero_not_nan(self):
        probs, guide, valid = make((1, 3, 2, 5, 6), dtype=torch.float32)
        value, for_probs, for_guide = value_and_gradients(probs, guide * 1e6, valid, radius=2)
        assert float(value) == 0
        assert torch.isfinite(for_probs).all()
        assert torch.isfinite(for_guide).all()

    def test_inputs_are_left_alone(self):
        probs, guide, valid = make((2, 3, 2, 5, 6), "some")
        before = probs.clone(), guide.clone(), valid.clone()
        value_and_gradients(probs.requires_grad_(), guide.requires_grad_(), valid, radius=2, sigma_px=2.0)
        assert all(torch.equal(a, b) for a, b in zip((probs, guide, valid), before, strict=True))


class TestErrors:
    @pytest.mark.parametrize(
        ("numbers", "told"),
        [
            ({"radius": 0}, "radius=0"),
            ({"radius": -1}, "radius=-1"),
            ({"radius": 1, "dilation": 0}, "dilation=0"),
            ({"radius": 1, "sigma_px": 0.0}, "sigma_px=0.0"),
            ({"radius": 1, "sigma_px": -2.0}, "sigma_px=-2.0"),
            ({"radius": 1, "sigma_px": math.nan}, "sigma_px=nan"),
        ],
    )
    def test_numbers_that_are_not_positive(self, numbers, told):
        probs, guide, valid = make((1, 2, 1, 3, 3))
        with pytest.raises(ConfigError, match=r"radius ≥ 1, dilation ≥ 1, sigma_px > 0") as error:
            windowed_energy(probs, guide, valid, **numbers)
        assert told in str(error.value)

    def test_unknown_backend_names_the_nearest(self):
        probs, guide, valid = make((1, 2, 1, 3, 3))
        with pytest.raises(ConfigError, match="did you mean 'torch'") as error:
            windowed_energy(probs, guide, valid, radius=1, backend="trch")
        assert "trch" in str(error.value)

    def test_unknown_relaxation_names_the_nearest(self):
        probs, guide, valid = make((1, 2, 1, 3, 3))
        with pytest.raises(ConfigError, match="did you mean 'quadratic'") as error:
            windowed_energy(probs, guide, valid, radius=1, relaxation="quadrtic")
        assert "quadrtic" in str(error.value)

    def test_every_backend_says_in_words_why_not(self):
        reasons = {name: backend.why_not(torch.device("cpu")) for name, backend in BACKENDS.items()}
        assert any(reason is None for reason in reasons.values()), "no backend runs on the CPU"
        assert all(reason is None or len(reason) > 5 for reason in reasons.values())
