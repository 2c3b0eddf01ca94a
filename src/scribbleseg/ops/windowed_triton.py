"""The GPU backend of the windowed energy, in Triton: a thread owns a pixel and visits its whole window; no atomics.

Every ordered pair is visited, so a pixel's gradient is summed in the registers of its own thread and written once. The value
is a map of Σ_j w_ij k_ij φ_ij, halved and summed in float64 by torch. A tuned configuration gives the same bits every time.

*Layout.* Inputs of any stride and type are packed as (B, H, ⌈W/32⌉, 32·(4Q + 4)): for 32 pixels of a row, the channels four at
a time ("quads", one 16-byte load), then the weights. All of a neighbour lies at constant distances from one address: with
planes of channels there were 62 loads per pair instead of 17.

*Cost, counted and not measured yet* (machine code for sm_90, 21 classes, 35 guides, both gradients: 210 registers, nothing
spilled; a visited pair takes 221 instructions and 248 bytes from L1). 8 × 21 × 512², radius 5: 254 M visits → 1.9 ms to issue
on an H200 (132 × 4 warps × 1.755 GHz) and 2.1 ms of L1 at 128 bytes a clock, side by side; packing, gradients and map move
2 GB → 0.5 ms. So 2.6 ms if all goes well, 3 to 4 as such kernels go. Memory: a copy of the inputs in float32 and one map.

*On paper only.* Half of the window: 300 instructions a pair instead of 2 × 221, but the neighbour's gradients, read and
written in shared memory, make 182 clocks a warp instead of 2 × 62. Two rows of pixels per thread: half the L1 traffic, but
over 400 registers unless two threads share them. Tensor cores on bands of 32 × 64 pixels: six times the pairs, 1e-3 accurate.
"""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any, no_type_check

import torch
from torch import Tensor
from torch.nn import functional

from scribbleseg.ops.windowed_torch import SMALLEST

try:
    import triton
    from triton import language as tl
except ImportError:  # `why_not_triton` says so; the kernels below are then never run
    triton = tl = None

#: The tile in the interpreter, where there is nothing to tune.
INTERPRETED = {"TILE_Y": 8, "TILE_X": 32}


def _jit(function: Any) -> Any:
    # Not specialized on sizes: one compilation serves all of them.
    sizes = {"height", "width", "radius", "dilation"} & set(inspect.signature(function).parameters)
    return function if triton is None else triton.jit(function, do_not_specialize=sorted(sizes))


