from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from scribbleseg.errors import ConfigError, DataError
from scribbleseg.ops.backends import BY_NAME_ONLY, compiled
from scribbleseg.ops.tree import BACKENDS, Tree, spanning_tree, tree_filter
from scribbleseg.ops.tree_edges import grid_distances
from tests.reference import tree as truth

CPU = torch.device("cpu")


def backend_cases(*, definition: bool = False) -> list[object]:
    """Return the backends that this machine has as parameters; a missing one is a skipped test that says why."""
    cases = []
    for name, backend in BACKENDS.items():
        reason = backend.why_not(CPU)
        if name == "triton" or (name == "reference" and not definition):
            continue  # Triton's own tests are in test_tree_triton.py
        asked_only = reason is not None and reason.startswith(BY_NAME_ONLY)
        cases.append(pytest.param(name, marks=pytest.mark.skipif(reason is not None and not asked_only, reason=str(reason))))
    return cases


every_backend = pytest.mark.parametrize("backend", backend_cases(definition=True))
every_fast_backend = pytest.mark.parametrize("backend", backend_cases())

# (B, C, G, H, W), which pixels are valid
CASES = [
    pytest.param((2, 3, 2, 5, 7), "all", id="plain"),
    pytest.param((2, 3, 4, 7, 5), "some", id="holes"),
    pytest.param((3, 2, 2, 4, 4), "not the second", id="one image all padding"),
    pytest.param((2, 2, 2, 4, 4), "none", id="all padding"),
    pytest.param((2, 2, 2, 5, 6), "a corner", id="padding at the right and below"),
    pytest.param((1, 3, 2, 1, 9), "all", id="one row"),
    pytest.param((1, 3, 2, 9, 1), "all", id="one column"),
    pytest.param((1, 3, 2, 9, 1), "some", id="one column with holes"),
    pytest.param((1, 3, 2, 2, 2), "all", id="four pixels"),
    pytest.param((1, 3, 2, 1, 1), "all", id="one pixel"),
    pytest.param((1, 9, 0, 4, 5), "all", id="no guide"),
    pytest.param((1, 5, 0, 4, 5), "some", id="no guide, holes"),
    pytest.param((1, 1, 1, 3, 11), "all", id="one class, one channel"),
]


