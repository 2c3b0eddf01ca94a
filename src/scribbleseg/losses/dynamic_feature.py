"""The dynamic feature regularized loss: neighbours that look alike, or that the network finds alike, agree."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

from jaxtyping import Bool, Float
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, cat
from torch.nn import functional as F

from scribbleseg.config.sections import Positive
from scribbleseg.losses.base import Loss, at_grid, at_least_float32
from scribbleseg.ops.windowed import windowed_energy
from scribbleseg.records import Terms


class Kernel(BaseModel):
    """One Gaussian of the energy. Lengths are pixels of the grid the loss is computed on (that of the logits).

    Attributes:
        weight: factor of its mean energy.
        radius: window half-width, in steps of ``dilation`` pixels.
        dilation: pixels per step.
        sigma_px: width in position.
        sigma_rgb: width in colour, on the [0, 1] range; None leaves colour out.
        sigma_feature: width in the deep features, which have unit length; None leaves them out (a static kernel).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: Annotated[float, Field(ge=0)] = 1.0
    radius: Annotated[int, Field(ge=1)] = 5
    dilation: Annotated[int, Field(ge=1)] = 1
    sigma_px: Positive = 6.0
    sigma_rgb: Positive | None = 0.1
    sigma_feature: Positive | None = None

    @model_validator(mode="after")
    def _reaches_a_neighbour(self) -> Kernel:
        if self.sigma_px < self.dilation / 4:
            raise ValueError("sigma_px must be at least a quarter of the dilation, or no neighbour has any weight")
        return self

    def window_mass(self) -> float:
        """Return Σ_j k_ij over the window of a pixel among identical ones: the largest an energy per pixel can be."""
        steps = range(-self.radius, self.radius + 1)
        squares = (((dy * dy + dx * dx) * self.dilation**2) for dy in steps for dx in steps if dy or dx)
        return sum(math.exp(-0.5 * s / self.sigma_px**2) for s in squares)

    def guide(self, rgb: Float[Tensor, "B 3 h w"], features: Float[Tensor, "B D h w"]) -> Float[Tensor, "B G h w"]:
        """Return the stacked features, each over its sigma."""
        parts = []
        if self.sigma_rgb is not None:
            parts.append(rgb.to(features.dtype) / self.sigma_rgb)
        if self.sigma_feature is not None:
            parts.append(features / self.sigma_feature)
        return cat(parts, 1) if parts else features[:, :0]


#: Names of the deep features in a loss's call, by the source that a run's configuration names.
SOURCES = {"current": "features", "teacher": "teacher_features", "first": "first_features"}

STATIC = Kernel(weight=0.5, radius=5, dilation=1, sigma_px=6.0, sigma_rgb=0.1)
DYNAMIC = Kernel(weight=1.0, radius=5, dilation=2, sigma_px=12.0, sigma_rgb=0.3, sigma_feature=0.4)


