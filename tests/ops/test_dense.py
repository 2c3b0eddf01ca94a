from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from scribbleseg.errors import ConfigError, DataError
from scribbleseg.ops.backends import BY_NAME_ONLY, compiled
from scribbleseg.ops.dense import BACKENDS, dense_energy, dense_filter, dense_forms
from scribbleseg.ops.dense_compiled import gaussian_sum_compiled
from scribbleseg.ops.dense_torch import gaussian_sum_torch
from scribbleseg.ops.low_rank import landmarks
from scribbleseg.ops.sampling import spread
from tests.reference import dense as truth

CPU = torch.device("cpu")
needs_compiled = pytest.mark.skipif(compiled("_dense") is None, reason="scribbleseg-kernels is not installed")


def ways(*methods: str, definition: bool = False) -> list[object]:
    """Return (method, backend) that this machine has as parameters; a missing one is a skipped test that says why."""
    cases = []
    for method in methods or BACKENDS:
        for name, backend in BACKENDS[method].items():
            if name == "triton" or (name == "reference" and not definition):
                continue  # Triton's own tests are in test_dense_triton.py
            reason = backend.why_not(CPU)
            asked_only = reason is not None and reason.startswith(BY_NAME_ONLY)
            skip = pytest.mark.skipif(reason is not None and not asked_only, reason=str(reason))
            cases.append(pytest.param({"method": method, "backend": name}, id=f"{method}-{name}", marks=skip))
    return cases


# (B, C, G, H, W), which pixels are valid
CASES = [
    pytest.param((2, 3, 2, 4, 5), "all", id="all"),
    pytest.param((2, 3, 5, 5, 4), "some", id="holes"),
    pytest.param((1, 1, 1, 1, 1), "all", id="one pixel"),
    pytest.param((1, 3, 0, 3, 3), "some", id="no guide"),
    pytest.param((1, 2, 9, 1, 7), "all", id="one row, wide guide"),
    pytest.param((3, 2, 2, 3, 3), "not the second", id="one image all padding"),
    pytest.param((2, 2, 2, 3, 3), "none", id="all padding"),
]


