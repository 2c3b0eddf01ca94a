"""The fully connected Gaussian kernel: every pixel of an image with every other, itself included.

    A_ij = exp(−½‖g_i − g_j‖²),   A v by :func:`dense_filter`,   Σ_ij m_i m_j A_ij (1 − p_i·p_j) by :func:`dense_energy`

The guide ``g`` holds every feature of the kernel (position, colour, deep features), each divided by its own sigma and stacked
along channels. A *method* gives other numbers and is chosen by name; a *backend* gives the same numbers on other hardware.

    exact      all pairs. O(P²) time, O(P) memory. (The compiled backend leaves out pairs with A_ij below 3e-11.)
    low_rank   A ≈ C W⁻¹ Cᵀ through ``num_landmarks`` k-means centres of the guide. O(P·M); any width; GPU friendly.
    lattice    permutohedral lattice, scaled to the true degrees. O(P·G); for narrow kernels of few channels.

Relative error of the energy, of its gradient by the values and of that by the guide (2-norms), worst of five photographs with
smooth predictions of 21 classes (benchmarks/dense_error.py; 256 landmarks; s is the side of the picture):

    guide                                        low_rank               lattice                rloss's lattice
    colour 15/255, px 40 to 100, s = 64          .001   .006   .012     .007   .09    .22      .49    .50
    colour 15/255, px 10, s = 64                 .008   .04    .05      .013   .10    .18      .45    .46
    colour 15/255, px 100, s = 256               .005   .02             .009   .08             .42    .44
    colour 15/255, px 50, s = 256                .017   .06             .010   .08             .41    .43
    colour 15/255, px 10, s = 256                .37    .46             .014   .09             .43    .45
    16 or 32 deep, 0.4 of unit length, s = 64    .004   .013   .07      useless beyond 8 channels
    the same, colour 0.3 and px 25, s = 64       .008   .04    .08

So ``low_rank`` is the better one while the kernel is no narrower than a sixth of the picture, and the only one for deep
features; its error falls with the square of ``num_landmarks`` or so, and a sᵀAs by it is never too high. For narrow kernels of
position and colour take ``lattice``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from scribbleseg.errors import ConfigError, nearest
from scribbleseg.ops.backends import Backend, choose, reference_only, why_not_compiled, why_not_triton
from scribbleseg.ops.dense_compiled import gaussian_sum_compiled, lattice_compiled
from scribbleseg.ops.dense_torch import gaussian_sum_torch
from scribbleseg.ops.finite import check_finite
from scribbleseg.ops.lattice import lattice, lattice_torch
from scribbleseg.ops.low_rank import low_rank


def filter_reference(
    values: Float[Tensor, "B N P"], weight: Float[Tensor, "B P"], guide: Float[Tensor, "B G P"]
) -> Float[Tensor, "B N P"]:
    """The definition, m ∘ A (m ∘ v): every pair, in float64, through autograd. O(P²) memory: for tests and small maps."""
    g = guide.double()
    kernel = torch.exp(-0.5 * (g.unsqueeze(3) - g.unsqueeze(2)).square().sum(1))
    m = weight.double().unsqueeze(1)
    return ((values.double() * m) @ kernel * m).to(values.dtype)


def gaussian_sum_triton(*arguments):  # type: ignore[no-untyped-def]
    """The GPU backend; its file is read when it is first used, since it needs Triton."""
    from scribbleseg.ops import dense_triton

    return dense_triton.gaussian_sum_triton(*arguments)


def exact(gaussian_sum: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return the method on top of one backend's sum over pairs."""

    def run(v: Tensor, guide: Tensor, u: Tensor | None, num_landmarks: int) -> Tensor:
        if u is None:
            return gaussian_sum(guide, guide, v)
        return gaussian_sum(guide, guide, torch.cat([u, v], 1), torch.cat([v, u], 1))

    return run


def _here(device: torch.device) -> None:
    return None


def _why_not_triton_first(device: torch.device) -> str | None:
    return why_not_triton(device) or "by name only: matrix products are no slower there"


