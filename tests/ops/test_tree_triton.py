"""The Triton backend of the tree filter against the definition: on a GPU where there is one, in the interpreter elsewhere.

Whether a kernel is interpreted is settled when its file is first read, which the table does late, so it is enough to ask
for it when the tests are collected. A filter and its gradient are some 40 kernels, one or two hundredths of a second each
when interpreted: the maps are small and few.
"""

from __future__ import annotations

import importlib.util
import math
import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from benchmarks.ops import tree as benchmark, tree_gpu
from benchmarks.ops.measure import Case
from scribbleseg.ops import backends
from scribbleseg.ops.tree import BACKENDS, Tree, spanning_tree, tree_filter
from scribbleseg.ops.tree_edges import grid_distances

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    os.environ.setdefault("TRITON_INTERPRET", "1")
needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")

# (B, C, D, H, W), how much of the map is valid
CASES = [
    pytest.param((1, 3, 2, 1, 1), 1.0, id="one pixel"),
    pytest.param((1, 1, 1, 1, 7), 1.0, id="one row, one class"),
    pytest.param((1, 4, 1, 5, 1), 0.8, id="one column with holes"),
    pytest.param((2, 2, 5, 3, 5), 0.8, id="two images with holes"),
    pytest.param((1, 3, 3, 7, 2), 1.0, id="two columns"),
    pytest.param((1, 8, 2, 3, 5), 0.9, id="two quads and one"),
    pytest.param((1, 9, 0, 4, 3), 1.0, id="no guide"),
    pytest.param((1, 5, 4, 2, 13), 0.0, id="nothing valid"),
]


@pytest.fixture(autouse=True)
def poison():
    """Fill memory that is asked for without being written with NaN, so that what a kernel leaves out shows."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def make(shape: tuple[int, ...], share: float = 1.0, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Return values, a guide, and which pixels are valid."""
    b, c, d, h, w = shape
    rng = torch.Generator().manual_seed(b + 10 * c + 100 * d + 1000 * h + 10000 * w)
    values = torch.randn(b, c, h, w, generator=rng, dtype=torch.float64)
    guide = torch.randn(b, d, h, w, generator=rng, dtype=torch.float64) / (2 * max(1, d) ** 0.5)
    valid = torch.rand(b, h, w, generator=rng) < share
    return values.to(DEVICE, dtype), guide.to(DEVICE, dtype), valid.to(DEVICE)


def output_and_gradients(values: Tensor, guide: Tensor, tree: Tree, backend: str) -> list[Tensor]:
    values, guide = values.detach().requires_grad_(), guide.detach().requires_grad_()
    filtered = tree_filter(values, guide, tree=tree, backend=backend)
    mix = torch.linspace(-1, 2, filtered.numel(), dtype=torch.float64).sin().view(filtered.shape).to(filtered)
    grads = torch.autograd.grad((filtered * mix).sum(), [values, guide], materialize_grads=True)
    return [filtered.detach(), *grads]


def definition(values: Tensor, guide: Tensor, tree: Tree) -> list[Tensor]:
    """Return the filtered values and both gradients in float64, on the CPU."""
    return output_and_gradients(values.double().cpu(), guide.double().cpu(), Tree(*(x.cpu() for x in tree)), "reference")


def assert_near(got: Tensor, expected: Tensor, rel: float) -> None:
    got, expected = got.double().cpu(), expected.double().cpu()
    assert got.shape == expected.shape
    assert torch.isfinite(got).all()
    if expected.numel():
        assert float((got - expected).abs().max()) <= rel * max(0.1, float(expected.abs().max()))