def make(shape: tuple[int, ...], kind: str = "all", dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    b, c, g, h, w = shape
    rng = torch.Generator().manual_seed(b + 10 * c + 100 * g + 1000 * h + 10000 * w)
    probs = torch.randn(b, c, h, w, generator=rng, dtype=torch.float64).softmax(1)
    guide = torch.randn(b, g, h, w, generator=rng, dtype=torch.float64) / max(1, g) ** 0.5
    valid = torch.ones(b, h, w, dtype=torch.bool)
    if kind == "some":
        valid = torch.rand(b, h, w, generator=rng) > 0.3
    elif kind == "not the second":
        valid[1] = False
    elif kind == "none":
        valid[:] = False
    return probs.to(dtype), guide.to(dtype), valid


def scene(side: int = 32, num_classes: int = 5, deep: int = 0) -> tuple[Tensor, Tensor]:
    """Return probabilities and a guide of position and colour (and deep features) like those of a picture."""
    rng = torch.Generator().manual_seed(side + deep)

    def smooth(channels: int, cells: int) -> Tensor:
        coarse = torch.randn(1, channels, cells, cells, generator=rng, dtype=torch.float64)
        return F.interpolate(coarse, (side, side), mode="bicubic", align_corners=True)

    colour = torch.rand(8, 3, generator=rng, dtype=torch.float64)[smooth(8, 6).argmax(1)].movedim(-1, 1)
    rgb = (colour + 0.05 * smooth(3, 4) + 0.02 * torch.randn(1, 3, side, side, generator=rng)).clamp(0, 1)
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    parts = [torch.stack([x, y])[None] / (0.4 * side), rgb / (30 / 255)]
    if deep:
        parts = [F.normalize(smooth(deep, 5), dim=1) / 0.4]
    return (3 * smooth(num_classes, 6)).softmax(1), torch.cat(parts, 1)


def energy_and_gradients(probs: Tensor, guide: Tensor, valid: Tensor | None = None, **how: object) -> tuple[Tensor, ...]:
    probs, guide = probs.clone().requires_grad_(), guide.clone().requires_grad_()
    value = dense_energy(probs, guide, valid, **how)
    return value.detach(), *torch.autograd.grad(value * 1.5, [probs, guide])  # a factor, so that forgetting it shows


def gap(x: Tensor, true: Tensor) -> float:
    return float((x - true).double().norm() / true.double().norm())


class TestDefinition:
    @pytest.mark.parametrize(("shape", "kind"), CASES)
    def test_energy_equals_the_loops(self, shape, kind):
        probs, guide, valid = make(shape, kind)
        value, _, for_guide = energy_and_gradients(probs, guide, valid, method="exact", backend="reference")
        assert float(value) == pytest.approx(truth.energy(probs, guide, valid), rel=1e-12, abs=1e-12)
        expected = torch.tensor(truth.guide_gradient(probs, guide, valid), dtype=torch.float64).mT.reshape(guide.shape)
        torch.testing.assert_close(for_guide, 1.5 * expected, rtol=1e-11, atol=1e-13)

    @pytest.mark.parametrize(("shape", "kind"), CASES)
    def test_forms_equal_the_loops(self, shape, kind):
        probs, guide, valid = make(shape, kind)
        forms = dense_forms(probs, guide, valid, method="exact", backend="reference")
        for b, (association, volume, total) in enumerate(truth.forms(probs, guide, valid)):
            assert forms.association[b].tolist() == pytest.approx(association, rel=1e-12)
            assert forms.volume[b].tolist() == pytest.approx(volume, rel=1e-12)
            assert float(forms.total[b]) == pytest.approx(total, rel=1e-12)

    def test_filter_equals_the_loops(self):
        _, guide, _ = make((2, 3, 2, 4, 5))
        values = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        expected = torch.tensor(truth.filtered(values, guide)).view_as(values)
        torch.testing.assert_close(dense_filter(values, guide, method="exact", backend="reference").float(), expected)

    def test_known_value_by_hand(self):
        # Two pixels, opposite classes, guides 1 apart: both ordered pairs give exp(-1/2); with itself a pixel agrees.
        probs = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64).view(1, 2, 1, 2)
        guide = torch.tensor([0.0, 1.0], dtype=torch.float64).view(1, 1, 1, 2)
        for method in ("exact", "low_rank"):
            assert float(dense_energy(probs, guide, method=method)) == pytest.approx(2 * math.exp(-0.5), rel=1e-4)
        values = torch.tensor([1.0, 10.0], dtype=torch.float64).view(1, 1, 1, 2)
        by_hand = [1 + 10 * math.exp(-0.5), 10 + math.exp(-0.5)]
        assert dense_filter(values, guide, method="exact").flatten().tolist() == pytest.approx(by_hand)


