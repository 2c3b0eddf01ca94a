"""The compiled CPU backend of the tree filter: ``kernels/src/tree.cpp`` of scribbleseg-kernels."""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor

from scribbleseg.ops.backends import compiled


def _module() -> ModuleType:
    module = compiled("_tree")
    assert module is not None
    return module


def build_compiled(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return the parents and an order, depth first, of (B, 2, H, W) edge weights; NaN is an edge of last resort, cut."""
    num_images, _, height, width = weights.shape
    parent = torch.empty(num_images, height * width, dtype=torch.int32)
    order = torch.empty_like(parent)
    _module().build(weights.contiguous(), parent, order, torch.get_num_threads())
    return parent, order


def filter_compiled(values: Tensor, affinity: Tensor, parent: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
    """Return the filtered values and the sums of affinities; float32 or float64, on ``torch.get_num_threads()`` threads."""
    values = values.contiguous()
    filtered, norm = torch.empty_like(values), values.new_empty(values.shape[0], *values.shape[2:])
    _module().filter(
        values, affinity.contiguous(), parent.contiguous(), order.contiguous(), filtered, norm, torch.get_num_threads()
    )
    return filtered, norm


def gradient_compiled(
    grad: Tensor,
    values: Tensor,
    filtered: Tensor,
    norm: Tensor,
    affinity: Tensor,
    parent: Tensor,
    order: Tensor,
    want_values: bool,
    want_affinity: bool,
) -> tuple[Tensor, Tensor]:
    """Return the gradients by values and by affinities; empty where not wanted."""
    values, affinity = values.contiguous(), affinity.contiguous()
    for_values = torch.empty_like(values) if want_values else None
    for_affinity = torch.empty_like(affinity) if want_affinity else None
    _module().gradient(
        grad.contiguous(),
        values,
        filtered.contiguous(),
        norm.contiguous(),
        affinity,
        parent.contiguous(),
        order.contiguous(),
        for_values,
        for_affinity,
        torch.get_num_threads(),
    )
    return (
        values.new_empty(0) if for_values is None else for_values,
        values.new_empty(0) if for_affinity is None else for_affinity,
    )
