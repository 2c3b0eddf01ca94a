"""Tree filter: means over the whole map, weighted along the grid's minimum spanning tree.

    ŷ_i = Σ_j K_ij y_j / Σ_j K_ij,   K_ij = Π_{e on the path i → j} a_e,   a_e = exp(−‖f_u − f_v‖²)

The tree spans the 4-neighbour grid of each image; its edges have the smallest squared distances of a *tree guide*. Of equal
distances the first in a fixed order is taken (horizontal edges row by row, then vertical ones), so that every backend
makes the same tree. The affinities come from a *guide* f, already divided by its sigma, through which gradients flow; the
tree gets none. A way around a border is long, a way within a region short, whatever their widths in pixels: that is what the
filter knows and a window does not.

Where pixels are not valid the edges that touch them are cut: such a pixel keeps its own value, and is seen by no other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from scribbleseg.errors import ConfigError
from scribbleseg.ops.backends import Backend, choose, reference_only, why_not_compiled, why_not_triton
from scribbleseg.ops.finite import check_finite
from scribbleseg.ops.tree_compiled import build_compiled, filter_compiled, gradient_compiled
from scribbleseg.ops.tree_edges import grid_distances, tree_weights
from scribbleseg.ops.tree_reference import build_reference, filter_reference
from scribbleseg.ops.tree_torch import build_torch, filter_torch, gradient_torch


class Tree(NamedTuple):
    """The spanning trees of a batch of images, for any number of filters. Pixel (y, x) has the number y·W + x.

    Attributes:
        parent: the pixel above each pixel; a root's is itself. Without padding the one root is pixel 0.
        order: all pixels, every parent before its children.
    """

    parent: Int[Tensor, "B P"]
    order: Int[Tensor, "B P"]


@dataclass(frozen=True)
class TreeBackend(Backend):
    """``run`` filters; ``build`` makes the tree and ``gradient`` is the filter's, None where autograd does it."""

    build: Callable[..., Any]
    gradient: Callable[..., Any] | None


def filter_triton(*arguments):  # type: ignore[no-untyped-def]
    """The GPU backend; its file is read when it is first used, since it needs Triton."""
    from scribbleseg.ops import tree_triton

    return tree_triton.filter_triton(*arguments)


def gradient_triton(*arguments):  # type: ignore[no-untyped-def]
    """The gradient of the GPU backend, as late."""
    from scribbleseg.ops import tree_triton

    return tree_triton.gradient_triton(*arguments)


#: In order of preference; the first without a reason against it is taken.
BACKENDS: dict[str, TreeBackend] = {
    "triton": TreeBackend(filter_triton, why_not_triton, build_torch, gradient_triton),
    "compiled": TreeBackend(filter_compiled, why_not_compiled("_tree"), build_compiled, gradient_compiled),
    "torch": TreeBackend(filter_torch, lambda device: None, build_torch, gradient_torch),
    "reference": TreeBackend(filter_reference, reference_only, build_reference, None),
}


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # a graph cannot look for modules
def _choose(op: str, name: str | None, device: torch.device) -> str:
    return choose(op, BACKENDS, name, device)


@torch.library.custom_op(
    "scribbleseg::spanning_tree", mutates_args=(), schema="(Tensor guide, Tensor? valid, str backend) -> (Tensor, Tensor)"
)
def _tree_op(guide, valid, backend):  # type: ignore[no-untyped-def]
    return BACKENDS[backend].build(tree_weights(guide, valid))


@_tree_op.register_fake
def _tree_shapes(guide, valid, backend):  # type: ignore[no-untyped-def]
    shape = (guide.shape[0], guide.shape[2] * guide.shape[3])
    return guide.new_empty(shape, dtype=torch.int32), guide.new_empty(shape, dtype=torch.int32)


@torch.library.custom_op(
    "scribbleseg::tree_filter",
    mutates_args=(),
    schema="(Tensor values, Tensor affinity, Tensor parent, Tensor order, str backend) -> (Tensor, Tensor)",
)
def _filter_op(values, affinity, parent, order, backend):  # type: ignore[no-untyped-def]
    """Return the filtered values and the sums Σ_j K_ij, which the gradient takes."""
    return BACKENDS[backend].run(values, affinity, parent, order)


@_filter_op.register_fake
def _filter_shapes(values, affinity, parent, order, backend):  # type: ignore[no-untyped-def]
    return values.new_empty(values.shape), values.new_empty(values.shape[0], *values.shape[2:])


@torch.library.custom_op(
    "scribbleseg::tree_filter_gradient",
    mutates_args=(),
    schema="(Tensor grad, Tensor values, Tensor filtered, Tensor norm, Tensor affinity, Tensor parent, Tensor order, "
    "str backend, bool want_values, bool want_affinity) -> (Tensor, Tensor)",
)
def _gradient_op(grad, values, filtered, norm, affinity, parent, order, backend, want_values, want_affinity):  # type: ignore[no-untyped-def]
    """Return the gradients by values and affinities; one that is not wanted is empty."""
    run = BACKENDS[backend].gradient
    assert run is not None
    return run(grad, values, filtered, norm, affinity, parent, order, want_values, want_affinity)