@pytest.mark.parametrize("how", ways("exact"))
class TestExact:
    @pytest.mark.parametrize(("shape", "kind"), CASES)
    def test_equals_the_definition(self, how, shape, kind):
        probs, guide, valid = make(shape, kind)
        expected = energy_and_gradients(probs, guide, valid, method="exact", backend="reference")
        for a, b in zip(energy_and_gradients(probs, guide, valid, **how), expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)

    @pytest.mark.parametrize("kind", ["all", "some"])
    def test_gradcheck_of_the_energy(self, how, kind):
        probs, guide, valid = make((2, 2, 2, 2, 3), kind)
        inputs = (probs.requires_grad_(), guide.requires_grad_())
        assert torch.autograd.gradcheck(lambda p, g: dense_energy(p, g, valid, **how), inputs)

    def test_gradcheck_of_every_form(self, how):
        probs, guide, valid = make((2, 2, 2, 2, 3), "some")
        inputs = (probs.requires_grad_(), guide.requires_grad_())
        assert torch.autograd.gradcheck(lambda p, g: tuple(dense_forms(p, g, valid, **how)), inputs)

    def test_gradcheck_of_the_filter(self, how):
        _, guide, _ = make((2, 2, 3, 2, 3))
        values = torch.randn(2, 2, 2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        inputs = (values.requires_grad_(), guide.requires_grad_())
        assert torch.autograd.gradcheck(lambda v, g: dense_filter(v, g, **how), inputs)

    @pytest.mark.parametrize(
        "shape", [(1, 1, 0, 1, 1), (2, 2, 5, 13, 17), (1, 21, 3, 19, 23), (1, 64, 2, 5, 19), (1, 3, 64, 11, 7)], ids=str
    )
    def test_float32_at_sizes_that_are_no_multiple_of_anything(self, how, shape):
        probs, guide, valid = make(shape, "some", torch.float32)
        wide = energy_and_gradients(probs.double(), guide.double(), valid, method="exact", backend="reference")
        for a, b in zip(energy_and_gradients(probs, guide, valid, **how), wide, strict=True):
            assert a.dtype == torch.float32
            assert float((a.double() - b).abs().sum()) <= 2e-5 * float(b.abs().sum()) + 1e-9

    def test_guides_far_from_the_origin(self, how):
        probs, guide, valid = make((1, 3, 2, 6, 7), "some", torch.float32)
        guide = (4 * guide).round()
        far = energy_and_gradients(probs, guide + 2048, valid, **how)
        for a, b in zip(far, energy_and_gradients(probs, guide, valid, **how), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)

    def test_guides_far_from_each_other_give_the_diagonal(self, how):
        values, guide, _ = make((1, 3, 2, 5, 6), dtype=torch.float32)
        torch.testing.assert_close(dense_filter(values, 1e4 * guide, **how), values)
        forms = dense_forms(values, 1e4 * guide, **how)
        torch.testing.assert_close(forms.total, torch.tensor([30.0], dtype=torch.float64))


@pytest.mark.parametrize("how", ways())
def test_guides_beyond_all_digits_stay_finite(how):
    probs, guide, valid = make((1, 3, 5, 6, 7), "some")
    assert all(torch.isfinite(x).all() for x in energy_and_gradients(probs, 1e20 * guide, valid, **how))


@pytest.mark.parametrize("pull", [False, True])
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1, 1), (2, 3, 4, 70, 5), (1, 5, 22, 5, 700), (1, 2, 13, 33, 129)], ids=str)
@needs_compiled
def test_compiled_sum_over_two_point_sets(sizes, pull):
    b, g, n, i, j = sizes
    rng = torch.Generator().manual_seed(sum(sizes))
    x, y = (torch.randn(b, g, k, generator=rng, dtype=torch.float64) for k in (i, j))
    v, u = (torch.randn(b, n, k, generator=rng, dtype=torch.float64) for k in (j, i))
    arguments = (x, y, v, u) if pull else (x, y, v)
    got, true = gaussian_sum_compiled(*arguments), gaussian_sum_torch(*arguments)
    torch.testing.assert_close(got, true, rtol=1e-11, atol=1e-11)


@needs_compiled
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("pull", [False, True])
@pytest.mark.parametrize("spread_", [1.0, 8.0, 100.0])
def test_compiled_sum_of_far_points_that_it_passes_over(dtype, pull, spread_):
    """In three heaps, many of the points are out of each other's sight; their order is not that of the heaps."""
    rng = torch.Generator().manual_seed(7)

    def points(count: int) -> Tensor:
        heap = torch.randn(1, 4, 3, generator=rng, dtype=torch.float64) * spread_
        return heap[..., torch.randint(0, 3, (count,), generator=rng)] + torch.randn(1, 4, count, generator=rng)

    x, y = points(61), points(2503)
    x = torch.cat([x, y[..., 100:140]], 2)
    v = torch.rand(1, 7, 2503, generator=rng, dtype=torch.float64)
    u = torch.rand(1, 7, 101, generator=rng, dtype=torch.float64) if pull else None
    true = gaussian_sum_torch(x.to(dtype).double(), y.to(dtype).double(), v, u)
    found = gaussian_sum_compiled(x.to(dtype), y.to(dtype), v.to(dtype), None if u is None else u.to(dtype))
    assert gap(found, true) < spread_ * (1e-6 if dtype == torch.float32 else 1e-12)  # a pull is a difference of such numbers


@pytest.mark.parametrize("pairs", [1, 100, 1000])
def test_tiles_of_pairs_add_up(pairs, monkeypatch):
    rng = torch.Generator().manual_seed(0)
    x, y = (torch.randn(2, 3, n, generator=rng, dtype=torch.float64) for n in (37, 23))
    v, u = (torch.randn(2, 4, n, generator=rng, dtype=torch.float64) for n in (23, 37))
    whole = gaussian_sum_torch(x, y, v), gaussian_sum_torch(x, y, v, u)
    monkeypatch.setattr("scribbleseg.ops.dense_torch.PAIRS", pairs)
    torch.testing.assert_close((gaussian_sum_torch(x, y, v), gaussian_sum_torch(x, y, v, u)), whole, rtol=1e-12, atol=1e-12)