class DynamicFeatureLoss(Loss):
    """Pairwise Potts energy under a static kernel (colour, position) and a dynamic one (and deep features).

        L = (1/|V|) Σ_m w_m/M_m Σ_{i∈V} Σ_{j∈win_m(i)} k_ij^m d(p_i, p_j),   d = 1 − p·q  or  ½‖p − q‖²
        k_ij^m = exp(−½‖x_i−x_j‖²/σ_px² − ½‖rgb_i−rgb_j‖²/σ_rgb² − ½‖z_i−z_j‖²/σ_feature²)

    V are the valid pixels of the logits' grid, p the softmax, z the unit-length features of the consistency head as
    they are at this step. M is the kernel's mass over a window of identical pixels, so that each kernel's part is a mean
    over the window, in [0, 1] whatever its radius and sigma: weights need not be found again when those change. The value
    is never negative; 0 means that similar pixels agree (with certainty, for 1 − p·q).

    A weight w of the official Gated CRF (a sum over its window) is w · M here; M is 92 at its radius 5 and sigma_px 6.

    Args:
        static: kernel without deep features, or None.
        dynamic: kernel with deep features, or None.
        relaxation: the pair term φ, a name of :data:`scribbleseg.ops.windowed.RELAXATIONS`; the last two have no upper bound.
        refine: compute the energy on a grid so many times finer than the logits' (bilinear). Widths and radii count
            that grid's cells.
        stride: compute the energy on cells of so many times so many of that grid: means of probabilities, features and
            colours. Widths and radii count these cells. A U-Net's logits are as fine as the image: the same window then
            reaches further, and the work falls with the square.
        source: whose deep features the kernel has: those of the network as it is (``current``), of its moving average
            (``teacher``), or of the network before its first step (``first``: deep, but not dynamic). The last two cost
            one more forward pass, and have no gradient.
        feature_gradient: let the gradient of this loss flow into the features. With a free kernel the energy can be
            lowered by pushing all features apart, so False is the default; docs/results.md has the measurement.

    Cost: see :func:`scribbleseg.ops.windowed.windowed_energy`, once a kernel.

    Reference: Zhang, Xiao, Zhao, *Dynamic Feature Regularized Loss for Weakly Supervised Semantic Segmentation*, arXiv
    2108.01296. The authors' code and formulas are not public; the two-kernel window form is our re-creation.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"rgb", "features", "valid"})

    def __init__(
        self,
        *,
        static: Kernel | None = STATIC,
        dynamic: Kernel | None = DYNAMIC,
        relaxation: Literal["bilinear", "quadratic", "log_quadratic", "collision"] = "bilinear",
        refine: Annotated[int, Field(ge=1)] = 1,
        stride: Annotated[int, Field(ge=1)] = 1,
        source: Literal["current", "teacher", "first"] = "current",
        feature_gradient: bool = False,
    ) -> None:
        super().__init__()
        self.features = SOURCES[source]
        self.needs = frozenset({"rgb", "valid", self.features})
        self.refine, self.stride = refine, stride
        self.relaxation = relaxation
        self.kernels = tuple((k, k.weight / k.window_mass()) for k in (static, dynamic) if k is not None and k.weight > 0)
        self.feature_gradient = feature_gradient

    def terms(  # type: ignore[override]
        self,
        logits: Float[Tensor, "B C h w"],
        *,
        rgb: Float[Tensor, "B 3 H W"],
        valid: Bool[Tensor, "B H W"],
        **features: Float[Tensor, "B D h w"],
    ) -> Terms:
        """Return the sum and the count; arguments as in :meth:`Loss.forward`, of the features those of the ``source``."""
        logits = at_least_float32(logits)
        z = features[self.features].to(logits.dtype)
        if self.refine > 1:
            logits = F.interpolate(logits, scale_factor=self.refine, mode="bilinear", align_corners=False)
            z = F.normalize(F.interpolate(z, scale_factor=self.refine, mode="bilinear", align_corners=False), dim=1)
        probs = logits.softmax(1)
        if self.stride > 1:
            height, width = (-(-side // self.stride) for side in probs.shape[-2:])
            probs = F.adaptive_avg_pool2d(probs, (height, width))
            z = F.normalize(F.adaptive_avg_pool2d(z, (height, width)), dim=1)
        rgb_, _, valid_ = at_grid(probs, rgb=rgb, valid=valid)
        assert rgb_ is not None
        assert valid_ is not None
        z = z if self.feature_gradient else z.detach()
        total = probs.sum() * 0.0
        for kernel, scale in self.kernels:
            energy = windowed_energy(
                probs,
                kernel.guide(rgb_, z),
                valid_,
                radius=kernel.radius,
                dilation=kernel.dilation,
                sigma_px=kernel.sigma_px,
                relaxation=self.relaxation,
            )
            total = total + scale * energy
        return Terms(total, valid_.sum().to(total.dtype))
