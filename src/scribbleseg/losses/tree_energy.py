"""Tree energy: an unlabelled pixel agrees with the pixels that a tree over the image connects it to."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from scribbleseg.config.sections import Positive
from scribbleseg.losses.base import Loss, at_grid, at_least_float32
from scribbleseg.ops.tree import tree_filter
from scribbleseg.records import UNLABELLED, Terms

Stride = Annotated[int, Field(ge=1)]


class TreeEnergyLoss(Loss):
    """Distance of the prediction from its own mean along minimum spanning trees of the image and of the features.

        L = (1/|U|) Σ_{i∈U} Σ_k |p_ik − ŷ_ik|,   ŷ = filter_z(filter_rgb(p))
        filter(y)_i = Σ_j K_ij y_j / Σ_j K_ij,   K_ij = Π_{edges uv on the tree path i → j} exp(−½‖f_u − f_v‖²/σ²)

    U are the unlabelled valid pixels of the logits' grid, p the softmax. The low-level tree spans the colours, the high-level
    tree the deep features z of unit length; each filter's affinities are from what its tree is from. A tree reaches as far as
    a region goes, whatever its size in pixels, and a thin line of another colour ends it. Padding is not walked through.

    Args:
        sigma_rgb: width in colour, on the [0, 1] range.
        sigma_feature: width in the deep features.
        high_level: filter along the tree of the features too; without it no features are needed.
        feature_gradient: let gradient flow into the features, through the affinities (never through the tree). It may push
            all features apart, since affinities of 0 make ŷ = p and the loss 0: a loss that teaches the features, or
            False, keeps them from it.
        detach_target: take ŷ as given. By default the gradient flows through p and ŷ, as the authors' does.
        scales: strides of the grids, in pixels of the logits' grid, on which the loss is computed (means of probabilities,
            features and colours over the cells). The mean over U of all grids, a cell counting for as many pixels as it has.

    The authors write exp(−d/σ) with d the squared distance of colours in [0, 1]: their σ is 2·sigma_rgb² here, so 0.02
    (Pascal VOC) is ``sigma_rgb=0.1``, the default, and 0.002 (Cityscapes, ADE20K) is 0.0316. Their features have no unit
    length, 256 channels and exp(−d); there is no σ for unit length that equals it, and 0.4 is that of ``dynamic_feature``.

    Cost: see :func:`scribbleseg.ops.tree.tree_filter`, once or twice a scale; linear in pixels and classes.

    Reference: Liang et al., *Tree Energy Loss: Towards Sparsely Annotated Semantic Segmentation*, CVPR 2022, arXiv 2203.10739,
    eqs. 3–7; weight 0.4 (VOC with DeepLabV3+, Cityscapes, ADE20K) or 0.6. The authors learn a 1×1 embedding of the decoder's
    features for the high-level tree alone, have one scale, bilinear colours from before the brightness jitter where ours are
    means over the cells, and let padding be walked through.

    Example:
        >>> import torch
        >>> rgb = torch.zeros(1, 3, 4, 4); rgb[..., 2:] = 1  # a black and a white half, and a prediction that has them
        >>> logits = torch.zeros(1, 2, 4, 4); logits[:, 0, :, :2], logits[:, 1, :, 2:] = 100, 100
        >>> data = {"labels": torch.full((1, 4, 4), 255), "valid": torch.ones(1, 4, 4, dtype=torch.bool)}
        >>> round(float(TreeEnergyLoss(high_level=False)(logits, rgb=rgb, **data)), 3)
        0.0
        >>> round(float(TreeEnergyLoss(high_level=False)(logits, rgb=rgb.transpose(2, 3), **data)), 3)
        1.0
    """

    needs: ClassVar[frozenset[str]] = frozenset({"labels", "rgb", "features", "valid"})

    def __init__(
        self,
        *,
        sigma_rgb: Positive = 0.1,
        sigma_feature: Positive = 0.4,
        high_level: bool = True,
        feature_gradient: bool = True,
        detach_target: bool = False,
        scales: Annotated[tuple[Stride, ...], Field(min_length=1)] = (1,),
    ) -> None:
        super().__init__()
        self.sigma_rgb, self.sigma_feature, self.high_level = sigma_rgb, sigma_feature, high_level
        self.feature_gradient, self.detach_target, self.scales = feature_gradient, detach_target, scales
        if not high_level:
            self.needs = TreeEnergyLoss.needs - {"features"}

    def terms(  # type: ignore[override]
        self,
        logits: Float[Tensor, "B C h w"],
        *,
        labels: Int[Tensor, "B H W"],
        rgb: Float[Tensor, "B 3 H W"],
        valid: Bool[Tensor, "B H W"],
        features: Float[Tensor, "B D h w"] | None = None,
    ) -> Terms:
        """Return the sum and the count, cells of a coarse grid counted in pixels; arguments as in :meth:`Loss.forward`."""
        probs = at_least_float32(logits).softmax(1)
        z = None
        if self.high_level:
            assert features is not None
            z = features.to(probs.dtype) if self.feature_gradient else features.detach().to(probs.dtype)
        total, count = probs.sum() * 0.0, probs.new_zeros(())
        for stride in self.scales:
            height, width = (-(-side // stride) for side in probs.shape[-2:])
            p = probs if stride == 1 else F.adaptive_avg_pool2d(probs, (height, width))
            z_ = z if stride == 1 or z is None else F.normalize(F.adaptive_avg_pool2d(z, (height, width)), dim=1)
            rgb_, labels_, valid_ = at_grid(p, rgb=rgb.to(probs.dtype), labels=labels, valid=valid)
            assert rgb_ is not None
            assert valid_ is not None
            free = (labels_ == UNLABELLED) & valid_
            target = self.target(p, rgb_, z_, valid_)
            gap = (p - (target.detach() if self.detach_target else target)).abs().sum(1)
            total = total + stride**2 * gap.masked_fill(~free, 0.0).sum()
            count = count + stride**2 * free.sum()
        return Terms(total, count)

    def target(
        self,
        probs: Float[Tensor, "B C h w"],
        rgb: Float[Tensor, "B 3 h w"],
        z: Float[Tensor, "B D h w"] | None,
        valid: Bool[Tensor, "B h w"],
    ) -> Float[Tensor, "B C h w"]:
        """Return ŷ: the low-level filter of the probabilities, then the high-level filter of its result."""
        filtered = tree_filter(probs, rgb / (math.sqrt(2) * self.sigma_rgb), rgb, valid=valid)
        if z is not None:
            filtered = tree_filter(filtered, z / (math.sqrt(2) * self.sigma_feature), z, valid=valid)
        return filtered