class TestLowRank:
    @pytest.mark.parametrize("how", ways("low_rank"))
    @pytest.mark.parametrize(("shape", "kind"), CASES)
    def test_is_the_definition_where_every_pixel_is_a_landmark(self, how, shape, kind):
        probs, guide, valid = make(shape, kind)
        expected = energy_and_gradients(probs, guide, valid, method="exact", backend="reference")
        for a, b in zip(energy_and_gradients(probs, guide, valid, **how), expected, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=2e-3 * float(b.abs().sum() / max(1, b.numel())) + 1e-12)

    @pytest.mark.parametrize("how", ways("low_rank"))
    @pytest.mark.parametrize("deep", [0, 16, 32])
    def test_errors_are_those_of_the_docstring(self, how, deep):
        probs, guide = scene(deep=deep)
        true = energy_and_gradients(probs, guide, method="exact")
        got = energy_and_gradients(probs, guide, **how)
        assert gap(got[0], true[0]) < 0.01
        assert gap(got[1], true[1]) < 0.04
        assert gap(got[2], true[2]) < 0.08

    def test_more_landmarks_are_better_and_associations_are_never_too_high(self):
        probs, guide = scene()
        true = energy_and_gradients(probs, guide, method="exact")
        found = [energy_and_gradients(probs, guide, method="low_rank", num_landmarks=m) for m in (16, 64, 256)]
        errors = [gap(x[1], true[1]) for x in found]
        assert errors[0] > 2 * errors[1] > 4 * errors[2] > 0
        exact = dense_forms(probs, guide, method="exact")
        for m in (16, 64, 256):
            forms = dense_forms(probs, guide, method="low_rank", num_landmarks=m)
            assert bool((forms.association <= exact.association).all())
            assert bool((forms.total <= exact.total).all())

    @pytest.mark.parametrize("how", ways("low_rank"))
    def test_gradcheck_of_the_values(self, how):
        probs, guide, valid = make((2, 2, 2, 4, 4), "some")
        assert torch.autograd.gradcheck(
            lambda p: tuple(dense_forms(p, guide, valid, num_landmarks=5, **how)), probs.requires_grad_()
        )

    @pytest.mark.parametrize("how", ways("low_rank"))
    def test_gradient_by_the_guide_is_that_of_the_approximation_with_landmarks_held(self, how, monkeypatch):
        probs, guide, valid = make((1, 2, 2, 4, 4), "some")
        m = valid.double().unsqueeze(1)
        held = landmarks((guide - (guide * m).sum((2, 3), keepdim=True) / m.sum()).flatten(2), m[:, 0].flatten(1), 5)
        monkeypatch.setattr("scribbleseg.ops.low_rank.landmarks", lambda *_: held)
        # The op centres the guide, which the held landmarks do not follow: compare pixels that move against each other.
        still = torch.zeros_like(guide)

        def energy(step: Tensor) -> Tensor:
            step = (step - (step * m).sum((2, 3), keepdim=True) / m.sum()) * m
            return dense_energy(probs, guide + step, valid, num_landmarks=5, **how)

        assert torch.autograd.gradcheck(energy, still.requires_grad_())

    def test_landmarks_are_evenly_spread_over_the_valid_pixels(self):
        # Colours that are each pixel's place: landmarks of a 64 x 64 picture in all of it, none on the padding.
        y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
        weight = torch.ones(1, 64, 64)
        weight[..., 48:] = 0
        z = landmarks(torch.stack([x, y]).flatten(1)[None], weight.flatten(1), 48)[0]
        boxes = torch.histogramdd(z.T.double(), bins=[4, 4], range=[0.0, 64.0, 0.0, 64.0]).hist
        assert torch.equal(boxes[3], torch.zeros(4, dtype=torch.float64))
        assert float(boxes[:3].min()) >= 2
        assert float(boxes[:3].max()) <= 7

    def test_landmarks_come_closer_to_the_pixels_than_pixels_picked_evenly(self, monkeypatch):
        guide = scene(side=48)[1].flatten(2)

        def mean_square() -> float:
            z = landmarks(guide, torch.ones_like(guide[:, 0]), 32)
            return float(torch.cdist(guide[0].T, z[0].T).amin(1).square().mean())

        found = mean_square()
        monkeypatch.setattr("scribbleseg.ops.low_rank.ROUNDS", 0)
        assert found < 0.7 * mean_square()

    def test_identical_pixels_do_not_break_it(self):
        probs = torch.rand(1, 3, 20, 20, generator=torch.Generator().manual_seed(1)).softmax(1)
        got = energy_and_gradients(probs, torch.zeros(1, 4, 20, 20), method="low_rank")
        true = energy_and_gradients(probs, torch.zeros(1, 4, 20, 20), method="exact")
        assert gap(got[0], true[0]) < 1e-4
        assert gap(got[1], true[1]) < 1e-4