def make(shape: tuple[int, ...], kind: str = "all", dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    b, c, g, h, w = shape
    rng = torch.Generator().manual_seed(b + 10 * c + 100 * g + 1000 * h + 10000 * w)
    values = torch.randn(b, c, h, w, generator=rng, dtype=torch.float64)
    guide = 0.5 * torch.randn(b, g, h, w, generator=rng, dtype=torch.float64)
    valid = torch.ones(b, h, w, dtype=torch.bool)
    if kind == "some":
        valid = torch.rand(b, h, w, generator=rng) > 0.2
    elif kind == "not the second":
        valid[1] = False
    elif kind == "none":
        valid[:] = False
    elif kind == "a corner":
        valid[..., -2:] = False
        valid[:, -1:] = False
    return values.to(dtype), guide.to(dtype), valid


def tied(kind: str, height: int, width: int, num_images: int = 2) -> Tensor:
    """Return a guide in which many edges are equally heavy; its distances are exact in any arithmetic."""
    rng = torch.Generator().manual_seed(height + 100 * width)
    guide = torch.zeros(num_images, 3, height, width, dtype=torch.float64)
    if kind == "few levels":
        guide = torch.randint(0, 3, guide.shape, generator=rng).double()
    elif kind == "eight bits":
        guide = torch.randint(0, 256, guide.shape, generator=rng).double()
    elif kind == "ramp":
        guide[:, 0] = torch.arange(width).double()
        guide[:, 1] = torch.arange(height).double()[:, None]
    return guide


every_tie = pytest.mark.parametrize("kind", ["flat", "few levels", "eight bits", "ramp"])


def edge_set(tree: Tree, image: int = 0) -> set[tuple[int, int]]:
    return {(min(v, p), max(v, p)) for v, p in enumerate(tree.parent[image].tolist()) if p != v}


def output_and_gradients(values: Tensor, guide: Tensor, **how: object) -> tuple[Tensor, Tensor, Tensor]:
    values, guide = values.clone().requires_grad_(), guide.clone().requires_grad_()
    filtered = tree_filter(values, guide, **how)
    mix = torch.linspace(-1, 2, filtered.numel(), dtype=filtered.dtype).view(filtered.shape).sin()
    grads = torch.autograd.grad((filtered * mix).sum(), [values, guide], allow_unused=True)
    return filtered.detach(), *(torch.zeros_like(x) if g is None else g for g, x in zip(grads, (values, guide), strict=True))


class TestTree:
    @every_backend
    @pytest.mark.parametrize(("shape", "kind"), CASES)
    def test_equals_kruskal(self, backend, shape, kind):
        _, guide, valid = make(shape, kind)
        tree = spanning_tree(guide, valid, backend=backend)
        for b in range(shape[0]):
            expected = truth.spanning_tree(guide[b].tolist(), valid[b].tolist())
            assert edge_set(tree, b) == {edge for edge, whole in expected.items() if whole}

    @every_backend
    @every_tie
    @pytest.mark.parametrize("size", [(1, 6), (6, 1), (5, 7), (6, 6)])
    def test_ties_are_broken_by_the_order_of_the_edges(self, backend, kind, size):
        guide = tied(kind, *size)
        tree = spanning_tree(guide, backend=backend)
        everything = torch.ones(size, dtype=torch.bool).tolist()
        for b in range(2):
            assert edge_set(tree, b) == set(truth.spanning_tree(guide[b].tolist(), everything))

    @pytest.mark.skipif(compiled("_tree") is None, reason="scribbleseg-kernels is not installed")
    @pytest.mark.parametrize("kind", ["flat", "few levels", "eight bits", "ramp", "random"])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("holes", [False, True])
    def test_large_trees_of_the_backends_are_the_same(self, kind, dtype, holes):
        guide = (make((2, 1, 3, 61, 67))[1] if kind == "random" else tied(kind, 61, 67)).to(dtype)
        valid = make((2, 1, 3, 61, 67), "some")[2] if holes else None
        assert torch.equal(
            spanning_tree(guide, valid, backend="torch").parent, spanning_tree(guide, valid, backend="compiled").parent
        )

    @every_backend
    @pytest.mark.parametrize(("shape", "kind"), CASES)
    def test_parents_come_before_their_children(self, backend, shape, kind):
        _, guide, valid = make(shape, kind)
        tree = spanning_tree(guide, valid, backend=backend)
        assert tree.order.sort().values.equal(torch.arange(shape[3] * shape[4], dtype=torch.int32).expand_as(tree.order))
        for parent, order in zip(tree.parent.tolist(), tree.order.tolist(), strict=True):
            turn = {pixel: n for n, pixel in enumerate(order)}
            assert all(turn[parent[v]] < turn[v] for v in order if parent[v] != v)

    @every_backend
    def test_hangs_from_pixel_0(self, backend):
        _, guide, _ = make((2, 1, 2, 6, 5))
        tree = spanning_tree(guide, backend=backend)
        assert (tree.parent == torch.arange(30)).sum(1).tolist() == [1, 1]
        assert tree.parent[:, 0].tolist() == [0, 0]

    @every_backend
    @pytest.mark.parametrize("axes", [(-1,), (-2,), (-1, -2)])
    def test_flips_where_it_is_unique(self, backend, axes):
        _, guide, _ = make((1, 1, 2, 6, 5))
        pixel = torch.arange(30).view(6, 5).flip(axes).flatten().tolist()
        flipped = edge_set(spanning_tree(guide.flip(axes), backend=backend))
        there = {(min(pixel[u], pixel[v]), max(pixel[u], pixel[v])) for u, v in flipped}
        assert there == edge_set(spanning_tree(guide, backend=backend))

    @every_backend
    def test_strides_of_the_guide_do_not_matter(self, backend):
        guide = (
            torch.rand(1, 19, 7, 9, generator=torch.Generator().manual_seed(3)).mul(4).round() / 7
        )  # not exact: ties in the last bit
        other = guide.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
        assert torch.equal(spanning_tree(guide, backend=backend).parent, spanning_tree(other, backend=backend).parent)

    @every_backend
    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_edges_that_are_not_finite_are_the_heaviest(self, backend, bad):
        _, guide, _ = make((1, 1, 2, 5, 6))
        guide[0, 0, 2, 3] = bad
        tree = spanning_tree(guide, backend=backend)
        assert edge_set(tree) == set(truth.spanning_tree(guide[0].tolist(), [[True] * 6] * 5))
        bad_pixel = 2 * 6 + 3
        assert sum(bad_pixel in edge for edge in edge_set(tree)) == 1

    @every_backend
    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_but_lighter_than_edges_to_padding(self, backend, bad):
        rng = torch.Generator().manual_seed(4)
        guide = torch.rand(8, 1, 5, 6, generator=rng, dtype=torch.float64)
        guide[torch.rand(guide.shape, generator=rng) < 0.3] = bad
        valid = torch.rand(8, 5, 6, generator=rng) > 0.2
        tree = spanning_tree(guide, valid, backend=backend)
        for b in range(8):
            expected = truth.spanning_tree(guide[b].tolist(), valid[b].tolist())
            assert edge_set(tree, b) == {edge for edge, whole in expected.items() if whole}

    def test_known_by_hand(self):
        # 0 1
        # 9 2: the edges weigh 1 (top), 49 (bottom), 81 (left), 1 (right); the left one is the heaviest.
        guide = torch.tensor([[0.0, 1.0], [9.0, 2.0]]).view(1, 1, 2, 2)
        tree = spanning_tree(guide)
        assert tree.parent.tolist() == [[0, 0, 3, 1]]
        assert tree.order.tolist() == [[0, 1, 3, 2]]


class TestAgainstTheTruth:
    @pytest.mark.parametrize(("shape", "kind"), CASES)
    def test_definition_equals_the_loops(self, shape, kind):
        values, guide, valid = make(shape, kind)
        other = make((shape[0], 1, 2, *shape[3:]))[1]
        expected = torch.tensor(truth.tree_filter(values, guide, other, valid), dtype=torch.float64).view(values.shape)
        got = tree_filter(values, guide, other, valid=valid, backend="reference")
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-13)

    @every_fast_backend
    @pytest.mark.parametrize(("shape", "kind"), CASES)
    def test_backend_equals_the_definition(self, backend, shape, kind):
        values, guide, valid = make(shape, kind)
        expected = output_and_gradients(values, guide, valid=valid, backend="reference")
        for a, b in zip(output_and_gradients(values, guide, valid=valid, backend=backend), expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)

    @every_fast_backend
    def test_a_tree_of_another_guide(self, backend):
        values, guide, valid = make((2, 3, 2, 6, 5), "some")
        other = make((2, 1, 4, 6, 5))[1]
        expected = output_and_gradients(values, guide, tree_guide=other, valid=valid, backend="reference")
        got = output_and_gradients(values, guide, tree_guide=other, valid=valid, backend=backend)
        same = output_and_gradients(values, guide, tree=spanning_tree(other, valid, backend=backend), backend=backend)
        for a, b, c in zip(got, expected, same, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)
            assert torch.equal(a, c)

    @every_backend
    @pytest.mark.parametrize("kind", ["all", "some"])
    def test_gradcheck(self, backend, kind):
        values, guide, valid = make((2, 3, 2, 3, 4), kind)
        tree = spanning_tree(guide, valid)  # held: a step of the check must not change it
        inputs = (values.requires_grad_(), guide.requires_grad_())
        assert torch.autograd.gradcheck(lambda y, f: tree_filter(y, f, tree=tree, backend=backend), inputs)

    @every_fast_backend
    def test_gradient_of_one_input_alone(self, backend):
        values, guide, valid = make((2, 3, 2, 4, 5), "some")
        _, for_values, for_guide = output_and_gradients(values, guide, valid=valid, backend=backend)
        mix = torch.linspace(-1, 2, values.numel(), dtype=values.dtype).view(values.shape).sin()
        y = values.clone().requires_grad_()
        (tree_filter(y, guide, valid=valid, backend=backend) * mix).sum().backward()
        torch.testing.assert_close(y.grad, for_values)
        f = guide.clone().requires_grad_()
        (tree_filter(values, f, valid=valid, backend=backend) * mix).sum().backward()
        torch.testing.assert_close(f.grad, for_guide)

    @every_fast_backend
    @pytest.mark.parametrize(
        "shape",
        [
            (1, 1, 1, 7, 1),
            (2, 2, 5, 13, 17),
            (1, 21, 3, 11, 13),
            (1, 64, 2, 5, 19),
            (1, 3, 64, 11, 7),
            (1, 16, 19, 4, 37),
            (1, 17, 0, 2, 31),
        ],
        ids=str,
    )
    def test_float32_on_sizes_that_are_no_multiple_of_anything(self, backend, shape):
        values, guide, valid = make(shape, "some", torch.float32)
        guide = guide / max(1, shape[2]) ** 0.5
        tree = spanning_tree(guide, valid, backend=backend)
        got = output_and_gradients(values, guide, tree=tree, backend=backend)
        wide = output_and_gradients(values.double(), guide.double(), tree=tree, backend="reference")
        for a, b in zip(got, wide, strict=True):
            assert a.dtype == torch.float32
            assert float((a.double() - b).abs().sum()) <= 2e-5 * float(b.abs().sum()) + 1e-9


