"""Gated CRF: neighbours in a window that look alike get one class."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from scribbleseg.config.sections import Positive
from scribbleseg.losses.base import Loss, at_grid, at_least_float32
from scribbleseg.losses.dynamic_feature import Kernel
from scribbleseg.ops.windowed import windowed_energy
from scribbleseg.records import UNLABELLED, Terms

Pixels = Literal["valid", "labelled", "unlabelled"]


class GatedCRFLoss(Loss):
    """Potts energy of the prediction in a window around each pixel, under one Gaussian of position and colour.

        L = (1/|D|) Σ_{i∈S} Σ_{j∈D∩win(i)} k_ij (1 − p_i·p_j)
        k_ij = exp(−½‖x_i−x_j‖²/σ_px² − ½‖rgb_i−rgb_j‖²/σ_rgb² − ½‖z_i−z_j‖²/σ_feature²)

    S are the pixels that send, D those that receive; both are the valid ones by default. The gates choose which pairs
    count, not where gradient goes: a pair moves both its ends. Everything is on the logits' grid, and ``radius``,
    ``dilation`` and ``sigma_px`` count its pixels. The value is the authors': a *sum* over the window, up to about 92 at the
    defaults; for a mean, which does not grow with the window, use ``dynamic_feature`` with ``dynamic=None``.

    Args:
        radius: window half-width, in steps of ``dilation`` pixels.
        dilation: pixels per step.
        sigma_px: width in position.
        sigma_rgb: width in colour, on the [0, 1] range; None leaves colour out.
        sigma_feature: width in the deep features, which have unit length and get no gradient; None leaves them out.
        source: pixels that send: ``valid``, ``labelled`` or ``unlabelled`` (valid ones in all cases).
        destination: pixels that receive; the loss is divided by their number.

    The authors' "rgb 0.1" is 0.1 of an ImageNet-normalised channel (standard deviation about 0.226), so
    ``sigma_rgb=0.0226`` here (6 of 255 grey levels). WSL4MIS writes the same 0.1 for one grey channel in [0, 1]; as grey
    pictures have three equal channels here, that is ``sigma_rgb=0.1·√3 = 0.173`` (25 levels). The default lies between.

    Cost: see :func:`scribbleseg.ops.windowed.windowed_energy`; (2r+1)²−1 = 120 neighbours at the defaults.

    Reference: Obukhov et al., *Gated CRF Loss for Weakly Supervised Semantic Image Segmentation*, arXiv 1906.04651; weight
    0.1, from 0.5 % of the run on. With both of its masks given their code has this value; it divides by the receiving
    pixels. Given only one it lets padding take part on the other side, and without masks it counts neighbours beyond the
    edge of the picture (a constant, so the gradient is the same). Its class compatibility matrix is not offered.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"rgb", "valid"})

    def __init__(
        self,
        *,
        radius: Annotated[int, Field(ge=1)] = 5,
        dilation: Annotated[int, Field(ge=1)] = 1,
        sigma_px: Positive = 6.0,
        sigma_rgb: Positive | None = 0.1,
        sigma_feature: Positive | None = None,
        source: Pixels = "valid",
        destination: Pixels = "valid",
    ) -> None:
        super().__init__()
        self.kernel = Kernel(
            radius=radius, dilation=dilation, sigma_px=sigma_px, sigma_rgb=sigma_rgb, sigma_feature=sigma_feature
        )
        self.source, self.destination = source, destination
        features = {"features"} if sigma_feature is not None else set()
        labels = {"labels"} if (source, destination) != ("valid", "valid") else set()
        self.needs = GatedCRFLoss.needs | features | labels

    def terms(  # type: ignore[override]
        self,
        logits: Float[Tensor, "B C h w"],
        *,
        rgb: Float[Tensor, "B 3 H W"],
        valid: Bool[Tensor, "B H W"],
        labels: Int[Tensor, "B H W"] | None = None,
        features: Float[Tensor, "B D h w"] | None = None,
    ) -> Terms:
        """Return the sum and the count; arguments as in :meth:`Loss.forward`."""
        probs = at_least_float32(logits).softmax(1)
        rgb_, known, inside = at_grid(probs, rgb=rgb, labels=labels, valid=valid)
        assert rgb_ is not None
        assert inside is not None
        guide = self.kernel.guide(rgb_, (probs if features is None else features.to(probs.dtype)).detach())
        source, destination = (_gate(name, known, inside) for name in (self.source, self.destination))
        energy = windowed_energy(
            probs,
            guide,
            radius=self.kernel.radius,
            dilation=self.kernel.dilation,
            sigma_px=self.kernel.sigma_px,
            source=source,
            destination=destination,
        )
        return Terms(energy, destination.sum().to(energy.dtype))


def _gate(pixels: Pixels, known: Tensor | None, inside: Tensor) -> Tensor:
    if pixels == "valid":
        return inside
    assert known is not None
    return inside & ((known != UNLABELLED) if pixels == "labelled" else (known == UNLABELLED))
