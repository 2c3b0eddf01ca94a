"""Windowed Gaussian energy: how much neighbouring pixels that look alike disagree.

    E = Σ_i Σ_{j ∈ win(i)} m_i m_j · k_ij · d(p_i, p_j),   k_ij = exp(−½‖g_i − g_j‖² − ½‖x_i − x_j‖²/σ²)

    d(p, q) = 1 − p·q (``bilinear``: also asks for certainty)  or  ½‖p − q‖² (``quadratic``: asks for agreement alone)

``win(i)`` is the (2r+1)² window around i, its steps ``dilation`` pixels apart, without i itself. The guide ``g`` holds
every feature of the kernel (colour, deep features), each already divided by its own sigma and stacked along channels,
so that one op serves static and dynamic kernels. Every ordered pair counts, so each unordered one counts twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from scribbleseg.errors import ConfigError, nearest

#: Pair terms: continuous forms of "the two pixels differ".
RELAXATIONS = ("bilinear", "quadratic")


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


def energy_reference(
    probs: Float[Tensor, "B C H W"],
    guide: Float[Tensor, "B G H W"],
    valid: Bool[Tensor, "B H W"],
    radius: int,
    dilation: int,
    sigma_px: float,
    relaxation: str,
) -> Float[Tensor, ""]:
    """The definition: every pair of pixels, in float64, through autograd. O(P²) memory: for tests and small maps."""
    height, width = probs.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    xy = torch.stack([y.flatten(), x.flatten()], 1)  # P 2
    step = xy[:, None] - xy[None]
    inside = (step.abs() <= radius * dilation).all(-1) & (step % dilation == 0).all(-1) & (step != 0).any(-1)
    inside = inside.to(probs.device)
    distance = step.double().square().sum(-1).to(probs.device) / sigma_px**2
    p = probs.double().flatten(2).transpose(1, 2)  # B P C
    g = guide.double().flatten(2).transpose(1, 2)
    m = valid.flatten(1).double()
    kernel = torch.exp(-0.5 * ((g[:, :, None] - g[:, None]).square().sum(-1) + distance))
    kernel = kernel * inside * m[:, :, None] * m[:, None]
    if relaxation == "quadratic":
        disagreement = 0.5 * (p[:, :, None] - p[:, None]).square().sum(-1)
    else:
        disagreement = 1 - p @ p.transpose(1, 2)
    return (kernel * disagreement).sum()


class _WindowedEnergy(torch.autograd.Function):
    """One pass over half of the offsets; the gradients are made together with the value, and only they are kept."""

    @staticmethod
    def forward(ctx, probs, guide, valid, radius, dilation, sigma_px, relaxation):  # type: ignore[no-untyped-def]
        total = probs.new_zeros(())
        grad_probs = torch.zeros_like(probs) if ctx.needs_input_grad[0] else None
        grad_guide = torch.zeros_like(guide) if ctx.needs_input_grad[1] else None
        mask = None if bool(valid.all()) else valid.to(probs.dtype)
        for dy, dx in half_offsets(radius, dilation):
            if dy >= probs.shape[-2] or abs(dx) >= probs.shape[-1]:
                continue
            p, q = pair_views(probs, dy, dx)
            g, h = pair_views(guide, dy, dx)
            difference = g - h
            near = -0.5 * (dy * dy + dx * dx) / sigma_px**2
            kernel = difference.square().sum(1).mul_(-0.5).add_(near).exp_()
            if mask is not None:
                m, n = pair_views(mask, dy, dx)
                kernel = kernel * m * n
            gap = p - q if relaxation == "quadratic" else None
            disagreement = 1 - (p * q).sum(1) if gap is None else 0.5 * gap.square().sum(1)
            total += 2 * (kernel * disagreement).sum()
            if grad_probs is not None:
                twice = 2 * kernel.unsqueeze(1)
                at_p, at_q = pair_views(grad_probs, dy, dx)
                at_p.addcmul_(twice, q if gap is None else gap, value=-1 if gap is None else 1)
                at_q.addcmul_(twice, p if gap is None else gap, value=-1)
            if grad_guide is not None:
                pull = difference.mul_((2 * kernel * disagreement).unsqueeze(1))
                at_g, at_h = pair_views(grad_guide, dy, dx)
                at_g.sub_(pull)
                at_h.add_(pull)
        ctx.save_for_backward(grad_probs, grad_guide)
        return total

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        grad_probs, grad_guide = ctx.saved_tensors
        return (
            None if grad_probs is None else grad * grad_probs,
            None if grad_guide is None else grad * grad_guide,
            *(None,) * 5,
        )


def energy_torch(
    probs: Float[Tensor, "B C H W"],
    guide: Float[Tensor, "B G H W"],
    valid: Bool[Tensor, "B H W"],
    radius: int,
    dilation: int,
    sigma_px: float,
    relaxation: str,
) -> Float[Tensor, ""]:
    """Portable backend: a loop over offsets on whole maps; memory is a few copies of the inputs at any radius."""
    return _WindowedEnergy.apply(probs, guide, valid, radius, dilation, sigma_px, relaxation)  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Backend:
    """One way to compute the op. ``why_not`` returns a reason for not using it here, or None."""

    run: Callable[..., Tensor]
    why_not: Callable[[torch.device], str | None]


#: In order of preference; the first without a reason against it is taken.
BACKENDS: dict[str, Backend] = {
    "torch": Backend(energy_torch, lambda device: None),
    "reference": Backend(energy_reference, lambda device: "the definition, O(P²): by name only"),
}


def windowed_energy(
    probs: Float[Tensor, "B C H W"],
    guide: Float[Tensor, "B G H W"],
    valid: Bool[Tensor, "B H W"] | None = None,
    *,
    radius: int,
    dilation: int = 1,
    sigma_px: float = math.inf,
    relaxation: str = "bilinear",
    backend: str | None = None,
) -> Float[Tensor, ""]:
    """Energy of the module's docstring, differentiable in ``probs`` and in ``guide``.

    Args:
        probs: class probabilities; any real scores work, the energy is quadratic in them.
        guide: kernel features, each channel divided by its sigma.
        valid: pixels that take part; all of them if None.
        radius: window half-width in steps.
        dilation: pixels per step.
        sigma_px: width of the spatial Gaussian in pixels of this grid; ``inf`` for none.
        relaxation: ``bilinear`` or ``quadratic``, the pair term d.
        backend: a name of ``BACKENDS``, or None for the first that runs here.

    Raises:
        ConfigError: unknown backend or relaxation, or a radius, dilation or sigma that is not positive.

    Cost: B·P·((2r+1)²−1)/2 pairs, each about 6C + 7G flops with both gradients; memory one copy of each input.

    Reference: the window and the bilinear (Potts) term follow Obukhov et al., *Gated CRF Loss*, arXiv 1906.04651.
    """
    if radius < 1 or dilation < 1 or not sigma_px > 0:
        raise ConfigError(
            "windowed_energy",
            "radius ≥ 1, dilation ≥ 1, sigma_px > 0",
            f"radius={radius}, dilation={dilation}, sigma_px={sigma_px}",
            "correct the kernel's numbers",
        )
    if valid is None:
        valid = torch.ones(probs.shape[0], *probs.shape[-2:], dtype=torch.bool, device=probs.device)
    if relaxation not in RELAXATIONS:
        raise ConfigError("windowed_energy", "a known relaxation", relaxation, nearest(relaxation, RELAXATIONS))
    if backend is not None and backend not in BACKENDS:
        raise ConfigError("windowed_energy", "a known backend", backend, nearest(backend, BACKENDS))
    chosen = backend or next(name for name, b in BACKENDS.items() if b.why_not(probs.device) is None)
    return BACKENDS[chosen].run(probs, guide, valid, radius, dilation, sigma_px, relaxation)
