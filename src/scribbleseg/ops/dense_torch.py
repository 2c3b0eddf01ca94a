"""Sums over all pairs of two point sets under a Gaussian, in plain PyTorch: tiles of pairs, never all of them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

#: Pairs whose kernel is in memory at a time.
PAIRS = 1 << 21
#: Squared length of a centred guide up to which ‖x − y‖² = ‖x‖² + ‖y‖² − 2x·y is good enough in float32.
SHORT = 1e3


def gaussian_sum_torch(
    x: Float[Tensor, "B G I"], y: Float[Tensor, "B G J"], v: Float[Tensor, "B N J"], u: Float[Tensor, "B N I"] | None = None
) -> Tensor:
    """Return Σ_j k_ij v_j (B N I), or with ``u`` its pull on x: −Σ_j k_ij (u_i·v_j)(x_i − y_j) (B G I).

    k_ij = exp(−½‖x_i − y_j‖²). The pull is the gradient of Σ_ij k_ij u_i·v_j by x, with y held.

    The products x·y are one matrix product; x and y should be centred. Its rounding is about 1e-7·‖x‖² of k in float32,
    so that longer ones are multiplied in float64.

    Cost: I·J·(G + N) products, twice with ``u``; memory a few times ``PAIRS`` numbers.
    """
    out_channels = v.shape[1] if u is None else x.shape[1]
    out = v.new_empty(v.shape[0], out_channels, x.shape[2])
    if not out.numel() or not y.numel():
        return out.zero_()
    own = x if x.dtype == torch.float64 or float(torch.maximum(_squares(x).amax(), _squares(y).amax())) <= SHORT else x.double()
    there = y.to(own.dtype)
    half = -0.5 * _squares(there).unsqueeze(1)
    step = max(1, PAIRS // max(1, y.shape[0] * y.shape[2]))
    for first in range(0, x.shape[2], step):
        here = own[..., first : first + step]
        kernel = torch.baddbmm(half, here.mT, there).sub_(0.5 * _squares(here).unsqueeze(2)).clamp_(max=0).exp_().to(v.dtype)
        if u is None:
            out[..., first : first + step] = v @ kernel.mT
        else:
            kernel *= u[..., first : first + step].mT @ v
            at = x[..., first : first + step]
            out[..., first : first + step] = y @ kernel.mT - kernel.sum(2).unsqueeze(1) * at
    return out


def _squares(x: Tensor) -> Tensor:
    return x.square().sum(1)