class TestSpread:
    @pytest.mark.parametrize("count", [1, 7, 60, 200])
    def test_picks_pixels_of_weight_1_alone_and_evenly(self, count):
        weight = (torch.rand(3, 400, generator=torch.Generator().manual_seed(0)) > 0.4).float()
        for row, pixels in zip(weight, spread(weight, count), strict=True):
            assert bool((row[pixels] == 1).all())
            assert pixels.tolist() == sorted(pixels.tolist())
            place = row.cumsum(0)[pixels] / row.sum()
            assert float((place - (torch.arange(count) + 0.5) / count).abs().max()) <= 1 / count + 0.01

    def test_all_pixels_where_there_are_no_more(self):
        weight = torch.tensor([[1.0, 0, 1, 1, 0, 1]])
        assert set(spread(weight, 5)[0].tolist()) == {0, 2, 3, 5}
        assert spread(torch.ones(1, 4), 4).tolist() == [[0, 1, 2, 3]]

    def test_a_first_pixel_of_weight_0_is_not_picked(self):
        assert spread(torch.tensor([[0.0, 0, 1, 1, 1, 1]]), 2).min() == 2

    def test_nothing_valid_is_no_error(self):
        assert spread(torch.zeros(1, 4), 2).shape == (1, 2)

    def test_no_column_is_preferred(self):
        columns = spread(torch.ones(1, 64 * 64), 64)[0] % 64
        assert len(columns.unique()) > 30