@needs_triton
class TestAgainstTheDefinition:
    @pytest.mark.parametrize(("shape", "share"), CASES)
    def test_float64(self, shape, share):
        values, guide, valid = make(shape, share, torch.float64)
        tree = spanning_tree(guide, valid, backend="triton")
        for a, b in zip(output_and_gradients(values, guide, tree, "triton"), definition(values, guide, tree), strict=True):
            assert a.dtype == torch.float64
            assert_near(a, b, 1e-12)

    @pytest.mark.parametrize(("shape", "share"), [((1, 3, 5, 7, 5), 0.9), ((1, 7, 1, 2, 11), 1.0)], ids=str)
    def test_float32(self, shape, share):
        values, guide, valid = make(shape, share)
        tree = spanning_tree(guide, valid, backend="triton")
        for a, b in zip(output_and_gradients(values, guide, tree, "triton"), definition(values, guide, tree), strict=True):
            assert a.dtype == torch.float32
            assert_near(a, b, 1e-5)

    def test_a_larger_map_equals_the_portable_backend(self):
        # Ties, and long chains on which affinities do not vanish.
        values, guide, valid = make((1, 2, 2, 31, 29), 0.95, torch.float64)
        guide = 0.01 * guide.round()
        tree = spanning_tree(guide, valid, backend="torch")
        expected = output_and_gradients(values, guide, tree, "torch")
        for a, b in zip(output_and_gradients(values, guide, tree, "triton"), expected, strict=True):
            assert_near(a, b, 1e-12)

    def test_a_path_has_a_closed_form(self):
        # One column, longer than a block, all affinities q: K is a Toeplitz matrix.
        n, q = 1201, 0.97
        place = torch.arange(n, dtype=torch.float64)  # on the CPU: cuBLAS is not deterministic by itself
        guide = (place * math.sqrt(-math.log(q))).view(1, 1, n, 1)
        values = make((1, 2, 0, n, 1), dtype=torch.float64)[0]
        kernel = q ** (place[:, None] - place).abs()
        expected = (values[0, :, :, 0].cpu() @ kernel) / kernel.sum(0)
        assert_near(tree_filter(values, guide.to(DEVICE), backend="triton")[0, :, :, 0], expected, 1e-11)

    def test_every_shape_of_tree(self):
        # A comb, a star's four arms and a spiral contract in different ways.
        size, pixel = 5, torch.arange(25).view(5, 5)
        comb = pixel - 1
        comb[:, 0] = pixel[:, 0] - 5
        comb[0, 0] = 0
        star = torch.where(pixel % 5 < 2, pixel + 1, torch.where(pixel % 5 > 2, pixel - 1, pixel))
        star[:2, 2], star[3:, 2] = pixel[1:3, 2], pixel[2:4, 2]
        way = [(0, 0)]
        for (y, x), length in zip([(0, 1), (1, 0), (0, -1), (-1, 0)] * 3, [4, 4, 4, 3, 3, 2, 2, 1, 1], strict=False):
            way += [(way[-1][0] + k * y, way[-1][1] + k * x) for k in range(1, length + 1)]
        spiral = torch.zeros_like(pixel)
        for (y, x), before in zip(way, [way[0], *way], strict=False):
            spiral[y, x] = pixel[before]
        assert len({*way}) == size**2
        parent = torch.stack([comb, star, spiral]).flatten(1).int()
        values, guide, _ = make((3, 3, 2, size, size), dtype=torch.float64)
        tree = Tree(parent.to(DEVICE), torch.zeros_like(parent, device=DEVICE))  # it goes by the parents alone
        expected = output_and_gradients(values, guide, tree, "torch")
        for a, b in zip(output_and_gradients(values, guide, tree, "triton"), expected, strict=True):
            assert_near(a, b, 1e-12)


@needs_triton
class TestInputs:
    shape = (1, 3, 2, 3, 2)

    @pytest.mark.parametrize(
        "strided", [lambda x: x.mT.contiguous().mT, lambda x: torch.stack([x, -x], -1)[..., 0]], ids=["turned", "wide"]
    )
    def test_any_strides(self, strided):
        # Of the inputs, the gradient that comes in, and the tree.
        values, guide, valid = make((2, 3, 2, 3, 2), 0.9)
        affinity = torch.exp(-grid_distances(guide))
        tree = spanning_tree(guide, valid, backend="triton")
        run, gradient = BACKENDS["triton"].run, BACKENDS["triton"].gradient
        parts = run(values, affinity, *tree)
        expected = (*parts, *gradient(values.cos(), values, *parts, affinity, *tree, True, True))
        inputs = [strided(x) for x in (values.cos(), values, *parts, affinity, *tree)]
        assert not any(x.is_contiguous() for x in inputs)
        got = (*run(inputs[1], *inputs[4:]), *gradient(*inputs, True, True))
        assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))

    def test_expanded_maps(self):
        values, guide, valid = make((1, 2, 2, 3, 2))
        tree = Tree(*(x.expand(2, -1) for x in spanning_tree(guide, valid, backend="triton")))
        filtered = tree_filter(values.expand(2, -1, -1, -1), guide.expand(2, -1, -1, -1), tree=tree, backend="triton")
        alone = tree_filter(values, guide, valid=valid, backend="triton")
        assert torch.equal(filtered, torch.cat([alone, alone]))

    def test_what_is_not_wanted_is_empty_and_changes_nothing(self):
        values, guide, valid = make(self.shape, 0.9)
        tree, affinity = spanning_tree(guide, valid, backend="triton"), torch.exp(-grid_distances(guide))
        filtered, norm = BACKENDS["triton"].run(values, affinity, *tree)
        arguments = (values.cos(), values, filtered, norm, affinity, *tree)
        whole = BACKENDS["triton"].gradient(*arguments, True, True)
        for wanted in [(True, False), (False, True)]:
            for want, got, expected in zip(wanted, BACKENDS["triton"].gradient(*arguments, *wanted), whole, strict=True):
                assert torch.equal(got, expected) if want else got.numel() == 0

    def test_inputs_are_left_alone(self):
        values, guide, valid = make(self.shape, 0.9)
        tree = spanning_tree(guide, valid, backend="triton")
        given = (values, guide, *tree)
        before = [x.clone() for x in given]
        output_and_gradients(values, guide, tree, "triton")
        assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))

    def test_opcheck(self):
        values, guide, valid = make((1, 2, 2, 3, 2), 0.9, torch.float64)
        tree = spanning_tree(guide, valid, backend="triton")
        affinity = torch.exp(-grid_distances(guide))
        arguments = (values.requires_grad_(), affinity.requires_grad_(), *tree, "triton")
        torch.library.opcheck(torch.ops.scribbleseg.tree_filter, arguments, test_utils=("test_schema", "test_faketensor"))

    @pytest.mark.parametrize("shape", [(0, 3, 2, 4, 5), (2, 0, 2, 2, 3)], ids=["no images", "no classes"])
    def test_nothing_in_nothing_out(self, shape):
        values, guide, valid = make(shape)
        tree = spanning_tree(guide, valid, backend="triton")
        filtered, for_values, for_guide = output_and_gradients(values, guide, tree, "triton")
        assert filtered.shape == for_values.shape == values.shape
        assert torch.equal(for_guide, torch.zeros_like(guide))


