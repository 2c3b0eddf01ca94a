"""The dense Gaussian kernel through landmarks (Nyström): A ≈ C W⁻¹ Cᵀ, so that a filtering is a few matrix products."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from scribbleseg.ops.sampling import GOLDEN, pick, spread

#: Pixels per landmark that the landmarks are the means of, and rounds in which they are found.
PIXELS_PER_LANDMARK = 16
ROUNDS = 3
#: Added to the diagonal of W. A smaller one makes float32's rounding visible, a larger one the error of the kernel.
RIDGE = 1e-5


def landmarks(guide: Float[Tensor, "B G P"], weight: Float[Tensor, "B P"], count: int) -> Float[Tensor, "B G M"]:
    """Return k-means centres of the guide's pixels of weight 1, from evenly spread ones; at most one a pixel.

    Cost: 3 rounds on 16 pixels a landmark: 48·M² distances.
    """
    count = min(count, guide.shape[2])
    num_points = min(PIXELS_PER_LANDMARK * count, guide.shape[2])
    points = pick(guide, spread(weight, num_points))
    order = (torch.arange(num_points, dtype=torch.float64, device=guide.device) * GOLDEN).frac().argsort()
    centres = points[..., order[:count]]  # not every eighth: that would be one column of the picture
    counted = torch.cat([points, torch.ones_like(points[:, :1])], 1)
    for _ in range(ROUNDS):
        near = torch.baddbmm(-0.5 * centres.square().sum(1, keepdim=True), points.mT, centres)
        member = near.ge_(near.amax(2, keepdim=True))  # B points M, 1 for the nearest
        sums = counted @ member
        size = sums[:, -1:]
        centres = torch.where(size > 0, sums[:, :-1] / size.clamp(min=1), centres)
    return centres


def low_rank(gaussian_sum: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return the method on top of one backend's sum over pairs.

    C_im = k(g_i, z_m), W_mn = k(z_m, z_n) for landmarks z. The gradient by the guide is that of C W⁻¹ Cᵀ with z held.
    """

    def run(v: Tensor, guide: Tensor, u: Tensor | None, num_landmarks: int) -> Tensor:
        z = landmarks(guide, v[:, -1], num_landmarks)
        rows = z.double().mT.contiguous()
        w = torch.exp(-0.5 * torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist").square())
        w = w + RIDGE * torch.eye(w.shape[1], dtype=w.dtype, device=w.device)
        root, _ = torch.linalg.cholesky_ex(w)  # does not raise on NaN
        both = v if u is None else torch.cat([u, v], 1)
        sums = gaussian_sum(z, guide, both).double()  # B N M
        solved = torch.cholesky_solve(sums.mT, root).mT.to(v.dtype).contiguous()
        if u is None:
            return gaussian_sum(guide, z, solved)
        num = v.shape[1]
        return gaussian_sum(guide, z, torch.cat([solved[:, num:], solved[:, :num]], 1), both)

    return run