#: Every method's backends in order of preference; the first without a reason against it is taken. Each takes the values
#: (the weight of the pixels is their last channel), the guide, an upstream gradient or None, and the number of landmarks:
#: A v without, −Σ_j k_ij (u_i·v_j + v_i·u_j)(g_i − g_j) with an upstream gradient.
BACKENDS: dict[str, dict[str, Backend]] = {
    "exact": {
        "triton": Backend(exact(gaussian_sum_triton), why_not_triton),
        "compiled": Backend(exact(gaussian_sum_compiled), why_not_compiled("_dense")),
        "torch": Backend(exact(gaussian_sum_torch), _here),
        "reference": Backend(filter_reference, reference_only),
    },
    "low_rank": {
        "compiled": Backend(low_rank(gaussian_sum_compiled), why_not_compiled("_dense")),
        "torch": Backend(low_rank(gaussian_sum_torch), _here),
        "triton": Backend(low_rank(gaussian_sum_triton), _why_not_triton_first),
    },
    "lattice": {
        "compiled": Backend(lattice(lattice_compiled, gaussian_sum_compiled), why_not_compiled("_dense")),
        "torch": Backend(lattice(lattice_torch, gaussian_sum_torch), _here),
    },
}


def _run(v: Tensor, guide: Tensor, u: Tensor | None, method: str, num_landmarks: int, backend: str) -> Tensor:
    if not guide.shape[1]:
        guide = torch.zeros_like(v[:, :1])
    with torch.autocast(v.device.type, enabled=False):
        centre = guide @ v[:, -1:].mT / v[:, -1:].sum(2, keepdim=True).clamp(min=1)
        return BACKENDS[method][backend].run(v, guide - centre, u, num_landmarks)


def _with_weight(values: Tensor, weight: Tensor) -> Tensor:
    """Return m ∘ v with m as its last channel; an empty weight stands for ones."""
    if not weight.numel():
        return torch.cat([values, torch.ones_like(values[:, :1])], 1)
    m = weight.unsqueeze(1)
    return torch.cat([values * m, m], 1)


def _weighted(filtered: Tensor, weight: Tensor) -> Tensor:
    return filtered * weight.unsqueeze(1) if weight.numel() else filtered


def _long_sum(x: Tensor) -> Tensor:
    """Return the sum over the last axis in float64; short runs are added in the type of ``x``, without a wide copy of it."""
    run = 1024
    whole = x.shape[-1] // run * run
    rest = x[..., whole:].sum(-1, dtype=torch.float64)
    return x[..., :whole].reshape(*x.shape[:-1], -1, run).sum(-1).sum(-1, dtype=torch.float64) + rest


@torch.library.custom_op(
    "scribbleseg::dense_filter",
    mutates_args=(),
    schema="(Tensor values, Tensor weight, Tensor guide, str method, int num_landmarks, str backend) -> Tensor",
)
def _filter(values, weight, guide, method, num_landmarks, backend):  # type: ignore[no-untyped-def]
    """m ∘ A (m ∘ [v, 1]): the filtered values, and the degrees as the last channel."""
    return _weighted(_run(_with_weight(values, weight), guide, None, method, num_landmarks, backend), weight)


@torch.library.custom_op(
    "scribbleseg::dense_pull",
    mutates_args=(),
    schema="(Tensor upstream, Tensor values, Tensor weight, Tensor guide, str method, int num_landmarks, str backend) "
    "-> Tensor",
)
def _pull(upstream, values, weight, guide, method, num_landmarks, backend):  # type: ignore[no-untyped-def]
    """Gradient by the guide of Σ_c (m ∘ u_c)ᵀ A (m ∘ v_c), where the last u belongs to v = 1."""
    if not guide.numel():
        return torch.zeros_like(guide)
    return _run(_with_weight(values, weight), guide, _weighted(upstream, weight), method, num_landmarks, backend)


@torch.library.custom_op(
    "scribbleseg::dense_forms",
    mutates_args=(),
    schema="(Tensor values, Tensor weight, Tensor guide, str method, int num_landmarks, str backend) "
    "-> (Tensor, Tensor, Tensor, Tensor)",
)
def _forms(values, weight, guide, method, num_landmarks, backend):  # type: ignore[no-untyped-def]
    """Association, volume and total; and, for their gradients, the filtered values and the degrees."""
    filtered = _weighted(_run(_with_weight(values, weight), guide, None, method, num_landmarks, backend), weight)
    degree = filtered[:, -1]
    with torch.autocast(values.device.type, enabled=False):
        volume = (values @ degree.unsqueeze(2))[..., 0].double()
    return _long_sum(values * filtered[:, :-1]), volume, _long_sum(degree), filtered


