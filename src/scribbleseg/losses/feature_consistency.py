"""The loss of the feature consistency head: which pairs of pixels belong together."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from scribbleseg.config.sections import Fraction, Positive
from scribbleseg.losses.base import Loss, at_grid, at_least_float32
from scribbleseg.losses.ranks import ALONE, Ranks
from scribbleseg.records import UNLABELLED, Terms


def pair_logistic(
    features: Float[Tensor, "N K D"], labels: Int[Tensor, "N K"], scale: float, margin: float
) -> Float[Tensor, N]:
    """Logistic loss of all pairs of K pixels in each of N images: same class together, other class apart.

    L = ½·mean_{a=b} log(1+exp(−s(cos−m))) + ½·mean_{a≠b} log(1+exp(s(cos−m))); with pairs of one kind, their mean alone.
    """
    with torch.autocast(features.device.type, enabled=False):
        cosine = features @ features.transpose(1, 2)
    same = labels[:, :, None] == labels[:, None]
    other = ~same
    same = same & ~torch.eye(labels.shape[1], dtype=torch.bool, device=labels.device)
    value = scale * (cosine - margin)
    together = (F.softplus(-value) * same).sum((1, 2)) / same.sum((1, 2)).clamp(min=1)
    apart = (F.softplus(value) * other).sum((1, 2)) / other.sum((1, 2)).clamp(min=1)
    kinds = same.any(1).any(1).to(value.dtype) + other.any(1).any(1).to(value.dtype)
    return (together + apart) / kinds.clamp(min=1)


class FeatureConsistencyLoss(Loss):
    """Teaches the deep features which pixels belong together, from labelled pixels and, later, confident predictions.

    In each image ``num_pixels`` pixels are drawn with equal probability for every class at hand; all their pairs, within
    the image or across the images of the batch, enter :func:`pair_logistic`. A pixel is at hand when it was drawn on or,
    once ``confident_after`` of the run is done, when its prediction is above ``confidence``. The predictions get no
    gradient. Returned per image of the batch.

    Args:
        num_pixels: pixels drawn per image (with replacement).
        scale, margin: steepness and centre of the logistic curve on the cosine of two features.
        confidence: smallest winning probability of a prediction that is taken at its word.
        confident_after: share of the run before predictions are used at all.
        across_images: pair pixels of different images too. The kernel never looks across images, but most photographs
            hold one object and its ground: pairs within them never say that a cat is not a dog.

    Draws from the generator of ``ranks``. Pairs across images reach over all ranks: the value is that of one process
    which has the whole batch.

    Cost: (B·num_pixels)² pairs of D numbers, or B·num_pixels² within images.

    Reference: the head is named in arXiv 2108.01296 without a formula; balanced pair losses of the same group are in
    Zhang et al., *Affinity Attention Graph Neural Network* (A2GNN, TPAMI 2021), and WeCLIP (CVPR 2024).
    """

    needs: ClassVar[frozenset[str]] = frozenset({"labels", "features", "valid", "progress", "ranks"})

    def __init__(
        self,
        *,
        num_pixels: Annotated[int, Field(ge=2)] = 96,
        scale: Positive = 5.0,
        margin: Annotated[float, Field(ge=-1, le=1)] = 0.3,
        confidence: Fraction = 0.9,
        confident_after: Fraction = 0.3,
        across_images: bool = True,
    ) -> None:
        super().__init__()
        self.across_images = across_images
        self.num_pixels, self.scale, self.margin = num_pixels, scale, margin
        self.confidence, self.confident_after = confidence, confident_after

    def terms(  # type: ignore[override]
        self,
        logits: Float[Tensor, "B C h w"],
        *,
        labels: Int[Tensor, "B H W"],
        features: Float[Tensor, "B D h w"],
        valid: Bool[Tensor, "B H W"],
        progress: float,
        ranks: Ranks = ALONE,
    ) -> Terms:
        """Return the sum and the count; arguments as in :meth:`Loss.forward`."""
        features = at_least_float32(features)
        _, known, inside = at_grid(logits, labels=labels, valid=valid)
        assert known is not None
        assert inside is not None
        if progress >= self.confident_after:
            confidence, winner = at_least_float32(logits.detach()).softmax(1).max(1)
            trusted = (known == UNLABELLED) & (confidence > self.confidence) & inside
            known = torch.where(trusted, winner, known)
        num_images, num_classes = logits.shape[:2]
        known = known.flatten(1).long()
        rows = (known != UNLABELLED).sum(1) >= 2
        count = features.new_tensor(float(num_images))
        chosen, classes = self._drawn(features, known, rows, num_classes, ranks)
        if self.across_images:
            number = len(classes)
            chosen, classes = ranks.cat(chosen), ranks.cat(classes)
            if not len(classes):
                return Terms(features.sum() * 0.0, count)
            value = pair_logistic(chosen.flatten(0, 1)[None], classes.flatten()[None], self.scale, self.margin)
            return Terms(value.sum() * number + features.sum() * 0.0, count)
        if not len(classes):
            return Terms(features.sum() * 0.0, count)
        return Terms(pair_logistic(chosen, classes, self.scale, self.margin).sum(), count)

    def _drawn(
        self, features: Tensor, known: Tensor, rows: Tensor, num_classes: int, ranks: Ranks
    ) -> tuple[Float[Tensor, "N K D"], Int[Tensor, "N K"]]:
        """Return features and classes of ``num_pixels`` known pixels of each of the images ``rows``, classes drawn alike."""
        uniform = ranks.uniform(len(rows), self.num_pixels).to(features.device)[rows]
        known, z = known[rows], features.flatten(2).transpose(1, 2)[rows]
        sizes = F.one_hot(known.clamp(max=num_classes), num_classes + 1).sum(1)
        chance = 1.0 / sizes.gather(1, known.clamp(max=num_classes)).double()
        up_to = torch.where(known == UNLABELLED, 0.0, chance).cumsum(1)
        picked = torch.searchsorted(up_to, uniform * up_to[:, -1:], right=True)
        return z.gather(1, picked[..., None].expand(-1, -1, z.shape[-1])), known.gather(1, picked)
