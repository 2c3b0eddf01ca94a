"""Dense CRF: any two pixels of an image that look alike and are not far apart get one class."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from scribbleseg.config.sections import Positive
from scribbleseg.losses.base import Loss, at_grid, at_least_float32
from scribbleseg.ops.dense import Forms, dense_forms
from scribbleseg.records import Terms

Method = Literal["low_rank", "lattice", "exact"]


class DenseKernelLoss(Loss):
    """What the losses on the fully connected kernel have in common: their grid, their guide and the kernel's quadratic forms.

        k_ij = exp(−½‖x_i−x_j‖²/σ_px² − ½‖rgb_i−rgb_j‖²/σ_rgb² − ½‖z_i−z_j‖²/σ_feature²)

    Args:
        sigma_px: width in position, in pixels of the full image, whatever the grid of the logits and the ``stride``.
        sigma_rgb: width in colour, on the [0, 1] range; None leaves colour out.
        sigma_feature: width in the deep features, which have unit length; None leaves them out.
        method: how the sums over all pairs are found; :mod:`scribbleseg.ops.dense` has the errors. ``low_rank`` is exact to
            a few per cent while sigma_px is no less than a sixth of the image; take ``lattice`` (10 %) for narrower
            kernels without deep features, ``exact`` for small grids.
        num_landmarks: rank of ``low_rank``.
        stride: compute on cells of so many times so many of the logits' grid: means of probabilities, features and colours.
        feature_gradient: let the gradient of this loss flow into the features.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"rgb", "valid"})

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
    ) -> None:
        super().__init__()
        self.sigma_px, self.sigma_rgb, self.sigma_feature = sigma_px, sigma_rgb, sigma_feature
        self.method, self.num_landmarks, self.stride = method, num_landmarks, stride
        self.feature_gradient = feature_gradient
        self.needs = DenseKernelLoss.needs | ({"features"} if sigma_feature is not None else set())

    def forms(
        self,
        logits: Float[Tensor, "B C h w"],
        rgb: Float[Tensor, "B 3 H W"],
        valid: Bool[Tensor, "B H W"],
        features: Float[Tensor, "B D h w"] | None,
    ) -> tuple[Forms, Float[Tensor, " B"]]:
        """Return the kernel's forms of the probabilities, in float64, and the number of valid pixels of each image."""
        probs = at_least_float32(logits).softmax(1)
        z = None if features is None or self.sigma_feature is None else features.to(probs.dtype)
        if z is not None and not self.feature_gradient:
            z = z.detach()
        if self.stride > 1:
            height, width = (-(-side // self.stride) for side in probs.shape[-2:])
            probs = F.adaptive_avg_pool2d(probs, (height, width))
            z = None if z is None else F.normalize(F.adaptive_avg_pool2d(z, (height, width)), dim=1)
        colours, _, inside = at_grid(probs, rgb=rgb, valid=valid)
        assert colours is not None
        assert inside is not None
        parts = [_positions(probs, rgb.shape[-2], rgb.shape[-1]) / self.sigma_px]
        if self.sigma_rgb is not None:
            parts.append(colours.to(probs.dtype) / self.sigma_rgb)
        if z is not None and self.sigma_feature is not None:
            parts.append(z / self.sigma_feature)
        forms = dense_forms(probs, torch.cat(parts, 1), inside, method=self.method, num_landmarks=self.num_landmarks)
        return forms, inside.flatten(1).sum(1).to(forms.total.dtype)


def _positions(grid: Float[Tensor, "B C h w"], height: int, width: int) -> Float[Tensor, "B 2 h w"]:
    """Return where the cells' centres are, in pixels of the full image."""
    sides = zip(grid.shape[-2:], (height, width), strict=True)
    y, x = ((torch.arange(n, dtype=grid.dtype, device=grid.device) + 0.5) * (full / n) for n, full in sides)
    both = torch.stack(torch.meshgrid(x, y, indexing="xy"))
    return both.expand(grid.shape[0], *both.shape)


class DenseCRFLoss(DenseKernelLoss):
    """Potts energy of the prediction over all pairs of pixels, as a share of the kernel's mass.

        L = (1/|V|) Σ_b |V_b| · (Σ_{i,j∈V_b} k_ij (1 − p_i·p_j)) / (Σ_{i,j∈V_b} k_ij)

    V_b are the valid pixels of image b on the logits' grid, p the softmax; k and the arguments are those of
    :class:`DenseKernelLoss`. The value is in [0, 1] (up to the method's error) and is 0 when all pixels that are alike agree
    with certainty. A mean over pixels and over the kernel: the weight need not be found again for another image size, stride,
    sigma or number of images.

    rloss's value, −(w/N) Σ_b Σ_ij k_ij p_i·p_j, is this *sum* of pairs less a constant, so it is negative. Its w belongs to the
    weight w·Σ_ij k_ij here: w = 2e-9 on 257² pixels (its crop 513 at scale 0.5; sigma_px 100, 15 of 255 levels) is 0.15 (0.09
    to 0.22 over 15 photographs, by rloss's own lattice, whose sums are 0.6 of the true ones).

    Cost: one filtering (:func:`scribbleseg.ops.dense.dense_filter`) for value and gradient; with ``feature_gradient`` two more.

    Reference: Tang et al., *On Regularized Losses for Weakly-supervised CNN Segmentation*, ECCV 2018 (arXiv 1803.09569): the
    DenseCRF loss, and the defaults of their PyTorch code. Differences: the constant and the mean above, colours averaged
    rather than picked on a coarser grid, deep features allowed in the kernel, and the gradient is the value's own (their
    lattice is not symmetric, their gradient takes it to be).

    Example:
        >>> import torch
        >>> rgb, valid = torch.rand(1, 3, 8, 8), torch.ones(1, 8, 8, dtype=torch.bool)
        >>> round(float(DenseCRFLoss()(torch.zeros(1, 2, 8, 8), rgb=rgb, valid=valid)), 3)  # no class is preferred: 1 − ½
        0.5
    """

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
        energy = forms.total - forms.association.sum(1)
        some = forms.total > 0
        share = torch.where(some, energy / torch.where(some, forms.total, 1.0), 0.0)
        dtype = at_least_float32(logits).dtype
        return Terms((num_pixels * share).sum().to(dtype), num_pixels.sum().to(dtype))