@_filter.register_fake
def _filter_shapes(values, weight, guide, method, num_landmarks, backend):  # type: ignore[no-untyped-def]
    return values.new_empty(values.shape[0], values.shape[1] + 1, values.shape[2])


@_pull.register_fake
def _pull_shapes(upstream, values, weight, guide, method, num_landmarks, backend):  # type: ignore[no-untyped-def]
    return torch.empty_like(guide, memory_format=torch.contiguous_format)


@_forms.register_fake
def _forms_shapes(values, weight, guide, method, num_landmarks, backend):  # type: ignore[no-untyped-def]
    num_images, num_channels, num_pixels = values.shape
    sums = values.new_empty(num_images, num_channels, dtype=torch.float64)
    return sums, torch.empty_like(sums), sums.new_empty(num_images), values.new_empty(num_images, num_channels + 1, num_pixels)


def _keep(ctx, inputs, output):  # type: ignore[no-untyped-def]
    values, weight, guide, *ctx.how = inputs
    ctx.save_for_backward(values, weight, guide)


def _filter_backward(ctx, grad):  # type: ignore[no-untyped-def]
    values, weight, guide = ctx.saved_tensors
    grad = grad.contiguous()
    for_values = _filter(grad[:, :-1], weight, guide, *ctx.how)[:, :-1] if ctx.needs_input_grad[0] else None
    for_guide = _pull(grad, values, weight, guide, *ctx.how) if ctx.needs_input_grad[2] else None
    return for_values, None, for_guide, None, None, None


def _keep_forms(ctx, inputs, output):  # type: ignore[no-untyped-def]
    values, weight, guide, *ctx.how = inputs
    ctx.mark_non_differentiable(output[-1])
    ctx.save_for_backward(values, weight, guide, output[-1])


def _forms_backward(ctx, for_association, for_volume, for_total, *_):  # type: ignore[no-untyped-def]
    values, weight, guide, filtered = ctx.saved_tensors
    filtered, degree = filtered[:, :-1], filtered[:, -1:]
    a, b, c = (x.to(values.dtype) for x in (for_association, for_volume, for_total))
    a, b = a.unsqueeze(2), b.unsqueeze(2)
    for_values = for_guide = None
    if ctx.needs_input_grad[0]:
        for_values = torch.addcmul(b * degree, a, filtered, value=2)
    if ctx.needs_input_grad[2]:
        one = c.view(-1, 1, 1).expand(-1, 1, values.shape[2])
        for_guide = _pull(torch.cat([a * values + b, one], 1), values, weight, guide, *ctx.how)
    return for_values, None, for_guide, None, None, None


_filter.register_autograd(_filter_backward, setup_context=_keep)
_forms.register_autograd(_forms_backward, setup_context=_keep_forms)


class Forms(NamedTuple):
    """Quadratic forms of an image's values under its kernel, s = m ∘ v: association sᵀAs, volume sᵀAm, total mᵀAm."""

    association: Float[Tensor, "B C"]
    volume: Float[Tensor, "B C"]
    total: Float[Tensor, " B"]


def dense_filter(
    values: Float[Tensor, "B C H W"],
    guide: Float[Tensor, "B G H W"],
    *,
    method: str = "low_rank",
    num_landmarks: int = 256,
    backend: str | None = None,
    check: bool = False,
) -> Float[Tensor, "B C H W"]:
    """Return A v for every channel; differentiable in the values (A is symmetric) and in the guide.

    Args:
        values: what is summed over all pixels.
        guide: kernel features, each channel divided by its sigma.
        method: ``exact``, ``low_rank`` or ``lattice``; see the module for their errors.
        num_landmarks: rank of ``low_rank``.
        backend: a name of the method's ``BACKENDS``, or None for the first that runs here. Half precision is computed in
            float32.
        check: look for NaN and infinity in the inputs first; without it a NaN ends in a NaN.

    Raises:
        ConfigError: unknown method or backend, or no landmark.
        DataError: ``check`` found a value that is not finite.

    Cost: exact B·P²·(G + C), low_rank 2B·P·M·(G + C), lattice 3B·P·(G + 1)·C flops and about as much again to find its
    points, each for a filtering; memory a few copies of the inputs. The values' gradient is another filtering. The guide's
    gradient is twice a filtering, and for the lattice one of C·G channels.

    Reference: Krähenbühl & Koltun, *Efficient Inference in Fully Connected CRFs*, NIPS 2011 (arXiv 1210.5644); Adams, Baek,
    Davis, *Fast High-Dimensional Filtering Using the Permutohedral Lattice*, 2010; Zhang, Tsang, Kwok, *Improved Nyström
    Low-Rank Approximation and Error Analysis*, ICML 2008 (k-means landmarks). Meng Tang's rloss has this as a C++ lattice for
    three colours: its scale is a constant for isolated points, 40 to 50 % below the sum it stands for on photographs.
    """
    values, guide, chosen = _prepare("dense_filter", values, guide, method, num_landmarks, backend, check)
    shape = values.shape
    values, guide = values.flatten(2), guide.flatten(2)
    if chosen == "reference":
        return filter_reference(values, values.new_ones(values.shape[0], values.shape[2]), guide).view(shape)
    return _filter(values, values.new_empty(0), guide, method, num_landmarks, chosen)[:, :-1].view(shape)


