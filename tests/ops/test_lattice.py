from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from scribbleseg.ops.backends import compiled
from scribbleseg.ops.dense import dense_forms
from scribbleseg.ops.dense_compiled import lattice_compiled
from scribbleseg.ops.lattice import corners, hash_numbers, lattice_torch, placement
from tests.ops.test_dense import energy_and_gradients, gap, make, scene, ways

needs_compiled = pytest.mark.skipif(compiled("_dense") is None, reason="scribbleseg-kernels is not installed")
WIDTHS = [1, 2, 3, 5, 8, 13]


def guides(num_pixels: int, width: int, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed + width)
    return 1.5 * torch.randn(num_pixels, width, generator=rng, dtype=torch.float64)


def elevated(guide: list[float]) -> list[float]:
    """Return the guide in the plane x_0 + … + x_d = 0, scaled to the lattice; from the paper's matrix E, row by row."""
    d = len(guide)
    scale = math.sqrt(2 / 3) * (d + 1)
    shifted = [g + s / a for g, a, s in zip(guide, *(x.tolist() for x in placement(d)), strict=True)]
    result = []
    for row in range(d + 1):
        total = 0.0
        for column in range(1, d + 1):
            entry = 1.0 if row < column else -float(column) if row == column else 0.0
            total += entry * shifted[column - 1] / math.sqrt(column * (column + 1)) * scale
        result.append(total)
    return result


def is_key(key: tuple[int, ...]) -> bool:
    """A lattice point has integer coordinates that sum to 0 and are all alike modulo d + 1."""
    return sum(key) == 0 and len({k % len(key) for k in key}) == 1


def simplex(point: list[float]) -> dict[tuple[int, ...], float]:
    """Return corners and barycentric weights, found by trying every lattice point around and every order of the coordinates."""
    n = len(point)
    best: dict[tuple[int, ...], float] = {}
    ranges = [range(math.floor(x / n) * n - n, math.ceil(x / n) * n + n + 1, n) for x in point]
    for zero in itertools.product(*ranges):
        if sum(zero) != 0:
            continue
        gaps = [x - z for x, z in zip(point, zero, strict=True)]
        order = sorted(range(n), key=lambda i: -gaps[i])
        if gaps[order[0]] - gaps[order[-1]] > n:
            continue  # another zero point is nearer
        ranked = [gaps[i] for i in order]
        weights = [1 - (ranked[0] - ranked[-1]) / n] + [(ranked[n - 1 - k] - ranked[n - k]) / n for k in range(1, n)]
        for r in range(n):
            key = list(zero)
            for place, i in enumerate(order):
                key[i] += r if place < n - r else r - n
            assert is_key(tuple(key))
            best[tuple(key)] = best.get(tuple(key), 0.0) + weights[r]
        return best
    raise AssertionError("no simplex")


def loops(guide: Tensor, values: Tensor) -> Tensor:
    """Return S(B + Bᵀ)Sᵀ values by dictionaries of keys; guide (P, G), values (P, N)."""
    homes = [simplex(elevated(g)) for g in guide.tolist()]
    splatted: dict[tuple[int, ...], Tensor] = {}
    for home, v in zip(homes, values, strict=True):
        for key, weight in home.items():
            splatted[key] = splatted.get(key, torch.zeros_like(v)) + weight * v
    n = guide.shape[1] + 1
    total = {key: torch.zeros_like(v) for key, v in splatted.items()}
    for directions in (range(n), reversed(range(n))):
        blurred = dict(splatted)
        for k in directions:
            step = [n - 1 if i == k else -1 for i in range(n)]
            ahead = {key: tuple(a + b for a, b in zip(key, step, strict=True)) for key in blurred}
            behind = {key: tuple(a - b for a, b in zip(key, step, strict=True)) for key in blurred}
            zero = torch.zeros_like(values[0])
            blurred = {
                key: v + 0.5 * (blurred.get(ahead[key], zero) + blurred.get(behind[key], zero)) for key, v in blurred.items()
            }
        for key, v in blurred.items():
            total[key] = total[key] + v
    return torch.stack([sum((w * total[key] for key, w in home.items()), torch.zeros_like(values[0])) for home in homes])