@needs_triton
class TestExtremes:
    def test_images_without_a_valid_pixel_keep_their_values(self):
        values, guide, valid = make((2, 3, 2, 4, 3))
        valid[1] = False
        tree = spanning_tree(guide, valid, backend="triton")
        filtered, for_values, for_guide = output_and_gradients(values, guide, tree, "triton")
        assert torch.equal(filtered[1], values[1])
        assert torch.isfinite(filtered).all()
        assert torch.isfinite(for_values).all()
        assert torch.equal(for_guide[1], torch.zeros_like(guide[1]))
        assert for_guide[0].any()

    def test_affinities_that_vanish_leave_the_values(self):
        values, guide, valid = make((1, 3, 2, 4, 5))
        tree = spanning_tree(guide, valid, backend="triton")
        filtered, for_values, for_guide = output_and_gradients(values, 1e4 * guide, tree, "triton")
        assert torch.equal(filtered, values)
        assert torch.isfinite(for_values).all()
        assert torch.equal(for_guide, torch.zeros_like(guide))

    def test_the_gradient_of_an_affinity_of_zero(self):
        # exp(−d) hides it from the guide; the op itself has one.
        values, guide, valid = make((1, 3, 2, 4, 5), dtype=torch.float64)
        tree, affinity = spanning_tree(guide, valid, backend="triton"), torch.exp(-grid_distances(guide))
        affinity[:, :, 1:3] = 0
        arguments = (values.cos(), values, *BACKENDS["torch"].run(values, affinity, *tree), affinity, *tree, True, True)
        for a, b in zip(BACKENDS["triton"].gradient(*arguments), BACKENDS["torch"].gradient(*arguments), strict=True):
            assert_near(a, b, 1e-12)

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_what_is_not_finite_is_seen_and_stays_in_its_image(self, bad):
        values, guide, valid = make((2, 2, 2, 3, 4))
        tree = spanning_tree(guide, valid, backend="triton")
        expected = tree_filter(values, guide, tree=tree, backend="triton")
        values[0, 0, 1, 2] = guide[0, 1, 2, 1] = bad
        got = tree_filter(values, guide, tree=tree, backend="triton")
        assert not torch.isfinite(got[0, 0]).all()
        assert torch.equal(got[1], expected[1])

    @pytest.mark.parametrize("wrong", [-1, 2**30, 19])
    def test_a_parent_that_is_no_neighbour_is_none(self, wrong):
        values, guide, valid = make((1, 2, 2, 4, 5))
        tree = spanning_tree(guide, valid, backend="triton")
        outside, root = (Tree(tree.parent.clone(), tree.order) for _ in range(2))
        outside.parent[0, 7], root.parent[0, 7] = wrong, 7
        got, expected = (tree_filter(values, guide, tree=x, backend="triton") for x in (outside, root))
        assert torch.equal(got, expected)

    def test_parents_in_a_circle_come_to_an_end(self):
        values, guide, valid = make((1, 2, 2, 2, 2))
        tree = spanning_tree(guide, valid, backend="triton")
        tree.parent[0] = torch.tensor([1, 3, 0, 2], dtype=torch.int32)
        assert tree_filter(values, guide, tree=tree, backend="triton").shape == values.shape


