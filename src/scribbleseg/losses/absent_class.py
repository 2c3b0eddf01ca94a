"""Absent classes: a class that nobody drew in an image is nowhere in it."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from scribbleseg.losses.base import Loss, at_grid, at_least_float32, possible_classes
from scribbleseg.records import UNLABELLED, Terms


class AbsentClassLoss(Loss):
    """Ask each unlabelled pixel to be of one of the classes that were drawn somewhere in its image.

        L = −(1/|U|) Σ_{i∈U} log Σ_{c ∈ drawn(i's image)} p_i(c)

    U are the valid pixels of the logits' grid that nobody drew on, in images with a stroke. It holds where people draw
    every class they see, as in ScribbleSup, on ACDC and in most tools; strokes that leave classes out call for a weight of
    0. ``drawn`` is of the whole image, not of the crop: a class whose strokes the crop has cut off is not absent. With all
    classes drawn the loss is 0.

    Cost: linear in B·C·h·w.

    Reference: the maximum likelihood of candidate labels, Jin & Ghahramani, *Learning with Multiple Labels*, NIPS 2002.
    ScribbleSup (Lin et al., CVPR 2016, eq. 2) forbids the classes that an image's strokes do not have in its graph cut.

    Example:
        >>> import torch
        >>> nobody, valid = torch.full((1, 2, 2), 255), torch.ones(1, 2, 2, dtype=torch.bool)
        >>> drawn = torch.tensor([[True, True, False, False]])  # of four equally likely classes two are possible: ln 2
        >>> float(AbsentClassLoss()(torch.zeros(1, 4, 2, 2), labels=nobody, drawn=drawn, valid=valid))
        0.693...
    """

    needs: ClassVar[frozenset[str]] = frozenset({"labels", "drawn", "valid"})

    def terms(  # type: ignore[override]
        self,
        logits: Float[Tensor, "B C h w"],
        *,
        labels: Int[Tensor, "B H W"],
        drawn: Bool[Tensor, "B K"],
        valid: Bool[Tensor, "B H W"],
    ) -> Terms:
        """Return the sum and the count; arguments as in :meth:`Loss.forward`."""
        logits = at_least_float32(logits)
        _, known, inside = at_grid(logits, labels=labels, valid=valid)
        assert known is not None
        assert inside is not None
        asked = inside & (known == UNLABELLED) & drawn[:, : logits.shape[1]].any(1)[:, None, None]
        absent = ~possible_classes(drawn, logits.shape[1])[:, :, None, None]
        log_p = logits.logsumexp(1) - logits.masked_fill(absent, -torch.inf).logsumexp(1)
        return Terms(torch.where(asked, log_p, 0.0).sum(), asked.sum().to(log_p.dtype))
