"""The GPU backend of sums over all pairs, in Triton: tiles of pairs in registers, as in FlashAttention, never all of them.

A program owns some points i and a group of output channels and goes over all points j: distances by differences (not by
matrix products: their rounding grows with the guide), the kernel, then one matrix product with what the points j carry, added
up in float32. Every output is written once, so the result does not change from run to run. Products are exact ones of
float32, never TF32. Float64 goes to the PyTorch backend.

Machine code for sm_90 has 80 registers for the sum and 192 for the pull, nothing spilled. Tested in Triton's interpreter
only: not tuned, and not measured on a GPU yet.
"""

from __future__ import annotations

from typing import Any, no_type_check

import torch
from torch import Tensor

from scribbleseg.ops.dense_torch import gaussian_sum_torch

try:
    import triton
    from triton import language as tl
except ImportError:  # `why_not_triton` says so; the kernels below are then never run
    triton = tl = None

#: Points i and j of a tile, most channels of a group, and warps of a program.
TILE_I, TILE_J, GROUP = 64, 32, 64
NUM_WARPS = 8

SIZES = ["num_i", "num_j", "num_guides", "num_channels"]


def _jit(function: Any) -> Any:
    # Not specialized on sizes: one compilation serves all of them.
    return function if triton is None else triton.jit(function, do_not_specialize=SIZES)


@_jit
@no_type_check
def _sum(x, y, v, out, num_i, num_j, num_guides, num_channels, BI: tl.constexpr, BJ: tl.constexpr, BN: tl.constexpr):
    image = tl.program_id(1).to(tl.int64)
    i = tl.program_id(0) * BI + tl.arange(0, BI)
    n = tl.program_id(2) * BN + tl.arange(0, BN)
    x += image * num_guides * num_i
    y += image * num_guides * num_j
    v += image * num_channels * num_j
    total = tl.zeros([BI, BN], tl.float32)
    for first in range(0, num_j, BJ):
        j = first + tl.arange(0, BJ)
        squares = tl.zeros([BI, BJ], tl.float32)
        for g in range(0, num_guides):
            here = tl.load(x + g * num_i + i, mask=i < num_i, other=0.0)
            there = tl.load(y + g * num_j + j, mask=j < num_j, other=0.0)
            step = here[:, None] - there[None, :]
            squares += step * step
        kernel = tl.where((j < num_j)[None, :], tl.exp(-0.5 * squares), 0.0)
        inside = (j < num_j)[:, None] & (n < num_channels)[None, :]
        carried = tl.load(v + n[None, :] * num_j + j[:, None], mask=inside, other=0.0)
        total += tl.dot(kernel, carried, input_precision="ieee")
    inside = (i < num_i)[:, None] & (n < num_channels)[None, :]
    tl.store(out + image * num_channels * num_i + n[None, :] * num_i + i[:, None], total, mask=inside)


@_jit
@no_type_check
def _pull(
    x,
    y,
    u,
    v,
    out,
    num_i,
    num_j,
    num_guides,
    num_channels,
    BI: tl.constexpr,
    BJ: tl.constexpr,
    BN: tl.constexpr,
    BG: tl.constexpr,
):
    image = tl.program_id(1).to(tl.int64)
    i = tl.program_id(0) * BI + tl.arange(0, BI)
    d = tl.program_id(2) * BG + tl.arange(0, BG)
    x += image * num_guides * num_i
    y += image * num_guides * num_j
    u += image * num_channels * num_i
    v += image * num_channels * num_j
    mass = tl.zeros([BI], tl.float32)
    total = tl.zeros([BI, BG], tl.float32)
    for first in range(0, num_j, BJ):
        j = first + tl.arange(0, BJ)
        squares = tl.zeros([BI, BJ], tl.float32)
        for g in range(0, num_guides):
            here = tl.load(x + g * num_i + i, mask=i < num_i, other=0.0)
            there = tl.load(y + g * num_j + j, mask=j < num_j, other=0.0)
            step = here[:, None] - there[None, :]
            squares += step * step
        dots = tl.zeros([BI, BJ], tl.float32)
        for channel in range(0, num_channels, BN):
            n = channel + tl.arange(0, BN)
            own = tl.load(
                u + n[None, :] * num_i + i[:, None], mask=(i < num_i)[:, None] & (n < num_channels)[None, :], other=0.0
            )
            other = tl.load(
                v + n[:, None] * num_j + j[None, :], mask=(n < num_channels)[:, None] & (j < num_j)[None, :], other=0.0
            )
            dots += tl.dot(own, other, input_precision="ieee")
        weight = tl.where((j < num_j)[None, :], tl.exp(-0.5 * squares) * dots, 0.0)
        inside = (j < num_j)[:, None] & (d < num_guides)[None, :]
        place = tl.load(y + d[None, :] * num_j + j[:, None], mask=inside, other=0.0)
        mass += tl.sum(weight, 1)
        total += tl.dot(weight, place, input_precision="ieee")
    inside = (i < num_i)[:, None] & (d < num_guides)[None, :]
    own_place = tl.load(x + d[None, :] * num_i + i[:, None], mask=inside, other=0.0)
    to = out + image * num_guides * num_i + d[None, :] * num_i + i[:, None]
    tl.store(to, total - own_place * mass[:, None], mask=inside)


def gaussian_sum_triton(x: Tensor, y: Tensor, v: Tensor, u: Tensor | None = None) -> Tensor:
    """Return what :func:`scribbleseg.ops.dense_torch.gaussian_sum_torch` does.

    Cost: (I·J)·(2G + 2N) flops, those of the distances once for every 64 output channels; memory the output.
    """
    if v.dtype != torch.float32:
        return gaussian_sum_torch(x, y, v, u)
    out = v.new_empty(v.shape[0], v.shape[1] if u is None else x.shape[1], x.shape[2])
    if not out.numel() or not y.numel():
        return out.zero_()
    x, y, v = x.contiguous(), y.contiguous(), v.contiguous()
    sizes = (x.shape[2], y.shape[2], x.shape[1], v.shape[1])
    block = min(GROUP, max(16, triton.next_power_of_2(out.shape[1])))
    grid = (triton.cdiv(out.shape[2], TILE_I), out.shape[0], triton.cdiv(out.shape[1], block))
    options = {"BI": TILE_I, "BJ": TILE_J, "num_warps": NUM_WARPS, "enable_fp_fusion": True}  # said, lest Triton warn
    if u is None:
        _sum[grid](x, y, v, out, *sizes, BN=block, **options)
    else:
        _pull[grid](x, y, u.contiguous(), v, out, *sizes, BN=32, BG=block, **options)
    return out