@needs_triton
@pytest.mark.skipif(DEVICE == "cuda", reason="the interpreter's block is not used there")
def test_neither_the_block_nor_the_rounds_change_anything(monkeypatch):
    values, guide, valid = make((1, 2, 2, 3, 7))
    tree = spanning_tree(guide, valid, backend="triton")
    expected = output_and_gradients(values, guide, tree, "triton")
    from scribbleseg.ops import tree_triton

    monkeypatch.setattr(tree_triton, "INTERPRETED", 16)
    monkeypatch.setattr(tree_triton, "ROUNDS", 2)
    for a, b in zip(output_and_gradients(values, guide, tree, "triton"), expected, strict=True):
        assert torch.equal(a, b)


@pytest.mark.skipif(DEVICE == "cpu", reason="no CUDA GPU here")
class TestOnAGpu:
    def test_it_is_picked(self):
        values, guide, valid = make((2, 5, 3, 40, 50))
        expected = tree_filter(values, guide, valid=valid, backend="triton")
        assert torch.equal(tree_filter(values, guide, valid=valid), expected)

    def test_all_runs_give_the_same_bits(self):
        values, guide, valid = make((2, 21, 3, 201, 307), 0.95)
        tree = spanning_tree(guide, valid)
        first = output_and_gradients(values, guide, tree, "triton")
        for _ in range(5):
            for a, b in zip(output_and_gradients(values, guide, tree, "triton"), first, strict=True):
                assert torch.equal(a, b)

    def test_large_maps_equal_the_portable_backend(self):
        values, guide, valid = make((4, 21, 3, 512, 509), 0.95)
        tree = spanning_tree(guide, valid)
        expected = output_and_gradients(values.double(), guide.double(), tree, "torch")
        for a, b in zip(output_and_gradients(values, guide, tree, "triton"), expected, strict=True):
            assert_near(a, b, 1e-5)


# The interpreter takes what the compiler does not: a number that is not known yet where one has to be.
COMPILED = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from scribbleseg.ops import tree_triton

integers = {"parent", "above", "states", "next_above", "next_states"}
sizes = {"height": "i32", "width": "i32"}
constants = {"NUM": 12, "FIRST": 24, "BLOCK": tree_triton.BLOCK}
for kernel in (tree_triton._start, tree_triton._contract, tree_triton._double, tree_triton._slope):
    signature, given = {}, {}
    for place, name in enumerate(kernel.arg_names):
        signature[name] = "constexpr" if name in constants else sizes.get(name, "*i32" if name in integers else "*fp32")
        if name in constants:
            given[place,] = constants[name]
    source = ASTSource(fn=kernel, signature=signature, constexprs=given)
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"enable_fp_fusion": True})
    print(made.name, len(made.asm["cubin"]) > 0)
"""


@pytest.mark.slow
@needs_triton
@pytest.mark.skipif(DEVICE == "cuda", reason="they are compiled by the tests above")
def test_the_kernels_compile_for_a_gpu_that_is_not_here(tmp_path):
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", COMPILED], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["_start", "True", "_contract", "True", "_double", "True", "_slope", "True"]


@needs_triton
def test_it_comes_first_and_runs_on_a_gpu_alone():
    assert next(iter(BACKENDS)) == "triton"
    if DEVICE == "cpu":
        reason = BACKENDS["triton"].why_not(torch.device("cpu"))
        assert reason is not None
        assert reason.startswith("by name only")


def test_without_triton_the_file_can_be_read_and_the_reason_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    spec = importlib.util.find_spec("scribbleseg.ops.tree_triton")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.triton is None
    assert "triton is not installed" in backends.why_not_triton(torch.device("cuda"))


class TestBenchmark:
    @needs_triton
    def test_it_checks_before_it_measures(self, monkeypatch):
        case = Case(1, 3, 4, features=2)
        assert all(error < 1e-5 for found in tree_gpu.check(case, DEVICE).values() for error in found.values())
        monkeypatch.setattr(benchmark, "TOLERANCE", 1e-12)
        with pytest.raises(ArithmeticError, match="1 × 3 × 4²"):
            tree_gpu.check(case, DEVICE)

    @pytest.mark.skipif(DEVICE == "cuda", reason="there is a GPU")
    def test_without_a_gpu_it_says_so(self, monkeypatch):
        monkeypatch.setattr(sys, "argv", ["tree_gpu"])
        with pytest.raises(SystemExit, match="no CUDA GPU here"):
            tree_gpu.main()
