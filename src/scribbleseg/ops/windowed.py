"""Windowed Gaussian energy: how much neighbouring pixels that look alike disagree.

    E = Σ_i Σ_{j ∈ win(i)} a_i b_j · k_ij · φ(p_i, p_j),   k_ij = exp(−½‖g_i − g_j‖² − ½‖x_i − x_j‖²/σ²)

    bilinear       φ = 1 − p·q                   also asks for certainty
    quadratic      φ = ½‖p − q‖²                 asks for agreement alone
    log_quadratic  φ = −ln(1 − ½‖p − q‖²)        the same, with a steep end: no vanishing gradient at full disagreement
    collision      φ = −ln(p·q / (‖p‖ ‖q‖))      divergence: agreement whatever the certainty

``win(i)`` is the (2r+1)² window around i, its steps ``dilation`` pixels apart, without i itself. The guide ``g`` holds
every feature of the kernel (colour, deep features), each already divided by its own sigma and stacked along channels,
so that one op serves static and dynamic kernels. Every ordered pair counts, so each unordered one counts twice. The
weights a (source) and b (destination) say which pixels look around and which are looked at; mostly both are "valid".
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from scribbleseg.errors import ConfigError, nearest
from scribbleseg.ops.backends import Backend, choose, reference_only, why_not_compiled, why_not_triton
from scribbleseg.ops.finite import check_finite
from scribbleseg.ops.windowed_compiled import energy_compiled
from scribbleseg.ops.windowed_torch import SMALLEST, energy_torch

#: Pair terms φ: continuous forms of "the two pixels differ".
RELAXATIONS = ("bilinear", "quadratic", "log_quadratic", "collision")


def energy_reference(
    probs: Float[Tensor, "B C H W"],
    guide: Float[Tensor, "B G H W"],
    source: Float[Tensor, "B H W"],
    destination: Float[Tensor, "B H W"],
    radius: int,
    dilation: int,
    sigma_px: float,
    relaxation: str,
) -> Float[Tensor, ""]:
    """The definition: every pair of pixels, in float64, through autograd. O(P²) memory: for tests and small maps."""
    height, width = probs.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    xy = torch.stack([y.flatten(), x.flatten()], 1).to(probs.device)  # P 2
    step = xy[:, None] - xy[None]
    inside = (step.abs() <= radius * dilation).all(-1) & (step % dilation == 0).all(-1) & (step != 0).any(-1)
    distance = step.double().square().sum(-1) / sigma_px**2
    p = probs.double().flatten(2).transpose(1, 2)  # B P C
    g = guide.double().flatten(2).transpose(1, 2)
    a, b = source.flatten(1).double(), destination.flatten(1).double()
    kernel = torch.exp(-0.5 * ((g[:, :, None] - g[:, None]).square().sum(-1) + distance))
    kernel = kernel * inside * a[:, :, None] * b[:, None]
    dot = p @ p.transpose(1, 2)
    half_gap = 0.5 * (p[:, :, None] - p[:, None]).square().sum(-1)
    norm = p.square().sum(-1).clamp(min=SMALLEST)
    phi = {
        "bilinear": lambda: 1 - dot,
        "quadratic": lambda: half_gap,
        "log_quadratic": lambda: -(1 - half_gap).clamp(min=SMALLEST).log(),
        "collision": lambda: 0.5 * (norm.log()[:, :, None] + norm.log()[:, None]) - dot.clamp(min=SMALLEST).log(),
    }[relaxation]()
    return (kernel * phi).sum()


def energy_triton(*arguments):  # type: ignore[no-untyped-def]
    """The GPU backend; its file is read when it is first used, since it needs Triton."""
    from scribbleseg.ops import windowed_triton

    return windowed_triton.energy_triton(*arguments)


#: In order of preference; the first without a reason against it is taken.
BACKENDS: dict[str, Backend] = {
    "triton": Backend(energy_triton, why_not_triton),
    "compiled": Backend(energy_compiled, why_not_compiled("_windowed")),
    "torch": Backend(energy_torch, lambda device: None),
    "reference": Backend(energy_reference, reference_only),
}


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # a graph cannot look for modules
def _choose(name: str | None, device: torch.device) -> str:
    return choose("windowed_energy", BACKENDS, name, device)


@torch.library.custom_op(
    "scribbleseg::windowed_energy",
    mutates_args=(),
    schema="(Tensor probs, Tensor guide, Tensor source, Tensor destination, int radius, int dilation, float sigma_px, "
    "str relaxation, str backend, bool want_probs, bool want_guide) -> (Tensor, Tensor, Tensor)",
)
def _op(probs, guide, source, destination, radius, dilation, sigma_px, relaxation, backend, want_probs, want_guide):  # type: ignore[no-untyped-def]
    """Value and both gradients in one pass; a gradient that is not wanted is empty. An empty weight stands for ones."""
    return BACKENDS[backend].run(
        probs.detach(),
        guide.detach(),
        source if source.numel() else None,
        destination if destination.numel() else None,
        radius,
        dilation,
        sigma_px,
        relaxation,
        want_probs,
        want_guide,
    )


@_op.register_fake
def _shapes(probs, guide, source, destination, radius, dilation, sigma_px, relaxation, backend, want_probs, want_guide):  # type: ignore[no-untyped-def]
    return (
        probs.new_empty(()),
        probs.new_empty(probs.shape if want_probs else (0,)),
        guide.new_empty(guide.shape if want_guide else (0,)),
    )


def _keep(ctx, inputs, output):  # type: ignore[no-untyped-def]
    _, grad_probs, grad_guide = output
    ctx.mark_non_differentiable(grad_probs, grad_guide)
    ctx.save_for_backward(grad_probs, grad_guide)


def _backward(ctx, grad, *_):  # type: ignore[no-untyped-def]
    for_probs, for_guide = (
        grad * g if needed else None for g, needed in zip(ctx.saved_tensors, ctx.needs_input_grad, strict=False)
    )
    return for_probs, for_guide, *(None,) * 9


_op.register_autograd(_backward, setup_context=_keep)


def windowed_energy(
    probs: Float[Tensor, "B C H W"],
    guide: Float[Tensor, "B G H W"],
    valid: Bool[Tensor, "B H W"] | None = None,
    *,
    radius: int,
    dilation: int = 1,
    sigma_px: float = math.inf,
    relaxation: str = "bilinear",
    source: Bool[Tensor, "B H W"] | Float[Tensor, "B H W"] | None = None,
    destination: Bool[Tensor, "B H W"] | Float[Tensor, "B H W"] | None = None,
    backend: str | None = None,
    check: bool = False,
) -> Float[Tensor, ""]:
    """Energy of the module's docstring, differentiable in ``probs`` and in ``guide``, once.

    Args:
        probs: class probabilities; any real scores work for the first two relaxations, which are quadratic in them.
        guide: kernel features, each channel divided by its sigma.
        valid: pixels that take part; all of them if None. It is the source and the destination where those are None.
        radius: window half-width in steps.
        dilation: pixels per step.
        sigma_px: width of the spatial Gaussian in pixels of this grid; ``inf`` for none.
        relaxation: a name of ``RELAXATIONS``, the pair term φ. Under a logarithm nothing is below 1e-6.
        source: weight a of a pixel as the one that looks around; no gradient.
        destination: weight b of a pixel as the one that is looked at; no gradient.
        backend: a name of ``BACKENDS``, or None for the first that runs here. Half precision is computed in float32.
        check: look for NaN and infinity in the inputs first; without it a NaN ends in a NaN.

    Raises:
        ConfigError: unknown backend or relaxation, or a radius, dilation or sigma that is not positive.
        DataError: ``check`` found a value that is not finite.

    Cost: B·P·((2r+1)²−1)/2 pairs, each about 6C + 7G flops with both gradients; memory a few copies of the inputs at any
    radius.

    Reference: window, masks and the bilinear term follow Obukhov et al., *Gated CRF Loss*, arXiv 1906.04651; the other
    relaxations Zhang & Boykov, *Soft Self-labeling and Potts Relaxations*, CVPR 2025.
    """
    if radius < 1 or dilation < 1 or not sigma_px > 0:
        raise ConfigError(
            "windowed_energy",
            "radius ≥ 1, dilation ≥ 1, sigma_px > 0",
            f"radius={radius}, dilation={dilation}, sigma_px={sigma_px}",
            "correct the kernel's numbers",
        )
    if relaxation not in RELAXATIONS:
        raise ConfigError("windowed_energy", "a known relaxation", relaxation, nearest(relaxation, RELAXATIONS))
    chosen = _choose(backend, probs.device)
    dtype = torch.promote_types(torch.float32, torch.promote_types(probs.dtype, guide.dtype))
    probs, guide = probs.to(dtype), guide.to(dtype)
    if check:
        check_finite("windowed_energy", probs=probs, guide=guide, source=source, destination=destination)
    if valid is not None:
        source = valid if source is None else source
        destination = valid if destination is None else destination
    if chosen == "reference":
        return energy_reference(
            probs, guide, _ones(source, probs), _ones(destination, probs), radius, dilation, sigma_px, relaxation
        ).to(dtype)
    ones = probs.new_empty(0)
    if source is not None or destination is not None:
        same = source is destination
        source = _ones(source, probs)
        destination = source if same else _ones(destination, probs)
    wanted = torch.is_grad_enabled()
    value, _, _ = _op(
        probs,
        guide,
        ones if source is None else source,
        ones if destination is None else destination,
        radius,
        dilation,
        sigma_px,
        relaxation,
        chosen,
        wanted and probs.requires_grad,
        wanted and guide.requires_grad,
    )
    return value


def _ones(weight: Tensor | None, like: Tensor) -> Tensor:
    return like.new_ones(like.shape[0], *like.shape[-2:]) if weight is None else weight.to(like.dtype)
