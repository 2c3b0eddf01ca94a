"""Potts relaxations between next neighbours, on the predictions or on soft labels that the network then learns."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from scribbleseg.config.sections import Positive
from scribbleseg.losses.base import Loss, at_grid, at_least_float32
from scribbleseg.losses.dynamic_feature import Kernel
from scribbleseg.ops.windowed import windowed_energy
from scribbleseg.ops.windowed_torch import half_offsets, pair_views
from scribbleseg.records import UNLABELLED, Terms

#: No class of a soft label starts below this, so that a neighbour's label can still reach it.
FLOOR = 1e-5


def image_sigma(rgb: Float[Tensor, "B 3 h w"], valid: Bool[Tensor, "B h w"], radius: int) -> Float[Tensor, "B 1 1 1"]:
    """Return the root mean square of ‖I_i − I_j‖ over the valid pairs of each image; 1 where there is no difference."""
    total, count = rgb.new_zeros(len(rgb)), rgb.new_zeros(len(rgb))
    for dy, dx in half_offsets(radius, 1):
        if dy >= rgb.shape[-2] or abs(dx) >= rgb.shape[-1]:
            continue
        here, there = pair_views(rgb, dy, dx)
        a, b = pair_views(valid, dy, dx)
        total += ((here - there).square().sum(1) * (a & b)).sum((1, 2))
        count += (a & b).sum((1, 2))
    sigma = (total / count.clamp(min=1)).sqrt()
    return torch.where(sigma > 0, sigma, 1.0).view(-1, 1, 1, 1)


def soft_labels(
    logits: Float[Tensor, "B C h w"],
    known: Int[Tensor, "B h w"],
    pairs: Callable[[Tensor], Tensor],
    *,
    unary_weight: float,
    num_steps: int,
    step: float,
) -> Float[Tensor, "B C h w"]:
    """Return ln y after gradient descent from y = σ on η Σ_{i∈U} −ln y_i·σ_i + ``pairs``(y), with strokes held one-hot.

    The descent is on the scores u of y = softmax(u), where the gradient of both terms stays bounded. What is returned on
    the strokes themselves is of no use. No gradient comes out.
    """
    smallest = torch.finfo(logits.dtype).tiny
    with torch.inference_mode(False), torch.no_grad():
        log_sigma = logits.detach().clone().log_softmax(1)
        sigma = log_sigma.exp()
        drawn = (known != UNLABELLED).unsqueeze(1)
        free = (~drawn).to(sigma.dtype)
        given = F.one_hot(torch.where(drawn[:, 0], known, 0), logits.shape[1]).movedim(-1, 1) * (1 - free)
        u = log_sigma.clamp_(min=math.log(FLOOR))
        for _ in range(num_steps):
            y = u.softmax(1).mul_(free).add_(given).requires_grad_()
            with torch.enable_grad():
                (slope,) = torch.autograd.grad(pairs(y), y)
            y = y.detach()
            # ∂/∂u of the pairs is y (slope − y·slope), through the softmax; that of −ln y·σ is y − yσ / y·σ. Both in place.
            buffer = y * slope
            slope.add_(unary_weight - buffer.sum(1, keepdim=True)).mul_(y)
            torch.mul(y, sigma, out=buffer)
            slope.sub_(buffer.mul_(unary_weight / buffer.sum(1, keepdim=True).clamp(min=smallest)))
            u.sub_(slope, alpha=step)
        return u.log_softmax(1)


class PottsRelaxationLoss(Loss):
    """Potts energy of next neighbours, minimised over soft labels y which the predictions σ are then drawn towards.

        y = argmin Σ_{i∈U} η H(y_i, σ_i) + λ Σ_{ij} w_ij P(y_i, y_j),   y_i = one-hot on the strokes
        L = (1/|U|) Σ_{i∈U} H(y_i, σ_i),   H(y, σ) = −ln y·σ   (collision cross-entropy)
        w_ij = exp(−½‖I_i − I_j‖²/σ_rgb² − ½(‖x_i − x_j‖² − 1)/σ_px²)

        bilinear       P = 1 − p·q                  quadratic  P = ½‖p − q‖²
        log_quadratic  P = −ln(1 − ½‖p − q‖²)       collision  P = −ln(p·q / (‖p‖ ‖q‖))   (collision divergence)

    U are the valid pixels of the logits' grid without a stroke, ij unordered pairs of valid pixels (strokes among them) in
    the window. The minimum is sought by ``num_steps`` of gradient descent from y = σ, without gradient to the network.
    Collision cross-entropy asks for a class in common, not for equal distributions: where y is undecided, nothing is asked.

    With ``self_labels=False`` there is no y: L = (1/(M|V|)) Σ_i Σ_j w_ij P(σ_i, σ_j) over valid pixels, M = Σ_j w_ij in one
    colour, so that the first two relaxations are in [0, 1] whatever the window.

    Args:
        relaxation: P. In the paper's comparison with soft labels collision is best and bilinear worst.
        radius: window half-width in pixels of the grid; 1 is the eight next neighbours.
        sigma_px: width in position. The default gives diagonal neighbours 1/√2, the weight 1/distance of the literature.
        sigma_rgb: width in colour, [0, 1] range; ``image``: root mean square of ‖I_i − I_j‖ over an image's pairs.
        self_labels: draw the predictions towards soft labels, or lower the Potts energy of the predictions themselves.
        unary_weight: η.
        pair_weight: λ.
        num_steps: steps towards y.
        step: length of a step, over η + λ Σ_j w_ij, the largest slope. Up to 2 no step raised the objective in our trials.

    Cost: a step is one energy of the window (see :func:`scribbleseg.ops.windowed.windowed_energy`; 8 neighbours at radius 1)
    and some ten passes over B·C·h·w numbers: with its steps the dearest loss here, on fine grids. Memory: six copies.

    Reference: Zhang & Boykov, *Soft Self-labeling and Potts Relaxations for Weakly-Supervised Segmentation*, CVPR 2025,
    arXiv 2507.01721: relaxations, collision cross-entropy, η 0.3, λ 6; their L has the weight η too (0.3 here). Their code
    was not at hand: number and length of the steps are ours, and λ is read as a weight per pair. Colour weights as in Marin
    & Boykov, *Robust Trust Region*, ICCV 2021 (σ_rgb² = image mean of ‖I_i − I_j‖², divided by the distance).
    """

    needs: ClassVar[frozenset[str]] = frozenset({"labels", "rgb", "valid"})

    def __init__(
        self,
        *,
        relaxation: Literal["bilinear", "quadratic", "log_quadratic", "collision"] = "collision",
        radius: Annotated[int, Field(ge=1)] = 1,
        sigma_px: Annotated[float, Field(ge=0.25)] = 1 / math.sqrt(math.log(2)),
        sigma_rgb: Positive | Literal["image"] = "image",
        self_labels: bool = True,
        unary_weight: Annotated[float, Field(ge=0)] = 0.3,
        pair_weight: Positive = 6.0,
        num_steps: Annotated[int, Field(ge=1)] = 10,
        step: Positive = 2.0,
    ) -> None:
        super().__init__()
        self.relaxation, self.radius, self.sigma_px, self.sigma_rgb = relaxation, radius, sigma_px, sigma_rgb
        self.self_labels, self.unary_weight, self.pair_weight = self_labels, unary_weight, pair_weight
        self.num_steps, self.step = num_steps, step
        self.scale = math.exp(0.5 / sigma_px**2)  # the op's kernel is exp(−½‖x‖²/σ²): 1 at distance 0, not at 1
        self.mass = self.scale * Kernel(radius=radius, sigma_px=sigma_px).window_mass()
        self.needs = PottsRelaxationLoss.needs if self_labels else frozenset({"rgb", "valid"})

    def terms(  # type: ignore[override]
        self,
        logits: Float[Tensor, "B C h w"],
        *,
        rgb: Float[Tensor, "B 3 H W"],
        valid: Bool[Tensor, "B H W"],
        labels: Int[Tensor, "B H W"] | None = None,
    ) -> Terms:
        """Return the sum and the count; arguments as in :meth:`Loss.forward`."""
        logits = at_least_float32(logits)
        rgb_, known, inside = at_grid(logits, rgb=rgb, labels=labels, valid=valid)
        assert rgb_ is not None
        assert inside is not None
        rgb_ = rgb_.to(logits.dtype)
        guide = rgb_ / (image_sigma(rgb_, inside, self.radius) if self.sigma_rgb == "image" else self.sigma_rgb)

        def energy(probs: Tensor) -> Tensor:
            return self.scale * windowed_energy(
                probs, guide, inside, radius=self.radius, sigma_px=self.sigma_px, relaxation=self.relaxation
            )

        if not self.self_labels:
            return Terms(energy(logits.softmax(1)) / self.mass, inside.sum().to(logits.dtype))
        assert known is not None
        known = known.long()
        log_y = soft_labels(
            logits,
            known,
            lambda y: 0.5 * self.pair_weight * energy(y),  # the op counts each pair twice
            unary_weight=self.unary_weight,
            num_steps=self.num_steps,
            step=self.step / (self.unary_weight + self.pair_weight * self.mass),
        )
        free = inside & (known == UNLABELLED)
        apart = -(log_y + logits.log_softmax(1)).logsumexp(1)
        return Terms(torch.where(free, apart, 0.0).sum(), free.sum().to(logits.dtype))
