"""The edges of the 4-neighbour grid: how far apart the features at their ends are.

An edge map is (B, 2, H, W): [:, 0] has the edge from every pixel to the one on its right, [:, 1] to the one below. The last
column of the first and the last row of the second are no edges.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


@torch.library.custom_op("scribbleseg::grid_distances", mutates_args=(), schema="(Tensor guide) -> Tensor")
def _distances_op(guide):  # type: ignore[no-untyped-def]
    distances = guide.new_zeros(guide.shape[0], 2, *guide.shape[2:])
    distances[:, 0, :, :-1] = (guide[..., 1:] - guide[..., :-1]).square_().sum(1)
    distances[:, 1, :-1] = (guide[..., 1:, :] - guide[..., :-1, :]).square_().sum(1)
    return distances


@torch.library.custom_op(
    "scribbleseg::grid_distances_gradient", mutates_args=(), schema="(Tensor grad, Tensor guide) -> Tensor"
)
def _distances_gradient_op(grad, guide):  # type: ignore[no-untyped-def]
    """Return 2 Σ_v grad_uv (f_u − f_v); autograd's own way keeps two maps as large as the guide and takes twice as long."""
    result, twice = torch.zeros_like(guide), 2 * grad
    step = (guide[..., 1:] - guide[..., :-1]).mul_(twice[:, :1, :, :-1])
    result[..., 1:] += step
    result[..., :-1] -= step
    step = (guide[..., 1:, :] - guide[..., :-1, :]).mul_(twice[:, 1:, :-1])
    result[..., 1:, :] += step
    result[..., :-1, :] -= step
    return result


@_distances_op.register_fake
def _distances_shape(guide):  # type: ignore[no-untyped-def]
    return guide.new_empty(guide.shape[0], 2, *guide.shape[2:])


@_distances_gradient_op.register_fake
def _distances_gradient_shape(grad, guide):  # type: ignore[no-untyped-def]
    return torch.empty_like(guide)


_distances_op.register_autograd(
    lambda ctx, grad: _distances_gradient_op(grad, *ctx.saved_tensors),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
)


def grid_distances(guide: Float[Tensor, "B G H W"]) -> Float[Tensor, "B 2 H W"]:
    """Return ‖f_u − f_v‖² of the edge from every pixel to the right ([:, 0]) and down ([:, 1]); 0 where there is no edge.

    Differentiable, once.
    """
    return _distances_op(guide)


def tree_weights(guide: Tensor, valid: Tensor | None) -> Tensor:
    """Return the distances as the trees are made from them: the same bits whatever the strides, NaN for an edge to cut."""
    weights = guide.new_zeros(guide.shape[0], 2, *guide.shape[2:])
    for channel in guide.unbind(1):  # one after the other: a sum's order would depend on the layout, and ties on its last bit
        weights[:, 0, :, :-1] += (channel[..., 1:] - channel[..., :-1]).square()
        weights[:, 1, :-1] += (channel[..., 1:, :] - channel[..., :-1, :]).square()
    weights = weights.masked_fill(weights.isnan(), torch.inf)
    if valid is not None:
        weights[:, 0, :, :-1].masked_fill_(~(valid[..., 1:] & valid[..., :-1]), torch.nan)
        weights[:, 1, :-1].masked_fill_(~(valid[:, 1:] & valid[:, :-1]), torch.nan)
    return weights