class TestCorners:
    @pytest.mark.parametrize("width", WIDTHS)
    def test_weights_are_barycentric(self, width):
        names, weights, steps = corners(guides(200, width))
        assert names.shape == weights.shape == (200, width + 1)
        assert len(steps) == width + 1
        assert float(weights.min()) >= -1e-12
        torch.testing.assert_close(weights.sum(1), torch.ones(200, dtype=torch.float64))

    @pytest.mark.parametrize("width", [1, 2, 3, 4])
    def test_corners_are_those_found_by_trying(self, width):
        guide = guides(40, width)
        names, weights, _ = corners(guide)
        hashes = [*hash_numbers(width).tolist(), 0]
        for row, g in enumerate(guide.tolist()):
            expected = {}
            for key, weight in simplex(elevated(g)).items():
                name = sum(a * b for a, b in zip(key, hashes, strict=True)) % 2**64
                expected[name if name < 2**63 else name - 2**64] = weight
            assert set(names[row].tolist()) == set(expected)
            for name, weight in zip(names[row].tolist(), weights[row].tolist(), strict=True):
                assert weight == pytest.approx(expected[name], abs=1e-12)

    @pytest.mark.parametrize("width", [1, 3, 7])
    def test_steps_lead_to_a_neighbour_and_around(self, width):
        # One step along every direction comes back: the directions sum to zero.
        *_, steps = corners(guides(1, width))
        assert int(steps.sum()) == 0
        assert len(set(steps.tolist())) == width + 1

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_what_is_not_finite_gives_nan_weights(self, bad):
        guide = guides(3, 4)
        guide[1, 2] = bad
        _, weights, _ = corners(guide)
        assert torch.isnan(weights[1]).all()
        assert torch.isfinite(weights[[0, 2]]).all()

    def test_huge_guides_have_a_place(self):
        _, weights, _ = corners(1e300 * guides(20, 3))
        assert torch.isfinite(weights).all()


@pytest.mark.parametrize("filter_", [lattice_torch, pytest.param(lattice_compiled, marks=needs_compiled)])
class TestFilter:
    @pytest.mark.parametrize("width", [1, 2, 3])
    def test_equals_dictionaries(self, filter_, width):
        guide = guides(50, width)
        values = torch.randn(50, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        values[:, -1] = 1
        got = filter_(guide.T[None].contiguous(), values.T[None].contiguous())[0].T
        torch.testing.assert_close(got, loops(guide, values), rtol=1e-12, atol=1e-12)

    def test_a_pixel_of_weight_zero_is_not_there(self, filter_):
        guide, values = guides(30, 3).T[None].contiguous(), torch.ones(1, 2, 30, dtype=torch.float64)
        values[:, 0] = torch.arange(30)
        values[:, :, ::3] = 0
        keep = values[0, -1] != 0
        got = filter_(guide, values)
        assert torch.count_nonzero(got[..., ~keep]) == 0
        torch.testing.assert_close(got[..., keep], filter_(guide[..., keep].contiguous(), values[..., keep].contiguous()))

    @pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 17), (1, 2, 523), (3, 64, 9)], ids=str)
    @pytest.mark.parametrize("width", WIDTHS)
    def test_is_symmetric_and_has_no_negative_entry(self, filter_, shape, width):
        rng = torch.Generator().manual_seed(width)
        u, v = torch.rand(2, *shape, generator=rng, dtype=torch.float64)
        u[:, -1] = v[:, -1] = 1
        guide = torch.stack([guides(shape[2], width, image).T for image in range(shape[0])])
        filtered = filter_(guide, v)
        assert float((u * filtered).sum()) == pytest.approx(float((v * filter_(guide, u)).sum()), rel=1e-12)
        assert float(filtered.min()) > 0


