"""The portable backend of the windowed energy: a loop over half of the window on whole maps."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

#: Nothing under a logarithm is smaller.
SMALLEST = 1e-6


def half_offsets(radius: int, dilation: int) -> Iterator[tuple[int, int]]:
    """Yield (dy, dx) for one half of the window, so that each unordered pair comes once."""
    for dy in range(0, radius + 1):
        for dx in range(-radius, radius + 1):
            if dy > 0 or dx > 0:
                yield dy * dilation, dx * dilation


def pair_views(x: Tensor, dy: int, dx: int) -> tuple[Tensor, Tensor]:
    """Return views of ``x`` (..., H, W) at the two ends of every pair that is (dy, dx) apart."""
    height, width = x.shape[-2:]
    first = x[..., : height - dy, max(0, -dx) : width - max(0, dx)]
    second = x[..., dy:, max(0, dx) : width - max(0, -dx)]
    return first, second


def energy_torch(
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
    """Return the energy and its gradients; memory is a few copies of the inputs at any radius.

    With w = (a_i b_j + b_i a_j) k the bilinear energy over unordered pairs is Σ w − ½ Σ_i p_i·s_i, s_i = Σ_j w p_j,
    and s is minus the gradient: no product p·q of a pair is ever made, unless the guide's gradient asks for it.
    """
    pull = torch.zeros_like(probs)  # Σ_j w ∂φ/∂u p_j
    push = torch.zeros_like(guide) if want_guide else None
    fast = relaxation == "bilinear" and push is None
    by_norm = torch.zeros_like(probs[:, 0]) if relaxation != "bilinear" else None
    norms = probs.square().sum(1) if relaxation != "bilinear" else None
    total = torch.zeros((), dtype=torch.float64, device=probs.device)
    for dy, dx in half_offsets(radius, dilation):
        if dy >= probs.shape[-2] or abs(dx) >= probs.shape[-1]:
            continue
        p, q = pair_views(probs, dy, dx)
        g, h = pair_views(guide, dy, dx)
        step = g - h
        kernel = (step * step).sum(1).mul_(-0.5).add_(-0.5 * (dy * dy + dx * dx) / sigma_px**2).exp_()
        if source is None or destination is None:
            kernel.mul_(2)
        else:
            a, c = pair_views(source, dy, dx)
            b, d = pair_views(destination, dy, dx)
            kernel.mul_(a * d + b * c) if a is not b else kernel.mul_(2 * a * c)
        at_p, at_q = pair_views(pull, dy, dx)
        if fast:
            total += kernel.sum(dtype=torch.float64)
            slope = kernel.unsqueeze(1)
        else:
            phi, by_u, for_p, for_q = _relax(p, q, norms, dy, dx, relaxation)
            total += (kernel * phi).sum(dtype=torch.float64)
            slope = (kernel * by_u).neg_().unsqueeze(1)
            if by_norm is not None:
                n_p, n_q = pair_views(by_norm, dy, dx)
                n_p.addcmul_(kernel, for_p)
                n_q.addcmul_(kernel, for_q)
            if push is not None:
                step.mul_((kernel * phi).unsqueeze(1))
                at_g, at_h = pair_views(push, dy, dx)
                at_g.sub_(step)
                at_h.add_(step)
        if fast or want_probs:
            at_p.addcmul_(slope, q)
            at_q.addcmul_(slope, p)
    if fast:
        total -= 0.5 * (probs * pull).sum(dtype=torch.float64)
    pull.neg_()
    if by_norm is not None:
        pull.addcmul_(by_norm.unsqueeze(1), probs, value=2)
    value = total.to(probs.dtype)
    return value, pull if want_probs else probs.new_empty(0), probs.new_empty(0) if push is None else push


def _relax(
    p: Tensor, q: Tensor, norms: Tensor | None, dy: int, dx: int, relaxation: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return φ, ∂φ/∂(p·q), ∂φ/∂‖p‖² and ∂φ/∂‖q‖² of every pair."""
    dot = (p * q).sum(1)
    one = torch.ones_like(dot)
    if norms is None:
        return 1 - dot, -one, one, one
    if relaxation == "collision":
        m, n = pair_views(norms, dy, dx)
        safe, m_, n_ = dot.clamp(min=SMALLEST), m.clamp(min=SMALLEST), n.clamp(min=SMALLEST)
        phi = 0.5 * (m_.log() + n_.log()) - safe.log()
        return phi, (dot > SMALLEST) / -safe, 0.5 * (m > SMALLEST) / m_, 0.5 * (n > SMALLEST) / n_
    half_gap = 0.5 * (p - q).square().sum(1)
    if relaxation == "quadratic":
        return half_gap, -one, 0.5 * one, 0.5 * one
    left = 1 - half_gap
    slope = (left > SMALLEST) / left.clamp(min=SMALLEST)
    return -left.clamp(min=SMALLEST).log(), -slope, 0.5 * slope, 0.5 * slope
