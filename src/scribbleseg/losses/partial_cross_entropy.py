"""Partial cross-entropy: the loss of the drawn pixels alone."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from scribbleseg.losses.base import Loss, at_labels, at_least_float32
from scribbleseg.records import UNLABELLED, Terms


class PartialCrossEntropyLoss(Loss):
    """Cross-entropy over labelled pixels; logits are brought to the labels' size first (bilinear).

        L = −(1/|S|) Σ_{i∈S} log softmax(logits_i)[label_i],   S = {i : label_i ≠ 255}

    Nothing labelled gives 0 with a zero gradient. With dense labels this is ordinary cross-entropy.

    Cost: linear in B·C·H·W.

    Reference: Tang et al., *On Regularized Losses for Weakly-supervised CNN Segmentation*, ECCV 2018, eq. 1.

    Example:
        >>> import torch
        >>> labels = torch.full((1, 4, 4), 255); labels[0, 0, 0] = 1
        >>> float(PartialCrossEntropyLoss()(torch.zeros(1, 2, 4, 4), labels=labels))  # ln 2
        0.693...
    """

    needs: ClassVar[frozenset[str]] = frozenset({"labels"})

    def terms(self, logits: Float[Tensor, "B C h w"], *, labels: Int[Tensor, "B H W"]) -> Terms:  # type: ignore[override]
        """Return the sum and the count; arguments as in :meth:`Loss.forward`."""
        logits = at_labels(at_least_float32(logits), labels)
        labels = labels.long()
        total = F.cross_entropy(logits, labels, ignore_index=UNLABELLED, reduction="sum")
        return Terms(total, (labels != UNLABELLED).sum().to(total.dtype))
