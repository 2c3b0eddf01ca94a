"""Refinement: probabilities drawn to the picture's own edges, after the network and without learning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from scribbleseg.errors import ConfigError, nearest
from scribbleseg.ops.dense import dense_filter
from scribbleseg.ops.mean_field import window_mean_field
from scribbleseg.ops.tree import tree_filter

#: No probability and no sum of kernel values is taken to be smaller than this.
SMALLEST = 1e-6


def dense_crf(
    probs: Float[Tensor, "B C H W"],
    rgb: Float[Tensor, "B 3 H W"],
    *,
    weight: float = 10.0,
    sigma_px: float = 60.0,
    sigma_rgb: float = 10 / 255,
    smooth_weight: float = 1.0,
    smooth_sigma_px: float = 3.0,
    num_steps: int = 5,
    method: str = "lattice",
) -> Float[Tensor, "B C H W"]:
    """Return the marginals of a fully connected CRF by mean field.

        Q ← softmax(ln p + w_a K_a Q / K_a 1 + w_s K_s Q / K_s 1),   k_a,ij = exp(−½‖x_i−x_j‖²/σ_px² − ½‖rgb_i−rgb_j‖²/σ_rgb²)

    with K_s the same without colour, at σ_s. Potts compatibility. The sums leave a pixel's own share in.

    Args:
        probs: of the network.
        rgb: in [0, 1].
        weight: w_a, of the appearance kernel. A message is a mean over pixels, in [0, 1], whatever the kernel's reach.
        sigma_px, sigma_rgb: widths of the appearance kernel.
        smooth_weight, smooth_sigma_px: w_s and σ_s.
        num_steps: of the mean field.
        method: of :mod:`scribbleseg.ops.dense`.

    Cost: a filtering of C channels a step: 0.2 s a megapixel, class and step, on one core.

    Reference: Krähenbühl & Koltun, *Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials*, NIPS 2011,
    arXiv 1210.5644, algorithm 1. Theirs divides by √(K1) on both sides and takes the own share out: a weight there is no
    weight here.
    """
    log_p = probs.clamp(min=SMALLEST).log()
    places = _positions(probs)
    guide = torch.cat([places / sigma_px, rgb / sigma_rgb], 1)
    mass = _filtered(torch.ones_like(probs[:, :1]), guide, method)
    near = _blurred(torch.ones_like(probs[:, :1]), smooth_sigma_px)
    q = probs
    for _ in range(num_steps):
        appearance = _filtered(q, guide, method) / mass
        smoothness = _blurred(q, smooth_sigma_px) / near
        q = (log_p + weight * appearance + smooth_weight * smoothness).softmax(1)
    return q


def tree(
    probs: Float[Tensor, "B C H W"], rgb: Float[Tensor, "B 3 H W"], *, sigma_rgb: float = 0.05
) -> Float[Tensor, "B C H W"]:
    """Return the probabilities averaged along the minimum spanning tree of the colours.

    A region that has one colour gets one answer, however large it is; a thin line of another colour ends it.

    Args:
        probs: of the network.
        rgb: in [0, 1].
        sigma_rgb: width in colour of one step between neighbours.

    Cost: linear; 0.15 s a megapixel and class on one core.

    Reference: :func:`scribbleseg.ops.tree.tree_filter`, which is that of the tree energy loss.
    """
    return tree_filter(probs, rgb / (2**0.5 * sigma_rgb), rgb)


#: By name; each takes probabilities and colours, and its own numbers.
REFINEMENTS: dict[str, Callable[..., Tensor]] = {"dense_crf": dense_crf, "tree": tree, "window": window_mean_field}


def refined(name: str, probs: Float[Tensor, "C H W"], rgb: Any) -> Float[Tensor, "C H W"]:
    """Return the probabilities of one image, refined by a method of that name.

    Args:
        name: in ``REFINEMENTS``.
        probs: of the network.
        rgb: the picture as floats (H, W, 3) in [0, 1].

    Raises:
        ConfigError: no such method.
    """
    require_known(name)
    colours = torch.as_tensor(rgb, dtype=torch.float32).movedim(-1, 0)[None].to(probs.device)
    return REFINEMENTS[name](probs[None].float(), colours)[0]


def require_known(name: str) -> None:
    """Raise ``ConfigError`` where there is no method of that name."""
    if name not in REFINEMENTS:
        raise ConfigError("refinement", f"one of {', '.join(REFINEMENTS)}", f"'{name}'", nearest(name, REFINEMENTS))


def _filtered(values: Tensor, guide: Tensor, method: str) -> Tensor:
    return dense_filter(values, guide, method=method).clamp(min=SMALLEST)


def _positions(like: Tensor) -> Tensor:
    y, x = (torch.arange(n, dtype=like.dtype, device=like.device) for n in like.shape[-2:])
    return torch.stack(torch.meshgrid(x, y, indexing="xy")).expand(len(like), -1, -1, -1)


def _blurred(values: Tensor, sigma_px: float) -> Tensor:
    """Return the sum under a Gaussian of position alone, which falls apart into rows and columns; nothing lies outside."""
    reach = int(3 * sigma_px + 0.5)
    steps = torch.arange(-reach, reach + 1, dtype=values.dtype, device=values.device)
    kernel = torch.exp(-0.5 * (steps / sigma_px) ** 2)
    batch, channels, height, width = values.shape
    flat = values.reshape(batch * channels, 1, height, width)
    flat = F.conv2d(flat, kernel.view(1, 1, -1, 1), padding=(reach, 0))
    return F.conv2d(flat, kernel.view(1, 1, 1, -1), padding=(0, reach)).reshape(values.shape)
