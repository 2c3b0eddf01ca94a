"""Normalised cut: each class holds together, relative to how much it is part of the whole image."""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from scribbleseg.config.sections import Positive
from scribbleseg.losses.base import at_least_float32
from scribbleseg.losses.dense_crf import DenseKernelLoss, Method
from scribbleseg.records import Terms


class NormalizedCutLoss(DenseKernelLoss):
    """Share of each class's ties that lead out of it, summed over classes; over all pairs of pixels of an image.

        L = (1/N) Σ_n Σ_k s_kᵀA(m − s_k) / (dᵀs_k + ε·dᵀm),   d = A m,   s_k = m·p_k

    m marks the valid pixels of the logits' grid, p is the softmax, A the kernel k_ij of :class:`DenseKernelLoss`, whose
    arguments these are, N the images with a valid pixel. With ε = 0 this is K − Σ_k s_kᵀA s_k / dᵀs_k. In [0, K].

    Unlike the Potts energy it does not favour few classes: a cut is measured by its class. That makes ε needful: without it
    a class of which there is next to nothing counts 1 and is pushed to be everywhere a little. With it a class with less of
    the image than ε fades out, and one of which there is nothing counts 0.

    Args:
        smallest: ε, the share of the image's mass dᵀm at which a class counts half.

    Cost: one filtering (:func:`scribbleseg.ops.dense.dense_filter`) for value and gradient; with ``feature_gradient`` two more.

    Reference: Tang et al., *Normalized Cut Loss for Weakly-supervised CNN Segmentation*, CVPR 2018 (arXiv 1804.01346); with the
    DenseCRF loss beside it, the kernel cut of their ECCV 2018 paper. Their published code has no such loss; a port of others
    multiplies s·As element by element in the backward pass, which is not its value's gradient. Here the gradient is. ε is ours.

    Example:
        >>> import torch
        >>> rgb, valid = torch.rand(1, 3, 8, 8), torch.ones(1, 8, 8, dtype=torch.bool)
        >>> loss = NormalizedCutLoss(smallest=0.0)
        >>> round(float(loss(torch.zeros(1, 2, 8, 8), rgb=rgb, valid=valid)), 3)  # half of every class's ties lead out of it
        1.0
    """

    def __init__(
        self,
        *,
        sigma_px: Positive = 100.0,
        sigma_rgb: Positive | None = 15 / 255,
        sigma_feature: Positive | None = None,
        method: Method = "low_rank",
        num_landmarks: Annotated[int, Field(ge=1)] = 256,
        stride: Annotated[int, Field(ge=1)] = 1,
        feature_gradient: bool = False,
        smallest: Annotated[float, Field(ge=0)] = 1e-3,
    ) -> None:
        super().__init__(
            sigma_px=sigma_px,
            sigma_rgb=sigma_rgb,
            sigma_feature=sigma_feature,
            method=method,
            num_landmarks=num_landmarks,
            stride=stride,
            feature_gradient=feature_gradient,
        )
        self.smallest = smallest

    def terms(  # type: ignore[override]
        self,
        logits: Float[Tensor, "B C h w"],
        *,
        rgb: Float[Tensor, "B 3 H W"],
        valid: Bool[Tensor, "B H W"],
        features: Float[Tensor, "B D h w"] | None = None,
    ) -> Terms:
        """Return the sum and the count; arguments as in :meth:`Loss.forward`."""
        forms, num_pixels = self.forms(logits, rgb, valid, features)
        base = forms.volume + self.smallest * forms.total.unsqueeze(1)
        some = base > 0
        cut = torch.where(some, (forms.volume - forms.association) / torch.where(some, base, 1.0), 0.0)
        dtype = at_least_float32(logits).dtype
        return Terms(cut.sum().to(dtype), (num_pixels > 0).sum().to(dtype))