@needs_compiled
class TestCompiled:
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
    @pytest.mark.parametrize(
        "shape", [(1, 1, 1, 1), (2, 3, 2, 67), (1, 22, 5, 1021), (1, 4, 64, 130), (1, 65, 1, 257), (2, 9, 3, 4096)], ids=str
    )
    def test_equals_the_portable_one(self, shape, dtype):
        b, n, g, p = shape
        rng = torch.Generator().manual_seed(sum(shape))
        guide = torch.randn(b, g, p, generator=rng, dtype=torch.float64).to(dtype)
        values = torch.randn(b, n, p, generator=rng, dtype=torch.float64).to(dtype)
        values[:, -1] = (torch.rand(b, p, generator=rng) > 0.1).to(dtype)
        got, true = lattice_compiled(guide, values), lattice_torch(guide, values)
        assert got.dtype == dtype
        close = 1e-12 if dtype == torch.float64 else 1e-5
        assert float((got - true).abs().max()) <= close * float(true.abs().max())

    def test_the_number_of_threads_changes_no_bit(self):
        values = torch.rand(2, 7, 3000, generator=torch.Generator().manual_seed(0))
        guide = torch.stack([guides(3000, 4, image).T for image in (0, 1)]).float()
        alone = lattice_compiled(guide, values)
        torch.set_num_threads(3)
        try:
            together = lattice_compiled(guide, values)
        finally:
            torch.set_num_threads(1)
        assert torch.equal(alone, together)

    @pytest.mark.parametrize("bad", [math.nan, math.inf, 1e38])
    def test_what_is_not_finite_ends(self, bad):
        guide, values = guides(50, 4).T[None].float().contiguous(), torch.ones(1, 2, 50)
        guide[0, 2, 7] = bad
        result = lattice_compiled(guide, values)
        assert torch.isnan(result[0, :, 7]).all() or bad == 1e38

    def test_arrays_of_other_shapes_are_refused(self):
        module = compiled("_dense")
        numbers = (*placement(3), hash_numbers(3))
        with pytest.raises(ValueError, match="differ in shape"):
            module.lattice(torch.zeros(1, 3, 5), torch.zeros(1, 2, 4), torch.zeros(1, 2, 4), *numbers, 1)
        with pytest.raises(ValueError, match="differ in shape"):
            module.lattice(torch.zeros(1, 2, 4), torch.zeros(1, 2, 4), torch.zeros(1, 2, 4), *numbers, 1)
        with pytest.raises(ValueError, match="differ in shape"):
            module.gaussian_sum(torch.zeros(1, 2, 4), torch.zeros(1, 2, 5), None, torch.zeros(1, 2, 4), torch.zeros(1, 2, 4), 1)


@pytest.mark.parametrize("how", ways("lattice"))
class TestMethod:
    def test_errors_are_those_of_the_docstring(self, how):
        probs, guide = scene(side=48)
        true = energy_and_gradients(probs, guide, method="exact")
        got = energy_and_gradients(probs, guide, **how)
        assert gap(got[0], true[0]) < 0.02
        assert gap(got[1], true[1]) < 0.1
        assert gap(got[2], true[2]) < 0.25

    def test_degrees_are_true_in_the_mean(self, how):
        # More pixels than the true degrees are summed over, and some padding.
        probs, guide = scene(side=80)
        valid = torch.ones(1, 80, 80, dtype=torch.bool)
        valid[..., 70:] = False
        total = dense_forms(probs, guide, valid, **how).total
        true = dense_forms(probs, guide, valid, method="exact").total
        assert gap(total, true) < 0.02

    def test_gradcheck_of_the_values(self, how):
        probs, guide, valid = make((2, 2, 3, 4, 4), "some")
        assert torch.autograd.gradcheck(lambda p: tuple(dense_forms(p, guide, valid, **how)), probs.requires_grad_())

    def test_padding_changes_nothing(self, how):
        probs, guide, valid = make((1, 3, 2, 5, 6), "some")
        p, g, _ = make((1, 3, 2, 9, 8))
        m = torch.zeros(1, 9, 8, dtype=torch.bool)
        p[..., 2:7, 1:7], g[..., 2:7, 1:7], m[..., 2:7, 1:7] = probs, guide, valid
        small = energy_and_gradients(probs, guide, valid, **how)
        large = energy_and_gradients(p, g, m, **how)
        assert float(large[0]) == pytest.approx(float(small[0]), rel=1e-11)
        for inner, outer in zip(small[1:], large[1:], strict=True):
            torch.testing.assert_close(outer[..., 2:7, 1:7], inner, rtol=1e-10, atol=1e-12)
