"""Partial Dice: the overlap with the strokes, class by class, over the drawn pixels alone."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from scribbleseg.losses.base import Loss, at_labels, at_least_float32
from scribbleseg.losses.ranks import ALONE, Ranks
from scribbleseg.records import UNLABELLED, Terms


class PartialDiceLoss(Loss):
    """One minus the soft Dice of each class that was drawn, over labelled pixels; every class weighs the same.

        L = mean_c [ 1 − (2 Σ_{i∈S} p_ic t_ic + s) / (Σ_{i∈S} p_ic^e + Σ_{i∈S} t_ic + s) ],   S = {i : label_i ≠ 255}

    t is the one-hot label, e = 1 (nnU-Net) or 2 (``squared``). The sums run over a *pool*: all images of the call, or one
    image each (``per_image``). A class without a labelled pixel in a pool has no Dice there and is left out of the mean,
    never counted as 0 or 1. Logits are brought to the labels' size first (bilinear). In [0, 1); nothing labelled gives 0.

    The sum is over the pairs of a pool and a class drawn in it, the count their number, known from the labels alone. A
    Dice is a ratio and does not add up: with ``per_image`` halves of a batch add up exactly to the whole; pooled, the three
    sums are added over ``ranks`` first, and each rank has the value of the whole batch.

    Args:
        squared: square the probabilities below the fraction: the gradient near 0 and 1 is then smaller.
        smooth: s, in pixels, above and below: keeps a class of few pixels from jumping. 0 is allowed.
        include_background: count class 0 as well. Strokes are drawn on the background too, so it is on.
        per_image: one pool per image. Scribbles are short: one image's Dice is a noisy number, so it is off.

    Cost: the resizing of B·C·H·W logits; after it, work and memory follow the labelled pixels, C numbers each.

    Reference: Milletari et al., *V-Net*, arXiv 1606.04797 (squared); nnU-Net's soft Dice with an ignore label (unsquared,
    s = 1e-5, background left out; it adds the three sums over ranks as well). WSL4MIS squares and includes the background.
    Both give a class nobody drew the Dice s / (Σ p^e + s), a loss near 1 that no stroke supports; here it is left out.

    Example:
        >>> import torch
        >>> labels = torch.full((1, 4, 4), 255); labels[0, 0, 0] = 1
        >>> float(PartialDiceLoss(smooth=0.0)(torch.zeros(1, 2, 4, 4), labels=labels))  # 1 − 2·½ / (½ + 1)
        0.333...
    """

    needs: ClassVar[frozenset[str]] = frozenset({"labels", "ranks"})

    def __init__(
        self,
        *,
        squared: bool = False,
        smooth: Annotated[float, Field(ge=0)] = 1e-5,
        include_background: bool = True,
        per_image: bool = False,
    ) -> None:
        super().__init__()
        self.squared, self.smooth = squared, smooth
        self.include_background, self.per_image = include_background, per_image

    def terms(  # type: ignore[override]
        self, logits: Float[Tensor, "B C h w"], *, labels: Int[Tensor, "B H W"], ranks: Ranks = ALONE
    ) -> Terms:
        """Return the sum and the count; arguments as in :meth:`Loss.forward`."""
        logits = at_labels(at_least_float32(logits), labels)
        drawn = labels != UNLABELLED
        probs = logits.movedim(1, -1)[drawn].softmax(1)  # N C
        known = labels[drawn].long()
        sizes = drawn.flatten(1).sum(1).tolist() if self.per_image else [len(known)]
        total, count = probs.sum() * 0.0, probs.new_zeros(())
        for p, label in zip(torch.split(probs, sizes), torch.split(known, sizes), strict=True):
            t = F.one_hot(label, logits.shape[1]).to(p.dtype)
            sums = torch.stack([(p * t).sum(0), (p.square() if self.squared else p).sum(0), t.sum(0)])
            both, mass, size = sums if self.per_image else ranks.sum(sums)
            present = size > 0
            if not self.include_background:
                present[0] = False
            dice = (2 * both + self.smooth) / torch.where(present, mass + size + self.smooth, 1.0)
            total = total + torch.where(present, 1 - dice, 0.0).sum()
            count = count + present.sum()
        return Terms(total, count)