@pytest.mark.parametrize("how", ways(definition=True))
class TestEveryMethod:
    def test_views_are_read_as_they_are_seen(self, how):
        probs, guide, valid = make((2, 3, 4, 5, 8), "some")
        turned = [x.transpose(-1, -2).contiguous().transpose(-1, -2) for x in (probs, guide, valid)]
        assert not turned[0].is_contiguous()
        plain = energy_and_gradients(probs, guide, valid, **how)
        for a, b in zip(energy_and_gradients(*turned, **how), plain, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=0)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_is_computed_in_float32(self, how, dtype):
        probs, guide, valid = make((1, 3, 2, 6, 7), "some", dtype)
        narrow = energy_and_gradients(probs, guide, valid, **how)
        wide = energy_and_gradients(probs.float(), guide.float(), valid, **how)
        assert narrow[0].dtype == torch.float32
        assert narrow[1].dtype == dtype
        assert float(narrow[0]) == pytest.approx(float(wide[0]), rel=1e-6)
        torch.testing.assert_close(narrow[1].float(), wide[1], rtol=1e-2, atol=1e-3)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_nothing_valid_is_zero_with_a_zero_gradient(self, how, dtype):
        probs, guide, valid = make((2, 3, 2, 5, 6), "none", dtype)
        value, for_probs, for_guide = energy_and_gradients(probs, guide, valid, **how)
        assert float(value) == 0
        assert torch.equal(for_probs, torch.zeros_like(probs))
        assert torch.equal(for_guide, torch.zeros_like(guide))

    def test_padding_counts_for_nothing_and_gets_nothing(self, how):
        probs, guide, valid = make((2, 3, 2, 5, 6), "some")
        p, g, _ = make((2, 3, 2, 9, 8))
        m = torch.zeros(2, 9, 8, dtype=torch.bool)
        p[..., 2:7, 1:7], g[..., 2:7, 1:7], m[..., 2:7, 1:7] = probs, guide, valid
        small = energy_and_gradients(probs, guide, valid, **how)
        large = energy_and_gradients(p, g, m, **how)
        close = 1e-4 if how["method"] == "low_rank" else 1e-11  # another number of landmarks
        assert float(large[0]) == pytest.approx(float(small[0]), rel=close)
        for inner, outer in zip(small[1:], large[1:], strict=True):
            assert torch.count_nonzero(outer * ~m[:, None]) == 0
            torch.testing.assert_close(outer[..., 2:7, 1:7], inner, rtol=0, atol=30 * close * float(inner.abs().max()))

    def test_certain_and_equal_everywhere_is_zero(self, how):
        _, guide, valid = make((2, 3, 2, 5, 6), "some")
        probs = torch.zeros(2, 3, 5, 6, dtype=torch.float64)
        probs[:, 1] = 1
        assert float(dense_energy(probs, guide, valid, **how)) == pytest.approx(0, abs=1e-11)

    def test_never_negative(self, how):
        probs, guide = scene(side=20)
        assert float(dense_energy((20 * probs.log()).softmax(1), guide, **how)) > 0

    def test_renumbering_classes(self, how):
        probs, guide, valid = make((2, 4, 2, 6, 7), "some")
        other = dense_energy(probs[:, [2, 0, 3, 1]], guide, valid, **how)
        assert float(other) == pytest.approx(float(dense_energy(probs, guide, valid, **how)), rel=1e-11)

    def test_batch_is_the_sum_of_its_images_in_any_order(self, how):
        probs, guide, valid = make((3, 3, 2, 5, 6), "some")
        alone = sum(float(dense_energy(probs[b : b + 1], guide[b : b + 1], valid[b : b + 1], **how)) for b in range(3))
        for order in ([0, 1, 2], [2, 0, 1]):
            assert float(dense_energy(probs[order], guide[order], valid[order], **how)) == pytest.approx(alone, rel=1e-11)

    def test_a_shift_of_the_guide_changes_nothing(self, how):
        probs, guide, valid = make((2, 3, 2, 5, 6), "some")
        shifted = float(dense_energy(probs, guide + 3.25, valid, **how))
        assert shifted == pytest.approx(float(dense_energy(probs, guide, valid, **how)), rel=1e-9)

    def test_the_filter_is_symmetric(self, how):
        v, guide, _ = make((2, 3, 2, 6, 7))
        u = torch.randn(v.shape, generator=torch.Generator().manual_seed(4), dtype=v.dtype)
        left, right = (u * dense_filter(v, guide, **how)).sum(), (v * dense_filter(u, guide, **how)).sum()
        assert float(left) == pytest.approx(float(right), rel=1e-10)

    def test_forms_agree_with_the_filter(self, how):
        probs, guide, _ = make((2, 3, 2, 6, 7))
        forms, filtered = dense_forms(probs, guide, **how), dense_filter(probs, guide, **how)
        torch.testing.assert_close(forms.association, (probs * filtered).sum((2, 3)), rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(forms.volume, filtered.sum((2, 3)), rtol=1e-10, atol=1e-10)

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("which", ["values", "guide"])
    def test_the_check_names_the_input_and_the_place(self, how, bad, which):
        values, guide, valid = make((2, 3, 2, 4, 5))
        {"values": values, "guide": guide}[which][1, 0, 2, 3] = bad
        with pytest.raises(DataError, match=rf"(?s)dense_filter, {which}.*1 values.*\[1, 0, 2, 3\]"):
            dense_filter(values, guide, check=True, **how)
        with pytest.raises(DataError, match="dense_forms"):
            dense_energy(values, guide, valid, check=True, **how)

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e38])
    def test_without_the_check_it_ends(self, how, bad):
        for which in (0, 1):
            inputs = list(make((1, 3, 2, 6, 7), dtype=torch.float32)[:2])
            inputs[which][0, 0, 2, 3] = bad
            value, *_ = energy_and_gradients(*inputs, **how)
            if which == 1 or not math.isfinite(bad):  # finite guides of any size have a kernel; scores are squared
                assert math.isfinite(float(value)) == math.isfinite(bad)

    def test_inputs_are_left_alone(self, how):
        probs, guide, valid = make((2, 3, 2, 5, 6), "some")
        before = probs.clone(), guide.clone(), valid.clone()
        energy_and_gradients(probs, guide, valid, **how)
        assert all(torch.equal(a, b) for a, b in zip((probs, guide, valid), before, strict=True))

    def test_gradient_of_one_input_alone(self, how):
        probs, guide, valid = make((2, 3, 2, 4, 5), "some")
        _, for_probs, for_guide = energy_and_gradients(probs, guide, valid, **how)
        p, g = probs.clone().requires_grad_(), guide.clone().requires_grad_()
        dense_energy(p, guide, valid, **how).mul(1.5).backward()
        torch.testing.assert_close(p.grad, for_probs)
        dense_energy(probs, g, valid, **how).mul(1.5).backward()
        torch.testing.assert_close(g.grad, for_guide)


