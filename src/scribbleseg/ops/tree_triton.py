"""The GPU backend of the tree filter, in Triton: rounds over whole maps, no atomics, the same bits every time.

The tree itself is made by :mod:`scribbleseg.ops.tree_torch`, integer work on the GPU. A pixel's channels lie side by side (one
of them is of ones, whose sums are the denominators), so that what is read through a pointer is whole sectors of memory.

*Up.* Doubling as in PyTorch adds to the pixel 2^k above, where many meet: that takes atomics, whose last bits differ from run
to run, and all pixels in every round. Here the tree is contracted (Miller and Reif, *Parallel tree contraction and its
application*, FOCS 1985): a pixel takes in children that are done (they are among its four neighbours); one that waits for a
single child takes in what that has so far, and waits for whom that waits for. So all is read through pointers, and each
pixel written by its own thread. That is twice as many rounds, but half of the pixels are out of it after two and two thirds
after four.

*Down.* Doubling: a step, the squaring of the jumps and, in the first round, the factor 1 − a² are one kernel.

*Cost, counted and not measured yet* (pictures of 512²; a map is C + 1 channels, rounded up to fours). Forward: 26 rounds up
move 11 maps, 18 down 33, packing and dividing 5. Backward with the gradient by the guide: 80. 8 × 21 × 512²: a map is 0.2 GB,
so 10 and 16 GB → 4 and 6 ms at 2.5 TB/s, beside the making of the tree. Maps that fit in L2 wait for some 50 launches a pass
and 7 answers to "done?" instead, about 1 ms. Memory: 2 maps forward, 6 backward, and 32 bytes a pixel. In float32, machine
code for sm_90 has 64 registers at most, nothing spilled.
"""

from __future__ import annotations

from typing import Any, no_type_check

import torch
from torch import Tensor

try:
    import triton
    from triton import language as tl
except ImportError:  # `why_not_triton` says so; the kernels below are then never run
    triton = tl = None

#: Pixels of a program, on a GPU and in the interpreter.
BLOCK, INTERPRETED = 128, 1024

#: Rounds up from one question whether it is done to the next, since the answer has to be waited for. Even.
ROUNDS = 4


def _jit(function: Any) -> Any:
    # Not specialized on sizes: one compilation serves all of them.
    return function if triton is None else triton.jit(function, do_not_specialize=["height", "width"])


