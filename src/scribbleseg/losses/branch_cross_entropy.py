"""Partial cross-entropy of the second branch."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float, Int
from torch import Tensor

from scribbleseg.losses.base import Loss
from scribbleseg.losses.partial_cross_entropy import PartialCrossEntropyLoss
from scribbleseg.records import Terms


class BranchCrossEntropyLoss(Loss):
    """:class:`PartialCrossEntropyLoss` of the second branch's scores; the first branch gets no gradient.

        L = −(1/|S|) Σ_{i∈S} log softmax(branch_logits_i)[label_i],   S = {i : label_i ≠ 255}

    Cost: linear in B·C·H·W; asking for it adds a decoder to the training step.

    Reference: Luo et al., *Scribble-Supervised Medical Image Segmentation via Dual-Branch Network and Dynamically Mixed
    Pseudo Labels Supervision*, arXiv 2203.02106, eq. 1; there half of it and half of the first branch's are added.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"labels", "branch_logits"})

    def __init__(self) -> None:
        super().__init__()
        self.loss = PartialCrossEntropyLoss()

    def terms(  # type: ignore[override]
        self,
        logits: Float[Tensor, "B C h w"],
        *,
        labels: Int[Tensor, "B H W"],
        branch_logits: Float[Tensor, "B C h w"],
    ) -> Terms:
        """Return the sum and the count; arguments as in :meth:`Loss.forward`."""
        return self.loss.terms(branch_logits, labels=labels)