@pytest.mark.parametrize("how", ways())
class TestTorchLibrary:
    @pytest.mark.parametrize("weighted", [False, True])
    def test_opcheck(self, how, weighted):
        probs, guide, valid = make((1, 3, 2, 4, 5), "some")
        weight = valid.flatten(1).double() if weighted else probs.new_empty(0)
        arguments = (
            probs.flatten(2).requires_grad_(),
            weight,
            guide.flatten(2).requires_grad_(),
            how["method"],
            8,
            how["backend"],
        )
        torch.library.opcheck(torch.ops.scribbleseg.dense_filter, arguments)
        torch.library.opcheck(torch.ops.scribbleseg.dense_forms, arguments)

    def test_autocast(self, how):
        probs, guide, valid = make((1, 3, 2, 7, 6), "some", torch.float32)
        plain = energy_and_gradients(probs, guide, valid, **how)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = energy_and_gradients(probs, guide, valid, **how)
        for a, b in zip(mixed, plain, strict=True):
            torch.testing.assert_close(a, b)


COMPILED_LOSS = """
import torch
from scribbleseg.ops.dense import BACKENDS, dense_energy, dense_filter

torch.manual_seed(0)
torch.set_num_threads(1)
valid = torch.rand(1, 7, 6) > 0.3
inputs = torch.randn(1, 3, 7, 6, requires_grad=True), torch.randn(1, 2, 7, 6, requires_grad=True)
for method, backends in BACKENDS.items():
    for name, backend in backends.items():
        if backend.why_not(torch.device("cpu")) is None:
            how = {"method": method, "backend": name}

            def loss(scores, guide):
                energy = dense_energy(scores.softmax(1), guide, valid, **how)
                return energy + dense_filter(scores, guide, **how).square().sum()

            eager = torch.autograd.grad(loss(*inputs), inputs)
            torch.compiler.reset()
            compiled = torch.autograd.grad(torch.compile(loss, fullgraph=True)(*inputs), inputs)
            for a, b in zip(compiled, eager):
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
            print(f"{method}-{name}")
"""


@pytest.mark.slow
def test_compiles_without_a_break():
    # In a process of its own: the shape checks of the tests cannot be compiled.
    done = subprocess.run([sys.executable, "-c", COMPILED_LOSS], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    here = [f"{m}-{n}" for m, backends in BACKENDS.items() for n, backend in backends.items() if backend.why_not(CPU) is None]
    assert done.stdout.split() == here


@needs_compiled
@pytest.mark.parametrize("method", BACKENDS)
def test_the_number_of_threads_changes_no_bit(method):
    probs, guide = (x.float() for x in scene(side=37))
    results = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        try:
            results.append(energy_and_gradients(probs, guide, method=method, backend="compiled"))
        finally:
            torch.set_num_threads(1)
    # PyTorch's own sums and products around the kernel may split differently.
    exactly = method == "exact"
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=0 if exactly else 1e-5, atol=0 if exactly else 1e-5 * float(b.abs().max()))


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"method": "latice"}, "did you mean 'lattice'"),
        ({"method": "exact", "backend": "torhc"}, "did you mean 'torch'"),
        ({"method": "lattice", "backend": "triton"}, "a known backend"),
        ({"num_landmarks": 0}, "num_landmarks ≥ 1"),
    ],
)
def test_wrong_numbers_are_refused(numbers, message):
    values, guide, _ = make((1, 2, 2, 3, 3))
    for call in (dense_filter, dense_energy, dense_forms):
        with pytest.raises(ConfigError, match=message):
            call(values, guide, **numbers)