def dense_forms(
    values: Float[Tensor, "B C H W"],
    guide: Float[Tensor, "B G H W"],
    valid: Bool[Tensor, "B H W"] | None = None,
    *,
    method: str = "low_rank",
    num_landmarks: int = 256,
    backend: str | None = None,
    check: bool = False,
) -> Forms:
    """Return association sᵀAs and volume sᵀAm of each channel and the kernel's total mᵀAm, in float64.

    Value and gradient by the values come from one filtering of C + 1 channels. Arguments and errors as in :func:`dense_filter`;
    ``valid`` says which pixels take part, m.
    """
    values, guide, chosen = _prepare("dense_forms", values, guide, method, num_landmarks, backend, check)
    values, guide = values.flatten(2), guide.flatten(2)
    m = values.new_empty(0) if valid is None else valid.flatten(1).to(values.dtype)
    if chosen == "reference":
        values = values.double()
        m = m if m.numel() else torch.ones_like(values[:, 0])
        filtered = filter_reference(torch.cat([values, torch.ones_like(values[:, :1])], 1), m, guide)
        degree = filtered[:, -1:]
        return Forms((values * filtered[:, :-1]).sum(2), (values * degree).sum(2), degree.sum((1, 2)))
    return Forms(*_forms(values, m, guide, method, num_landmarks, chosen)[:3])


def dense_energy(
    probs: Float[Tensor, "B C H W"],
    guide: Float[Tensor, "B G H W"],
    valid: Bool[Tensor, "B H W"] | None = None,
    *,
    method: str = "low_rank",
    num_landmarks: int = 256,
    backend: str | None = None,
    check: bool = False,
) -> Float[Tensor, ""]:
    """Return the Potts energy Σ_ij m_i m_j A_ij (1 − p_i·p_j) of the batch, every ordered pair and the diagonal included.

    At least 0 for probabilities with ``exact`` and ``lattice`` (up to rounding); ``low_rank`` may leave small negative
    entries in A. rloss computes −Σ_ij m_i m_j A_ij p_i·p_j, which is this less the constant Σ_ij m_i m_j A_ij.
    Arguments, errors and cost as in :func:`dense_forms`.
    """
    forms = dense_forms(probs, guide, valid, method=method, num_landmarks=num_landmarks, backend=backend, check=check)
    dtype = torch.promote_types(torch.float32, torch.promote_types(probs.dtype, guide.dtype))
    return (forms.total.sum() - forms.association.sum()).to(dtype)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # a graph cannot look for modules
def _choose(op: str, method: str, backend: str | None, device: torch.device) -> str:
    return choose(op, BACKENDS[method], backend, device)


def _prepare(
    op: str, values: Tensor, guide: Tensor, method: str, num_landmarks: int, backend: str | None, check: bool
) -> tuple[Tensor, Tensor, str]:
    if method not in BACKENDS:
        raise ConfigError(op, "a known method", method, nearest(method, BACKENDS))
    if num_landmarks < 1:
        raise ConfigError(op, "num_landmarks ≥ 1", str(num_landmarks), "correct the number")
    chosen = _choose(op, method, backend, values.device)
    dtype = torch.promote_types(torch.float32, torch.promote_types(values.dtype, guide.dtype))
    if check:
        check_finite(op, values=values, guide=guide)
    return values.to(dtype), guide.to(dtype), chosen
