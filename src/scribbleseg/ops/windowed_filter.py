"""Windowed Gaussian filter: the mean of a pixel's neighbours, each weighed by how alike it looks."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from scribbleseg.ops.windowed import windowed_energy

#: Where the weights of all neighbours add up to less than this, a pixel keeps its own value.
SMALLEST = 1e-12


def windowed_filter(
    values: Float[Tensor, "B C H W"],
    guide: Float[Tensor, "B G H W"],
    valid: Bool[Tensor, "B H W"] | None = None,
    *,
    radius: int,
    dilation: int = 1,
    sigma_px: float = math.inf,
    backend: str | None = None,
) -> Float[Tensor, "B C H W"]:
    """Return Σ_j k_ij v_j / Σ_j k_ij over the window of each pixel, without the pixel itself; no gradient.

    k is the kernel of :func:`scribbleseg.ops.windowed.windowed_energy`, and the sums are its gradient: of the bilinear energy
    −2 Σ_j k_ij v_j, of a channel of ones −2 Σ_j k_ij. A pixel that is not valid, or has no neighbour of any weight, keeps
    its value.

    Args:
        values: any numbers.
        guide: kernel features, each channel divided by its sigma.
        valid: pixels that take part; all of them if None.
        radius, dilation, sigma_px, backend: as for the energy.

    Cost: that of the energy with C + 1 channels.
    """
    with torch.inference_mode(False), torch.enable_grad():
        stacked = torch.cat([values, torch.ones_like(values[:, :1])], 1).detach().clone().requires_grad_()
        energy = windowed_energy(
            stacked, guide.detach().clone(), valid, radius=radius, dilation=dilation, sigma_px=sigma_px, backend=backend
        )
        (slope,) = torch.autograd.grad(energy, stacked)
    sums = -0.5 * slope
    mass = sums[:, -1:]
    return torch.where(mass > SMALLEST, sums[:, :-1] / mass.clamp(min=SMALLEST), values.detach())
