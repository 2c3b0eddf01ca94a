"""The compiled CPU backends of the dense kernel: ``kernels/src/dense.cpp`` and ``lattice.hpp`` of scribbleseg-kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from scribbleseg.ops.backends import compiled
from scribbleseg.ops.lattice import hash_numbers, placement


def gaussian_sum_compiled(x: Tensor, y: Tensor, v: Tensor, u: Tensor | None = None) -> Tensor:
    """Return what :func:`scribbleseg.ops.dense_torch.gaussian_sum_torch` does, on ``torch.get_num_threads()`` threads."""
    module = compiled("_dense")
    assert module is not None
    out = v.new_empty(v.shape[0], v.shape[1] if u is None else x.shape[1], x.shape[2])
    if not out.numel() or not y.numel():
        return out.zero_()
    up = None if u is None else u.contiguous()
    module.gaussian_sum(x.contiguous(), y.contiguous(), up, v.contiguous(), out, torch.get_num_threads())
    return out


def lattice_compiled(guide: Tensor, values: Tensor) -> Tensor:
    """Return what :func:`scribbleseg.ops.lattice.lattice_torch` does, on ``torch.get_num_threads()`` threads."""
    module = compiled("_dense")
    assert module is not None
    out = torch.empty_like(values, memory_format=torch.contiguous_format)
    if out.numel():
        numbers = (*placement(guide.shape[1]), hash_numbers(guide.shape[1]))
        module.lattice(guide.contiguous(), values.contiguous(), out, *numbers, torch.get_num_threads())
    return out
