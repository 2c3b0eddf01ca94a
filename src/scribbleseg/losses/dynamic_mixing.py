"""Dynamic mixing: a random mixture of two branches' predictions is the label of both."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from scribbleseg.config.sections import Fraction
from scribbleseg.losses.base import Loss, at_grid, at_least_float32
from scribbleseg.losses.ranks import ALONE, Ranks
from scribbleseg.records import Terms


class DynamicMixingLoss(Loss):
    """Two branches learn from a mixture of their predictions, drawn anew at each step.

        m_i = β p_i + (1 − β) q_i,   β ~ U(0, 1) once a call; no gradient flows into m
        hard:  L = (1/B) Σ_b ½ [D(p, y) + D(q, y)],   y = argmax_c m
               D(p, y) = 1 − (1/|K|) Σ_{c∈K} 2 Σ_i p_ic y_ic / Σ_i (p_ic² + y_ic),   K the classes of y in image b
        soft:  L = −(1/|V|) Σ_{i∈V} ½ Σ_c m_ic (log p_ic + log q_ic)

    p and q are the softmax of the first and second branch, sums run over the valid pixels V of the logits' grid. The
    Dice distance D is in [0, 1]. The hard form counts the images with a valid pixel, the soft one the valid pixels. The
    soft value does not fall below the mixture's entropy.

    Args:
        soft: learn from m itself, by cross-entropy, and not from its likeliest class, by Dice.
        beta: a fixed share of the first branch; None draws it.

    Draws from the generator of ``ranks``: the same share on each.

    Cost: linear in B·C·h·w; asking for it adds a decoder to the training step.

    Reference: hard: Luo et al., arXiv 2203.02106, eq. 2–4 (weight 0.5). Soft: Han et al., *DMSPS: Dynamically mixed soft
    pseudo-label supervision*, Medical Image Analysis 97, 2024. Dice is per image here and over the batch there, where
    classes that y lacks are averaged in with a value of 1 and next to no gradient. The code of DMSPS hands probabilities
    to a cross-entropy that takes scores, so its weight of 8 is not one for this form.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"branch_logits", "valid", "ranks"})

    def __init__(self, *, soft: bool = False, beta: Fraction | None = None) -> None:
        super().__init__()
        self.soft, self.beta = soft, beta

    def terms(  # type: ignore[override]
        self,
        logits: Float[Tensor, "B C h w"],
        *,
        branch_logits: Float[Tensor, "B C h w"],
        valid: Bool[Tensor, "B H W"],
        ranks: Ranks = ALONE,
    ) -> Terms:
        """Return the sum and the count; arguments as in :meth:`Loss.forward`."""
        log_p, log_q = (at_least_float32(x).log_softmax(1) for x in (logits, branch_logits))
        p, q = log_p.exp(), log_q.exp()
        _, _, inside = at_grid(logits, valid=valid)
        assert inside is not None
        beta = float(torch.rand((), generator=ranks.generator)) if self.beta is None else self.beta
        mixed = (beta * p + (1 - beta) * q).detach()
        if self.soft:
            total = -0.5 * ((mixed * (log_p + log_q)).sum(1) * inside).sum()
            return Terms(total, inside.sum().to(total.dtype))
        label = F.one_hot(mixed.argmax(1), mixed.shape[1]).movedim(-1, 1).to(p.dtype)
        total = 0.5 * (_dice_distance(p, label, inside) + _dice_distance(q, label, inside)).sum()
        return Terms(total, inside.flatten(1).any(1).sum().to(total.dtype))


def _dice_distance(
    probs: Float[Tensor, "B C h w"], label: Float[Tensor, "B C h w"], inside: Bool[Tensor, "B h w"]
) -> Float[Tensor, B]:
    """Return D of each image; 0 where no pixel is valid."""
    mask = inside[:, None]
    overlap = (2 * probs * label * mask).sum((2, 3))
    size = ((probs.square() + label) * mask).sum((2, 3))
    present = (label * mask).sum((2, 3)) > 0
    ratio = torch.where(present, overlap / size.clamp(min=0.5), 0.0)  # a class that is present has a size of 1 at least
    number = present.sum(1)
    return torch.where(number > 0, 1 - ratio.sum(1) / number.clamp(min=1), 0.0)
