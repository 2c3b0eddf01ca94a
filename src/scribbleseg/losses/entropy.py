"""Entropy: ask for certain predictions."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from scribbleseg.losses.base import Loss, at_grid, at_least_float32
from scribbleseg.records import UNLABELLED, Terms


class EntropyLoss(Loss):
    """Mean entropy of the predictions in [0, 1]: 0 where a class is certain, 1 where all are equally likely.

        L = (1/|U|) Σ_{i∈U} H(p_i) / ln C,   H(p) = −Σ_k p_k ln p_k

    U are the valid pixels of the logits' grid that nobody drew on (cross-entropy asks for certainty on the others). With
    one class there is nothing to be uncertain of: 0. The entropy alone is content with any certain answer, so give it a
    small weight beside a loss of the strokes, and let it start late.

    Args:
        pixels: ``unlabelled``, or ``valid`` for labelled pixels as well.

    Cost: linear in B·C·h·w.

    Reference: Grandvalet & Bengio, *Semi-supervised Learning by Entropy Minimization*, NIPS 2004. WSL4MIS (weight 0.1)
    takes all pixels, so ``pixels="valid"`` has its value, except that it adds 1e-6 inside the logarithm.

    Example:
        >>> import torch
        >>> nobody, valid = torch.full((1, 2, 2), 255), torch.ones(1, 2, 2, dtype=torch.bool)
        >>> float(EntropyLoss()(torch.zeros(1, 3, 2, 2), labels=nobody, valid=valid))
        1.0...
    """

    needs: ClassVar[frozenset[str]] = frozenset({"labels", "valid"})

    def __init__(self, *, pixels: Literal["unlabelled", "valid"] = "unlabelled") -> None:
        super().__init__()
        self.pixels = pixels
        self.needs = EntropyLoss.needs if pixels == "unlabelled" else frozenset({"valid"})

    def terms(  # type: ignore[override]
        self,
        logits: Float[Tensor, "B C h w"],
        *,
        valid: Bool[Tensor, "B H W"],
        labels: Int[Tensor, "B H W"] | None = None,
    ) -> Terms:
        """Return the sum and the count; arguments as in :meth:`Loss.forward`."""
        logits = at_least_float32(logits)
        _, known, inside = at_grid(logits, labels=labels, valid=valid)
        assert inside is not None
        if self.pixels == "unlabelled":
            assert known is not None
            inside = inside & (known == UNLABELLED)
        log_p = logits.log_softmax(1)
        entropy = -(log_p.exp() * log_p).sum(1) / max(math.log(logits.shape[1]), 1e-9)
        return Terms(torch.where(inside, entropy, 0.0).sum(), inside.sum().to(entropy.dtype))