@_gradient_op.register_fake
def _gradient_shapes(grad, values, filtered, norm, affinity, parent, order, backend, want_values, want_affinity):  # type: ignore[no-untyped-def]
    return (
        values.new_empty(values.shape if want_values else (0,)),
        affinity.new_empty(affinity.shape if want_affinity else (0,)),
    )


def _keep(ctx, inputs, output):  # type: ignore[no-untyped-def]
    values, affinity, parent, order, ctx.backend = inputs
    filtered, norm = output
    ctx.mark_non_differentiable(norm)
    ctx.save_for_backward(values, filtered, norm, affinity, parent, order)


def _backward(ctx, grad, _):  # type: ignore[no-untyped-def]
    wanted = ctx.needs_input_grad[:2]
    found = _gradient_op(grad, *ctx.saved_tensors, ctx.backend, *wanted)
    return *(x if want else None for x, want in zip(found, wanted, strict=True)), None, None, None


_filter_op.register_autograd(_backward, setup_context=_keep)


def spanning_tree(
    guide: Float[Tensor, "B G H W"],
    valid: Bool[Tensor, "B H W"] | None = None,
    *,
    backend: str | None = None,
    check: bool = False,
) -> Tree:
    """Return the minimum spanning trees of the grids, exact; the same from every backend.

    Args:
        guide: what the edge weights are squared distances of; no gradient. Its scale does not matter.
        valid: edges that touch other pixels are cut, and have no say in the rest of the tree; all pixels if None.
        backend: a name of ``BACKENDS``, or None for the first that runs here.
        check: look for NaN and infinity first; without it an edge that has one is heavier than all others.

    Raises:
        ConfigError: unknown backend.
        DataError: ``check`` found a value that is not finite.

    Cost: B·P·G for the weights; a radix sort and a nearly linear union of 2·B·P edges (compiled), or about log₂ P rounds of
    whole-map steps (torch). Memory: some 50 bytes a pixel (compiled), 300 (torch).

    Reference: Song et al., *Learnable Tree Filter for Structure-preserving Feature Transform*, arXiv 1909.12513, § 3.
    """
    chosen = _choose("spanning_tree", backend, guide.device)
    if check:
        check_finite("spanning_tree", guide=guide)
    dtype = torch.promote_types(torch.float32, guide.dtype)
    return Tree(*_tree_op(guide.detach().to(dtype), valid, chosen))


def tree_filter(
    values: Float[Tensor, "B C H W"],
    guide: Float[Tensor, "B G H W"],
    tree_guide: Float[Tensor, "B T H W"] | None = None,
    *,
    tree: Tree | None = None,
    valid: Bool[Tensor, "B H W"] | None = None,
    backend: str | None = None,
    check: bool = False,
) -> Float[Tensor, "B C H W"]:
    """Filter of the module's docstring, differentiable in ``values`` and in ``guide``, once.

    Args:
        values: what is averaged, mostly class probabilities.
        guide: features of the affinities, each channel divided by its sigma; without channels all affinities are 1.
        tree_guide: features of the tree; ``guide`` if None.
        tree: a tree made before by :func:`spanning_tree`, instead of ``tree_guide`` and ``valid``.
        valid: pixels that take part; all of them if None. The others keep their values.
        backend: a name of ``BACKENDS``, or None for the first that runs here. Half precision is computed in float32.
        check: look for NaN and infinity in the inputs first; without it a NaN ends in NaNs.

    Raises:
        ConfigError: unknown backend, or a tree that is given twice or does not fit.
        DataError: ``check`` found a value that is not finite.

    Cost: time and memory linear in the inputs: of each class two passes forward, four backward with the gradient by the
    guide and two without (compiled); log₂ of the tree's depth as many on whole maps (torch). Triton does so downwards; upwards
    it reads and writes a map some ten times, however large it is.

    Reference: Song et al., *Learnable Tree Filter*, arXiv 1909.12513, § 3; Liang et al., *Tree Energy Loss*, arXiv 2203.10739,
    eqs. 3–7. Their code adds 1 to the weights, which changes no tree but rounds small differences away, and has no padding.
    """
    if tree is not None and (tree_guide is not None or valid is not None):
        raise ConfigError("tree_filter", "a tree, or what to make it from", "both", "leave out tree_guide and valid")
    chosen = _choose("tree_filter", backend, values.device)
    dtype = torch.promote_types(torch.float32, torch.promote_types(values.dtype, guide.dtype))
    values, guide = values.to(dtype), guide.to(dtype)
    if check:
        check_finite("tree_filter", values=values, guide=guide, tree_guide=tree_guide)
    if tree is None:
        tree = spanning_tree(guide if tree_guide is None else tree_guide, valid, backend=chosen)
    expected = (values.shape[0], values.shape[2] * values.shape[3])
    if tuple(tree.parent.shape) != expected:
        got = f"one of {tuple(tree.parent.shape)}"
        raise ConfigError("tree_filter", f"a tree of (images, pixels) = {expected}", got, "make the tree on the values' grid")
    affinity = torch.exp(-grid_distances(guide))
    arguments = (values, affinity, tree.parent, tree.order)
    filtered, _ = filter_reference(*arguments) if chosen == "reference" else _filter_op(*arguments, chosen)
    return filtered.to(dtype)