@_jit
@no_type_check
def _place(packed, image, y, x, height, width, SIZE: tl.constexpr):
    """Return where the numbers of the pixels' blocks begin, and the columns in the blocks."""
    block = (image * height + y) * ((width + 31) // 32) + x // 32
    return packed + block.to(tl.int64) * SIZE, x % 32


# Channels of pixels are tuples of NUM quads (pixels, 4), so that no number of channels needs a power of two.
@_jit
@no_type_check
def _read(place, column, FIRST: tl.constexpr, NUM: tl.constexpr):
    quads = ()
    for k in tl.static_range(NUM):
        quads += (tl.load(place[:, None] + (FIRST + k) * 128 + column[:, None] * 4 + tl.arange(0, 4)[None, :]),)
    return quads


@_jit
@no_type_check
def _zeros(zero, NUM: tl.constexpr):
    quads = ()
    for _ in tl.static_range(NUM):
        quads += (tl.full([zero.shape[0], 4], 0, zero.dtype),)
    return quads


@_jit
@no_type_check
def _plus(x, factor, y, NUM: tl.constexpr):
    """Return x + factor · y."""
    quads = ()
    for k in tl.static_range(NUM):
        quads += (x[k] + factor[:, None] * y[k],)
    return quads


@_jit
@no_type_check
def _dot(x, y, zero, NUM: tl.constexpr):
    total = tl.full([zero.shape[0], 4], 0, zero.dtype)
    for k in tl.static_range(NUM):
        total += x[k] * y[k]
    # `tl.sum` cannot be interpreted where Triton was imported before its interpreter was asked for; this can.
    return tl.reduce(total, 1, tl.standard._sum_combine)


@_jit
@no_type_check
def _write(to, quads, NUM: tl.constexpr, image, y, x, height, width, inside):
    """Write the pixels that exist to a map (B, C, H, W)."""
    for k in tl.static_range((NUM + 3) // 4):
        channel = 4 * k + tl.arange(0, 4)[None, :]
        place = ((image.to(tl.int64) * NUM + channel) * height + y[:, None]) * width + x[:, None]
        tl.store(to + place, quads[k], mask=(channel < NUM) & inside[:, None])


# fmt: off
@_jit
@no_type_check
def _visit(
    packed, values, grad_probs, grad_guide, height, width, radius, dilation,
    NUM_CLASSES: tl.constexpr, NUM_GUIDES: tl.constexpr, WANT_PROBS: tl.constexpr, WANT_GUIDE: tl.constexpr,
    RELAXATION: tl.constexpr, FALLOFF: tl.constexpr, SMALLEST: tl.constexpr, TILE_Y: tl.constexpr, TILE_X: tl.constexpr,
):
    # fmt: on
    """Sum the energy and the gradients of a tile's pixels over their windows."""
    C: tl.constexpr = (NUM_CLASSES + 3) // 4  # quads
    G: tl.constexpr = (NUM_GUIDES + 3) // 4
    SCALARS: tl.constexpr = 128 * (C + G)  # source, destination, half the logarithm of ‖p‖², its inverse
    SIZE: tl.constexpr = SCALARS + 128
    rows = (height + TILE_Y - 1) // TILE_Y
    image, n = tl.program_id(0) // rows, tl.arange(0, TILE_Y * TILE_X)
    y, x = tl.program_id(0) % rows * TILE_Y + n // TILE_X, tl.program_id(1) * TILE_X + n % TILE_X
    inside = (y < height) & (x < width)
    # Nothing outside of the map is read: such a pixel reads the border's numbers instead, and has no weight or is not written.
    y, x = tl.minimum(y, height - 1), tl.minimum(x, width - 1)
    here, column = _place(packed, image, y, x, height, width, SIZE)
    p, g = _read(here, column, 0, C), _read(here, column, C, G)
    scalars = here + SCALARS + column
    a, b = tl.load(scalars), tl.load(scalars + 32)
    if RELAXATION == "collision":
        log_norm, inverse_norm = tl.load(scalars + 64), tl.load(scalars + 96)
    zero, least = tl.full([TILE_Y * TILE_X], 0, a.dtype), tl.full([TILE_Y * TILE_X], SMALLEST, a.dtype)
    value, keep, for_p, for_g = zero, zero, _zeros(zero, C), _zeros(zero, G)
    for step_y in range(-radius, radius + 1):
        for step_x in range(-radius, radius + 1):
            far = step_y * step_y + step_x * step_x
            v, u = y + step_y * dilation, x + step_x * dilation
            meets = (v >= 0) & (v < height) & (u >= 0) & (u < width) & (far > 0)
            v, u = tl.minimum(tl.maximum(v, 0), height - 1), tl.minimum(tl.maximum(u, 0), width - 1)
            there, next_column = _place(packed, image, v, u, height, width, SIZE)
            q, h = _read(there, next_column, 0, C), _read(there, next_column, C, G)
            scalars = there + SCALARS + next_column
            weight = a * tl.load(scalars + 32) + b * tl.load(scalars)
            h = _plus(g, zero - 1, h, G)
            exponent = (zero + far) * FALLOFF - 0.5 * _dot(h, h, zero, G)
            kernel = tl.where(meets, weight * tl.exp(exponent), zero)
            # φ, and kernel · ∂φ/∂p = keep · p − slope · q, collision's 1/‖p‖² left for the end
            slope = kernel
            if RELAXATION == "bilinear":
                phi = 1.0 - _dot(p, q, zero, C)
            elif RELAXATION == "collision":
                dot = _dot(p, q, zero, C)
                safe = tl.maximum(dot, least, propagate_nan=tl.PropagateNan.ALL)
                phi = log_norm + tl.load(scalars + 64) - tl.log(safe)
                slope = tl.where(dot <= SMALLEST, zero, kernel / safe)
                keep += kernel
            else:
                d = _plus(p, zero - 1, q, C)
                phi = 0.5 * _dot(d, d, zero, C)
                if RELAXATION == "log_quadratic":
                    left = 1.0 - phi
                    safe = tl.maximum(left, least, propagate_nan=tl.PropagateNan.ALL)
                    phi = -tl.log(safe)
                    slope = tl.where(left <= SMALLEST, zero, kernel / safe)
                keep += slope
            energy = kernel * phi
            value += energy
            if WANT_PROBS:
                for_p = _plus(for_p, -slope, q, C)
            if WANT_GUIDE:
                for_g = _plus(for_g, -energy, h, G)
    tl.store(values + (image.to(tl.int64) * height + y) * width + x, value, mask=inside)
    if WANT_PROBS:
        if RELAXATION == "collision":
            keep *= inverse_norm
        _write(grad_probs, _plus(for_p, keep, p, C), NUM_CLASSES, image, y, x, height, width, inside)
    if WANT_GUIDE:
        _write(grad_guide, for_g, NUM_GUIDES, image, y, x, height, width, inside)


@cache
def _tuned(num_channels: int) -> Any:
    """Return the kernel with its configurations to try: 1, 2 or 4 threads a pixel, with at most 64 channels a thread."""
    tiles = [(4, 32, 4), (2, 32, 2), (2, 16, 1), (2, 32, 4), (1, 16, 1), (1, 8, 1)]  # rows, columns, warps
    fitting = [(y, x, warps) for y, x, warps in tiles if num_channels * y * x <= 64 * 32 * warps] or tiles[-1:]
    configurations = [triton.Config({"TILE_Y": y, "TILE_X": x}, num_warps=warps, num_stages=1) for y, x, warps in fitting]
    return triton.autotune(configurations, key=["NUM_CLASSES", "NUM_GUIDES", "radius", "RELAXATION", "WANT_GUIDE"])(_visit)


def _pack(probs: Tensor, guide: Tensor, scalars: list[Tensor | None]) -> Tensor:
    """Return (B, H, ⌈W/32⌉, 32·(4Q + 4)): the quads, then the scalars, of 32 pixels. A scalar that is None is ones."""
    num_images, _, height, width = probs.shape
    num_blocks, num_quads = -(-width // 32), sum(-(-x.shape[1] // 4) for x in (probs, guide))
    dtype = torch.promote_types(torch.float32, torch.promote_types(probs.dtype, guide.dtype))
    packed = torch.empty(num_images, height, num_blocks, 128 * num_quads + 128, dtype=dtype, device=probs.device)

    def in_blocks(x: Tensor) -> Tensor:
        x = functional.pad(x, (0, -width % 32)) if width % 32 else x
        return x.view(*x.shape[:-1], num_blocks, 32)

    quads = packed[..., :-128].view(num_images, height, num_blocks, num_quads, 32, 4).permute(0, 3, 5, 1, 2, 4)
    first = 0  # quads are (B, Q, 4, H, blocks, 32) here
    for x in (probs, guide):
        whole, rest = divmod(x.shape[1], 4)
        quads[:, first : first + whole] = in_blocks(x[:, : 4 * whole]).view(num_images, whole, 4, height, num_blocks, 32)
        first += whole
        if rest:
            quads[:, first, :rest], quads[:, first, rest:] = in_blocks(x[:, 4 * whole :]), 0
            first += 1
    for n, scalar in enumerate(scalars):
        packed[..., 128 * num_quads + 32 * n :][..., :32] = 1 if scalar is None else in_blocks(scalar)
    return packed


def energy_triton(
    probs: Tensor,
    guide: Tensor,
    source: Tensor | None,
    destination: Tensor | None,
    radius: int,
    dilation: int,
    sigma_px: float,
    relaxation: str,
    want_probs: bool,
    want_guide: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the energy and its gradients (in the inputs' types), summed in float32, or in float64 if an input is."""
    num_images, num_classes, height, width = probs.shape
    num_guides = guide.shape[1]
    scalars = [source, destination]
    if relaxation == "collision":
        norm = probs.to(torch.promote_types(torch.float32, probs.dtype)).square().sum(1)
        safe = norm.clamp(min=SMALLEST)
        scalars += [0.5 * safe.log(), (norm > SMALLEST) / safe]
    packed = _pack(probs, guide, scalars)
    values = packed.new_empty(num_images, height, width)
    grad_probs = torch.empty(probs.shape if want_probs else (0,), dtype=probs.dtype, device=probs.device)
    grad_guide = torch.empty(guide.shape if want_guide else (0,), dtype=guide.dtype, device=guide.device)
    falloff, want_guide = -0.5 * (dilation / sigma_px) ** 2, want_guide and num_guides > 0
    sizes = (height, width, radius, dilation, num_classes, num_guides)
    arguments = (packed, values, grad_probs, grad_guide, *sizes, want_probs, want_guide, relaxation, falloff, SMALLEST)

    def grid(tile: dict[str, Any]) -> tuple[int, int]:
        return num_images * -(-height // tile["TILE_Y"]), -(-width // tile["TILE_X"])

    if packed.is_cuda and values.numel():
        with torch.cuda.device(packed.device):
            _tuned(num_classes + num_guides)[grid](*arguments, enable_fp_fusion=True)
    elif values.numel():
        _visit[grid](*arguments, **INTERPRETED)
    return (0.5 * values.sum(dtype=torch.float64)).to(packed.dtype), grad_probs, grad_guide