@every_fast_backend
class TestScale:
    def test_a_path_of_thousands(self, backend):
        # One row, all affinities q: K is a Toeplitz matrix, its row sums are geometric series.
        n, q = 4999, 0.99
        guide = (torch.arange(n, dtype=torch.float64) * math.sqrt(-math.log(q))).view(1, 1, 1, n)
        values = torch.randn(1, 2, 1, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        place = torch.arange(n, dtype=torch.float64)
        kernel = q ** (place[:, None] - place).abs()
        expected = (values[0, :, 0] @ kernel) / kernel.sum(0)
        torch.testing.assert_close(tree_filter(values, guide, backend=backend)[0, :, 0], expected, rtol=1e-9, atol=1e-12)

    @pytest.mark.parametrize("kind", ["random", "few levels", "flat"])
    def test_a_larger_map_in_float32(self, backend, kind):
        values, guide, valid = make((2, 5, 3, 61, 67), "some", torch.float32)
        if kind != "random":
            guide = 0.3 * tied(kind, 61, 67).float()
        tree = spanning_tree(guide, valid, backend="torch")
        got = output_and_gradients(values, guide, tree=tree, backend=backend)
        wide = output_and_gradients(values.double(), guide.double(), tree=tree, backend="torch")
        for a, b in zip(got, wide, strict=True):
            assert float((a.double() - b).abs().sum()) <= 2e-5 * float(b.abs().sum())

    def test_affinities_that_vanish_leave_the_values(self, backend):
        values, guide, _ = make((1, 3, 2, 6, 7), dtype=torch.float32)
        filtered, for_values, for_guide = output_and_gradients(values, 1e4 * guide, backend=backend)
        assert torch.equal(filtered, values)
        assert torch.isfinite(for_values).all()
        assert torch.equal(for_guide, torch.zeros_like(for_guide))


class TestKnownValues:
    @every_backend
    def test_two_pixels(self, backend):
        # Guide 1 apart: a = 1/e, ŷ_0 = (y_0 + a y_1) / (1 + a).
        values = torch.tensor([2.0, 5.0], dtype=torch.float64).view(1, 1, 1, 2)
        guide = torch.tensor([0.0, 1.0], dtype=torch.float64).view(1, 1, 1, 2)
        a = math.exp(-1)
        expected = [(2 + 5 * a) / (1 + a), (5 + 2 * a) / (1 + a)]
        assert tree_filter(values, guide, backend=backend).flatten().tolist() == pytest.approx(expected, rel=1e-12)

    @every_backend
    def test_without_a_guide_it_is_the_mean_of_the_map(self, backend):
        values, _, _ = make((2, 3, 0, 5, 7))
        expected = values.mean((2, 3), keepdim=True).expand_as(values)
        torch.testing.assert_close(tree_filter(values, values[:, :0], backend=backend), expected)

    @every_backend
    def test_without_a_guide_but_with_padding_it_is_the_mean_of_each_part(self, backend):
        values, _, valid = make((1, 2, 0, 5, 7))
        valid[0, :, 3] = False
        filtered = tree_filter(values, values[:, :0], valid=valid, backend=backend)
        for part in (slice(0, 3), slice(4, 7)):
            expected = values[..., part].mean((2, 3), keepdim=True).expand_as(values[..., part])
            torch.testing.assert_close(filtered[..., part], expected)
        assert torch.equal(filtered[..., 3], values[..., 3])

    @every_backend
    def test_the_way_around_a_wall_is_the_way(self, backend):
        # A wall of another colour with a gap in the last row: the two pixels beside its top are 10 steps apart, not 2.
        guide = torch.zeros(1, 1, 5, 3, dtype=torch.float64)
        guide[0, 0, :4, 1] = 3.0
        tree = spanning_tree(guide, backend=backend)
        checks = 0.1 * ((torch.arange(5)[:, None] + torch.arange(3)) % 2).double()[None, None]  # a = exp(−0.01) everywhere
        values = torch.zeros(1, 2, 5, 3, dtype=torch.float64)
        values[0, 0, 0, 0] = values[0, 1, 0, 2] = 1.0
        own, across = tree_filter(values, checks, tree=tree, backend=backend)[0, :, 0, 0].tolist()
        assert across / own == pytest.approx(math.exp(-0.1), rel=1e-12)

    @pytest.mark.parametrize("size", [(4, 5), (1, 5), (4, 1), (1, 1)])
    def test_gradcheck_of_the_distances(self, size):
        guide = make((2, 1, 3, *size))[1].requires_grad_()
        assert torch.autograd.gradcheck(grid_distances, guide)

    def test_distances_of_a_grid(self):
        guide = torch.tensor([[0.0, 1.0, 3.0], [0.0, 5.0, 3.0]], dtype=torch.float64).view(1, 1, 2, 3)
        assert grid_distances(guide).tolist() == [[[[1, 4, 0], [25, 4, 0]], [[0, 16, 0], [0, 0, 0]]]]


@pytest.mark.parametrize("kind", ["all", "some"])
class TestInvariance:
    def test_a_constant_stays(self, kind):
        values, guide, valid = make((2, 4, 2, 6, 7), kind)
        shifted = tree_filter(values + 3, guide, valid=valid) - tree_filter(values, guide, valid=valid)
        torch.testing.assert_close(shifted, torch.full_like(shifted, 3))

    def test_probabilities_stay_probabilities(self, kind):
        values, guide, valid = make((2, 4, 2, 6, 7), kind)
        filtered = tree_filter(values.softmax(1), guide, valid=valid)
        assert float(filtered.min()) > 0
        torch.testing.assert_close(filtered.sum(1), torch.ones_like(filtered[:, 0]))

    def test_renumbering_classes(self, kind):
        values, guide, valid = make((2, 4, 2, 6, 7), kind)
        order = [2, 0, 3, 1]
        expected = tree_filter(values, guide, valid=valid)[:, order]
        torch.testing.assert_close(tree_filter(values[:, order], guide, valid=valid), expected)

    @pytest.mark.parametrize("axes", [(-1,), (-2,), (-1, -2)])
    def test_flips(self, kind, axes):
        values, guide, valid = make((2, 3, 2, 6, 7), kind)
        flipped = tree_filter(values.flip(axes), guide.flip(axes), valid=valid.flip(axes)).flip(axes)
        torch.testing.assert_close(flipped, tree_filter(values, guide, valid=valid))

    def test_transposition(self, kind):
        values, guide, valid = make((2, 3, 2, 6, 7), kind)
        turned = tree_filter(values.mT, guide.mT, valid=valid.mT).mT
        torch.testing.assert_close(turned, tree_filter(values, guide, valid=valid))

    def test_order_of_the_batch(self, kind):
        values, guide, valid = make((3, 3, 2, 5, 6), kind)
        order = [2, 0, 1]
        expected = tree_filter(values, guide, valid=valid)[order]
        assert torch.equal(tree_filter(values[order], guide[order], valid=valid[order]), expected)

    @pytest.mark.parametrize("ties", [False, True])
    def test_padding_with_anything(self, kind, ties):
        values, guide, valid = make((2, 3, 3, 5, 6), kind)
        guide = tied("few levels", 5, 6) if ties else guide
        pad = torch.nn.functional.pad
        larger = tree_filter(
            pad(values, (0, 3, 0, 2), value=9.0), pad(guide, (0, 3, 0, 2), value=1.0), valid=pad(valid, (0, 3, 0, 2))
        )
        torch.testing.assert_close(larger[..., :5, :6], tree_filter(values, guide, valid=valid))


@every_fast_backend
def test_views_are_read_as_they_are_seen(backend):
    values, guide, valid = make((2, 3, 4, 6, 8), "some")
    turned = [x.transpose(-1, -2).contiguous().transpose(-1, -2) for x in (values, guide, valid)]
    assert not turned[0].is_contiguous()
    for a, b in zip(
        output_and_gradients(turned[0], turned[1], valid=turned[2], backend=backend),
        output_and_gradients(values, guide, valid=valid, backend=backend),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@every_backend
def test_half_precision_is_computed_in_float32(backend, dtype):
    values, guide, valid = make((1, 3, 2, 6, 7), "some", dtype)
    narrow = output_and_gradients(values, guide, valid=valid, backend=backend)
    wide = output_and_gradients(values.float(), guide.float(), valid=valid, backend=backend)
    assert narrow[0].dtype == torch.float32
    assert narrow[1].dtype == narrow[2].dtype == dtype
    assert torch.equal(narrow[0], wide[0])
    torch.testing.assert_close(narrow[1].float(), wide[1], rtol=1e-2, atol=1e-3)
    torch.testing.assert_close(narrow[2].float(), wide[2], rtol=1e-2, atol=1e-3)


@every_fast_backend
@pytest.mark.parametrize("shape", [(0, 3, 2, 4, 5), (2, 0, 2, 4, 5)], ids=["no images", "no classes"])
def test_nothing_in_nothing_out(backend, shape):
    values, guide, _ = make(shape)
    filtered, _, for_guide = output_and_gradients(values, guide, backend=backend)
    assert filtered.shape == values.shape
    assert torch.equal(for_guide, torch.zeros_like(guide))


@pytest.mark.skipif(compiled("_tree") is None, reason="scribbleseg-kernels is not installed")
def test_the_number_of_threads_changes_no_bit():
    values, guide, valid = make((2, 21, 6, 33, 29), "some", torch.float32)
    alone = output_and_gradients(values, guide, valid=valid, backend="compiled")
    torch.set_num_threads(3)
    try:
        together = output_and_gradients(values, guide, valid=valid, backend="compiled")
    finally:
        torch.set_num_threads(1)
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


@pytest.mark.skipif(compiled("_tree") is None, reason="scribbleseg-kernels is not installed")
@pytest.mark.parametrize("bad", [-1, 20, 2**30])
@pytest.mark.parametrize("which", [0, 1])
def test_a_tree_with_impossible_numbers_is_refused(bad, which):
    values, guide, _ = make((1, 3, 2, 4, 5))
    tree = spanning_tree(guide)
    tree[which][0, 7] = bad
    with pytest.raises(ValueError, match="not a pixel of the grid"):
        tree_filter(values, guide, tree=tree, backend="compiled")


COMPILED_LOSS = """
import torch
from scribbleseg.ops.tree import BACKENDS, spanning_tree, tree_filter

scores, guide = (torch.randn(1, n, 7, 6, requires_grad=True) for n in (3, 2))
valid = torch.rand(1, 7, 6) > 0.2
for name, backend in BACKENDS.items():
    if backend.why_not(scores.device) is None:
        def loss(scores, guide):
            tree = spanning_tree(guide, valid, backend=name)
            probs = scores.softmax(1)
            target = tree_filter(tree_filter(probs, guide, tree=tree, backend=name), guide, valid=valid)
            return (probs - target).abs().sum()

        eager = torch.autograd.grad(loss(scores, guide), [scores, guide])
        compiled = torch.autograd.grad(torch.compile(loss, fullgraph=True)(scores, guide), [scores, guide])
        for a, b in zip(compiled, eager):
            torch.testing.assert_close(a, b)
        print(name)
"""


class TestTorchLibrary:
    @every_fast_backend
    @pytest.mark.parametrize("kind", ["all", "some"])
    def test_opcheck(self, backend, kind):
        values, guide, valid = make((1, 3, 2, 5, 6), kind)
        ops = torch.ops.scribbleseg
        torch.library.opcheck(ops.grid_distances, (guide.clone().requires_grad_(),))
        torch.library.opcheck(ops.grid_distances_gradient, (grid_distances(guide), guide))
        torch.library.opcheck(ops.spanning_tree, (guide, valid if kind == "some" else None, backend))
        tree = spanning_tree(guide, valid)
        affinity = torch.exp(-grid_distances(guide))
        arguments = (values.requires_grad_(), affinity.requires_grad_(), tree.parent, tree.order, backend)
        torch.library.opcheck(ops.tree_filter, arguments)
        assert [x.requires_grad for x in ops.tree_filter(*arguments)] == [True, False]
        with torch.no_grad():
            filtered, norm = ops.tree_filter(*arguments)
            inputs = (values, values, filtered, norm, affinity, tree.parent, tree.order)
            for wanted in [(True, True), (True, False), (False, True)]:
                torch.library.opcheck(ops.tree_filter_gradient, ([x.detach() for x in inputs] + [backend, *wanted]))

    @pytest.mark.slow
    def test_compiles_without_a_break(self):
        # In a process of its own: the shape checks of the tests cannot be compiled.
        done = subprocess.run([sys.executable, "-c", COMPILED_LOSS], capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == [name for name, backend in BACKENDS.items() if backend.why_not(CPU) is None]

    @every_fast_backend
    def test_autocast(self, backend):
        values, guide, valid = make((1, 3, 2, 7, 6), "some", torch.float32)
        plain = output_and_gradients(values, guide, valid=valid, backend=backend)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = output_and_gradients(values, guide, valid=valid, backend=backend)
        for a, b in zip(mixed, plain, strict=True):
            torch.testing.assert_close(a, b)


class TestNotFinite:
    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("which", ["values", "guide", "tree_guide"])
    def test_the_check_names_the_input_and_the_place(self, bad, which):
        values, guide, _ = make((2, 3, 3, 4, 5))
        inputs = {"values": values, "guide": guide, "tree_guide": guide.clone()}
        inputs[which][1, 0, 2, 3] = bad
        with pytest.raises(DataError, match=rf"(?s)tree_filter, {which}.*1 values.*\[1, 0, 2, 3\]"):
            tree_filter(**inputs, check=True)

    def test_the_check_of_a_tree(self):
        _, guide, _ = make((1, 3, 3, 4, 5))
        guide[0, 0, 0, 1] = math.nan
        with pytest.raises(DataError, match=r"(?s)spanning_tree, guide.*1 values.*\[0, 0, 0, 1\]"):
            spanning_tree(guide, check=True)

    @every_backend
    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_without_the_check_it_ends_and_other_images_are_as_they_were(self, bad, backend):
        values, guide, valid = make((2, 3, 2, 6, 7), dtype=torch.float32)
        expected = output_and_gradients(values, guide, valid=valid, backend=backend)
        values[0, 0, 2, 3] = bad
        guide[0, 1, 4, 4] = bad
        got = output_and_gradients(values, guide, valid=valid, backend=backend)
        assert not torch.isfinite(got[0][0, 0]).all(), "it went unseen"
        for a, b in zip(got, expected, strict=True):
            assert torch.equal(a[1], b[1])

    @every_backend
    def test_all_nan(self, backend):
        values, guide, valid = make((1, 3, 2, 6, 7), dtype=torch.float32)
        got = output_and_gradients(values, torch.full_like(guide, math.nan), valid=valid, backend=backend)
        assert torch.isnan(got[0]).all()

    def test_finite_inputs_pass_the_check(self):
        values, guide, valid = make((1, 3, 2, 4, 5), "some")
        checked = tree_filter(values, guide, valid=valid, check=True)
        assert torch.equal(checked, tree_filter(values, guide, valid=valid))


class TestRefused:
    def test_an_unknown_backend(self):
        values, guide, _ = make((1, 3, 2, 4, 5))
        with pytest.raises(ConfigError, match="did you mean 'torch'"):
            tree_filter(values, guide, backend="torhc")
        with pytest.raises(ConfigError, match="did you mean 'compiled'"):
            spanning_tree(guide, backend="compield")

    @pytest.mark.parametrize("also", ["tree_guide", "valid"])
    def test_a_tree_given_twice(self, also):
        values, guide, valid = make((1, 3, 2, 4, 5))
        with pytest.raises(ConfigError, match="leave out tree_guide and valid"):
            tree_filter(values, guide, tree=spanning_tree(guide), **{also: {"tree_guide": guide, "valid": valid}[also]})

    def test_a_tree_of_another_size(self):
        values, guide, _ = make((1, 3, 2, 4, 5))
        tree = spanning_tree(guide[..., :3])
        with pytest.raises(ConfigError, match=r"(?s)\(1, 20\).*\(1, 12\)"):
            tree_filter(values, guide, tree=tree)


def test_inputs_are_left_as_they_are():
    values, guide, valid = make((2, 3, 2, 5, 6), "some")
    tree = spanning_tree(guide, valid)
    before = [x.clone() for x in (values, guide, valid, *tree)]
    output_and_gradients(values, guide, tree=tree)
    assert all(torch.equal(a, b) for a, b in zip(before, (values, guide, valid, *tree), strict=True))