@_jit
@no_type_check
def _pixels(height, width, BLOCK: tl.constexpr):
    """Return how many pixels the images before the program's have, its pixels of its image, and which of them exist."""
    size = height * width
    programs = tl.cdiv(size, BLOCK)
    v = tl.program_id(0) % programs * BLOCK + tl.arange(0, BLOCK)
    return (tl.program_id(0) // programs).to(tl.int64) * size, v, v < size


# A pixel's state: ≥ 0 the one pixel that it waits for; −3 to −15 minus the bits of the ways to the children that it waits for;
# −16 done, its sum in the buffer just written; −17 done, its sum in both buffers.
@_jit
@no_type_check
def _state(bits, v, steps):
    state = tl.where(bits == 0, -16, -bits)
    for way in tl.static_range(4):
        state = tl.where(bits == 1 << way, v + steps[way], state)
    return state


@_jit
@no_type_check
def _start(parent, affinity, above, a, states, factors, height, width, BLOCK: tl.constexpr):
    """Look at the edges around every pixel. A parent that is not next to its child is none."""
    before, v, inside = _pixels(height, width, BLOCK)
    size, steps = height * width, (1, width, -1, -width)  # to the right, down, to the left, up
    mine = tl.load(parent + before + v, mask=inside, other=-1)
    zero = tl.zeros([BLOCK], a.dtype.element_ty)
    up, own, factor, bits = v, zero, zero, tl.zeros([BLOCK], tl.int32)
    for way in tl.static_range(4):
        n = v + steps[way]
        there = inside & (n >= 0) & (n < size)
        if way % 2 == 0:
            there &= n // width == v // width
        edge = tl.load(affinity + 2 * before + way % 2 * size + tl.minimum(v, n), mask=there, other=0.0)
        leads_up = there & (mine == n)
        up, own = tl.where(leads_up, n, up), tl.where(leads_up, edge, own)
        leads_down = (tl.load(parent + before + n, mask=there, other=-1) == v) & (edge != 0)
        factor, bits = tl.where(leads_down, edge, factor), bits + tl.where(leads_down, 1 << way, 0)
    tl.store(above + before + v, up, mask=inside)
    tl.store(a + before + v, own, mask=inside)
    tl.store(states + before + v, _state(bits, v, steps), mask=inside)
    tl.store(factors + before + v, factor, mask=inside)


@_jit
@no_type_check
def _contract(
    states, factors, sums, next_states, next_factors, next_sums, a, height, width, NUM: tl.constexpr, BLOCK: tl.constexpr
):
    """Take in the sums of children that are done, or what the one pixel that is waited for has."""
    before, v, inside = _pixels(height, width, BLOCK)
    state = tl.load(states + before + v, mask=inside, other=-17)
    moves, single, several = state != -17, state >= 0, (state < 0) & (state > -16)
    far = tl.where(single, state, v)
    far_state = tl.load(states + before + far, mask=single, other=-3)
    hops = (far_state >= 0) | (far_state < -15)
    factor = tl.load(factors + before + v, mask=single, other=0.0)
    far_factor = tl.load(factors + before + far, mask=single & (far_state >= 0), other=0.0)
    bits, steps = tl.where(several, -state, 0), (1, width, -1, -width)
    rows, weights, takes = (), (), ()
    for way in tl.static_range(4):
        n = v + steps[way]
        ready = tl.load(states + before + n, mask=(bits >> way) % 2 == 1, other=-3) < -15
        weight = tl.load(a + before + n, mask=ready, other=0.0)
        bits -= tl.where(ready, 1 << way, 0)
        if way == 0:  # of two kinds of pixels: each needs this place for one thing
            n, weight, ready = tl.where(single, far, n), tl.where(hops, factor, weight), ready | hops
        rows += (((before + n) * NUM)[:, None],)
        weights += (weight[:, None],)
        takes += (ready[:, None],)
    left = _state(bits, v, steps)
    after = tl.where(hops, tl.maximum(far_state, -16), tl.where(state < -15, -17, state))
    factor = tl.where(hops, factor * far_factor, factor)
    factor = tl.where(several, tl.load(a + before + left, mask=several & (left >= 0), other=0.0), factor)
    tl.store(next_states + before + v, tl.where(several, left, after), mask=inside)
    tl.store(next_factors + before + v, factor, mask=moves)
    row = ((before + v) * NUM)[:, None]
    STEP: tl.constexpr = 8 if NUM % 8 == 0 else 4
    for first in range(0, NUM, STEP):
        c = first + tl.arange(0, STEP)[None, :]
        total = tl.load(sums + row + c, mask=moves[:, None])
        for way in tl.static_range(4):
            total += weights[way] * tl.load(sums + rows[way] + c, mask=takes[way], other=0.0)
        tl.store(next_sums + row + c, total, mask=moves[:, None])


@_jit
@no_type_check
def _double(
    above, a, t, next_above, next_a, next_t, height, width, FIRST: tl.constexpr, NUM: tl.constexpr, BLOCK: tl.constexpr
):
    """Add what is at the far end of the jumps, and square these. A jump to −1 is over, and the pixel's t in both buffers.

    ``FIRST`` is 0 or, where t is s yet, the number of channels in its rows.
    """
    before, v, inside = _pixels(height, width, BLOCK)
    far = tl.load(above + before + v, mask=inside, other=-1)
    moves = far >= 0
    factor = tl.load(a + before + v, mask=moves, other=0.0)
    jumps = factor != 0
    far_factor = tl.load(a + before + far, mask=jumps, other=0.0)
    after = tl.where(far_factor == 0, 0.0, factor * far_factor)
    beyond = tl.load(above + before + far, mask=jumps & (after != 0), other=-1)
    ends = (after == 0) & (jumps | (FIRST > 0))
    tl.store(next_above + before + v, tl.where(ends, v, beyond), mask=inside)
    tl.store(next_a + before + v, after, mask=inside)
    row, far_row = (before + v)[:, None], (before + far)[:, None]
    PITCH: tl.constexpr = FIRST if FIRST > 0 else NUM
    STEP: tl.constexpr = 8 if NUM % 8 == 0 else 4
    for first in range(0, NUM, STEP):
        c = first + tl.arange(0, STEP)[None, :]
        here = tl.load(t + row * PITCH + c, mask=moves[:, None])
        there = tl.load(t + far_row * PITCH + c, mask=jumps[:, None], other=0.0)
        if FIRST > 0:
            here *= ((1 - factor) * (1 + factor))[:, None]
            there *= ((1 - far_factor) * (1 + far_factor))[:, None]
        tl.store(next_t + row * NUM + c, here + factor[:, None] * there, mask=moves[:, None])


@_jit
@no_type_check
def _slope(sums, t, t_u, above, a, slopes, height, width, NUM: tl.constexpr, BLOCK: tl.constexpr):
    """Write the derivative of Σ u·K y by every edge of the tree; a row of ``sums`` has s_u, then s."""
    before, v, inside = _pixels(height, width, BLOCK)
    up = tl.load(above + before + v, mask=inside, other=0)
    inner = inside & (up != v)
    factor = tl.load(a + before + v, mask=inner, other=0.0)[:, None]
    row, far_row = ((before + v) * NUM)[:, None], ((before + up) * NUM)[:, None]
    STEP: tl.constexpr = 8 if NUM % 8 == 0 else 4
    total = tl.zeros([BLOCK, STEP], a.dtype.element_ty)
    for first in range(0, NUM, STEP):
        c = first + tl.arange(0, STEP)[None, :]
        s_u = tl.load(sums + 2 * row + c, mask=inner[:, None], other=0.0)
        s = tl.load(sums + 2 * row + NUM + c, mask=inner[:, None], other=0.0)
        far = tl.load(t + far_row + c, mask=inner[:, None], other=0.0)
        far_u = tl.load(t_u + far_row + c, mask=inner[:, None], other=0.0)
        total += s_u * (far - factor * s) + s * (far_u - factor * s_u)
    vertical = (up - v == width) | (v - up == width)
    edge = 2 * before + tl.where(vertical, height * width, 0) + tl.minimum(v, up)
    # `tl.sum` cannot be interpreted where Triton was imported before its interpreter was asked for; this can.
    tl.store(slopes + edge, tl.reduce(total, 1, tl.standard._sum_combine), mask=inner)


class _Passes:
    """Both passes along the trees of a batch. Rows of maps (B, P, N) are pixels, N a multiple of 4."""

    def __init__(self, affinity: Tensor, parent: Tensor) -> None:
        parent, self.affinity = parent.contiguous(), affinity.contiguous()
        self.above, self.a = torch.empty_like(parent), affinity.new_empty(parent.shape)
        self.states, self.factors = torch.empty_like(parent), torch.empty_like(self.a)
        self._run(_start, parent, self.affinity, self.above, self.a, self.states, self.factors)

    def _run(self, kernel: Any, *maps: Tensor, **constants: int) -> None:
        num_images, size = self.a.shape
        block = BLOCK if self.a.is_cuda else INTERPRETED
        with torch.cuda.device_of(self.a):  # type: ignore[no-untyped-call]
            programs = (num_images * triton.cdiv(size, block),)
            kernel[programs](*maps, *self.affinity.shape[2:], **constants, BLOCK=block, enable_fp_fusion=True)

    def up(self, sums: Tensor, spare: Tensor) -> Tensor:
        """Return s of values, in their place; once."""
        here = (self.states, self.factors, sums)
        there = (torch.empty_like(self.states), torch.empty_like(self.factors), spare)
        for _ in range(0, self.a.numel(), ROUNDS):  # at least one pixel gets done in every round
            for _ in range(ROUNDS // 2):
                self._run(_contract, *here, *there, self.a, NUM=sums.shape[2])
                self._run(_contract, *there, *here, self.a, NUM=sums.shape[2])
            if int(self.states.max()) < -15:
                break
        return sums

    def down(self, s: Tensor, buffers: tuple[Tensor, Tensor]) -> Tensor:
        """Return t of the first channels of s, in one of two maps; the second of them may be s itself."""
        now = (self.above, self.a, s)
        turns = [(torch.empty_like(self.above), torch.empty_like(self.a), buffer) for buffer in buffers]
        for n in range(max(1, (self.a.shape[1] - 1).bit_length())):
            self._run(_double, *now, *turns[n % 2], FIRST=0 if n else s.shape[2], NUM=buffers[0].shape[2])
            now = turns[n % 2]
        return now[2]

    def slope(self, sums: Tensor, t: Tensor, t_u: Tensor) -> Tensor:
        """Return the derivative of Σ u·K y by every affinity."""
        slopes = torch.zeros_like(self.affinity)
        self._run(_slope, sums, t, t_u, self.above, self.a, slopes, NUM=t.shape[2])
        return slopes


def filter_triton(values: Tensor, affinity: Tensor, parent: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
    """Return the filtered values and the sums of affinities."""
    classes = values.shape[1]
    packed = values.new_zeros(*parent.shape, classes // 4 * 4 + 4)
    packed[..., :classes], packed[..., classes] = values.flatten(2).mT, 1
    passes, spare = _Passes(affinity, parent), torch.empty_like(packed)
    t = passes.down(passes.up(packed, spare), (spare, packed)).mT
    norm = t[:, classes].contiguous()
    filtered = torch.div(t[:, :classes], norm[:, None], out=values.new_empty(t.shape[0], classes, t.shape[2]))
    return filtered.view(values.shape), norm.view(values.shape[0], *values.shape[2:])


def gradient_triton(
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
    classes = values.shape[1]
    num = classes // 4 * 4 + 4
    filtered, norm = filtered.flatten(2).mT, norm.flatten(1)
    packed = values.new_zeros(*parent.shape, 2 * num if want_affinity else num)
    u = torch.div(grad.flatten(2).mT, norm[..., None], out=packed[..., :classes])
    if want_affinity:  # a channel of ones again, whose u is what flows through the sums
        packed[..., classes] = -(u * filtered).sum(2)
        packed[..., num : num + classes], packed[..., num + classes] = values.flatten(2).mT, 1
    passes, spare = _Passes(affinity, parent), torch.empty_like(packed)
    sums = passes.up(packed, spare)
    t_u = passes.down(sums, tuple(spare.view(2, *parent.shape, num)) if want_affinity else (spare, sums))
    for_affinity = affinity.new_empty(0)
    if want_affinity:
        t = values.new_zeros(*parent.shape, num)
        t[..., :classes], t[..., classes] = filtered * norm[..., None], norm
        for_affinity = passes.slope(sums, t, t_u)
    for_values = t_u[..., :classes].mT.contiguous().view(values.shape) if want_values else values.new_empty(0)
    return for_values, for_affinity
