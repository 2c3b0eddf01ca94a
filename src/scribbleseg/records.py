"""The nouns of the pipeline: what travels between the rooms, as frozen records.

``file → Sample → (transforms) → Sample → Batch → Output → Terms``; ``Scores`` come out of evaluation.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Float64, Int

if TYPE_CHECKING:  # pictures and label maps are read, drawn and served where there is no PyTorch
    from torch import Tensor

#: The one label value that means "nobody said what this pixel is". Never a class, never guessed.
UNLABELLED = 255


@dataclass(frozen=True, eq=False)
class Stroke:
    """One stroke of a brush or eraser, as the hand drew it.

    Attributes:
        label: class id. An eraser's is ignored: it makes pixels unlabelled.
        width_px: of the brush, in image pixels.
        points: x (right) and y (down) in image pixels. (0, 0) is the top left corner of the image: its first pixel's centre
            is (0.5, 0.5).
        tool: ``brush`` or ``eraser``.
        time: when it was drawn, ISO 8601.
        author: who drew it.
    """

    label: int
    width_px: float
    points: Float64[np.ndarray, "N 2"]
    tool: Literal["brush", "eraser"] = "brush"
    time: str | None = None
    author: str | None = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Stroke):
            return NotImplemented
        mine, others = ({**vars(stroke), "points": stroke.points.tolist()} for stroke in (self, other))
        return mine == others


@dataclass(frozen=True)
class Sample:
    """One image with its labels.

    Attributes:
        stem: file name without folder and suffix.
        image: what the network sees, in [0, 1]; colour augmentation changes it.
        rgb: the true colours in [0, 1], for pairwise kernels; never colour-augmented.
        labels: class ids, or ``UNLABELLED``.
        drawn: which class ids the labels of the whole image hold; a crop keeps it.
        valid: False where a pixel is padding.
    """

    stem: str
    image: Float[Tensor, "3 H W"]
    rgb: Float[Tensor, "3 H W"]
    labels: Int[Tensor, "H W"]
    drawn: Bool[Tensor, " K"]
    valid: Bool[Tensor, "H W"]


@dataclass(frozen=True)
class Batch:
    """Samples of one size, stacked. Axes as in :class:`Sample`, with B in front."""

    stems: tuple[str, ...]
    image: Float[Tensor, "B 3 H W"]
    rgb: Float[Tensor, "B 3 H W"]
    labels: Int[Tensor, "B H W"]
    drawn: Bool[Tensor, "B K"]
    valid: Bool[Tensor, "B H W"]

    def to(self, device: Any) -> Batch:
        """Return the batch on another device."""
        from torch import Tensor

        moved: dict[str, Any] = {
            field.name: value.to(device, non_blocking=True)
            for field in dataclasses.fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return dataclasses.replace(self, **moved)


@dataclass(frozen=True)
class Output:
    """What a segmenter says about a batch, on the grid of its decoder (stride 2 or 4 of the image).

    Attributes:
        logits: class scores before the softmax.
        features: deep features of the consistency head, unit length along D.
        branch_logits: the scores of a second branch, which training may add.
        teacher_logits: the scores of the averaged network for the same batch, which training may add; no gradient.
        teacher_clean_logits: the same for the true colours, without noise on them; no gradient.
        teacher_features: the deep features that go with these; no gradient.
        first_features: the deep features of the network as it was before the first step; no gradient.
    """

    logits: Float[Tensor, "B C h w"]
    features: Float[Tensor, "B D h w"]
    branch_logits: Float[Tensor, "B C h w"] | None = None
    teacher_logits: Float[Tensor, "B C h w"] | None = None
    teacher_clean_logits: Float[Tensor, "B C h w"] | None = None
    teacher_features: Float[Tensor, "B D h w"] | None = None
    first_features: Float[Tensor, "B D h w"] | None = None


@dataclass(frozen=True)
class Terms:
    """A loss as a sum and the count it is to be divided by, so that ranks and batches can be added first."""

    sum: Float[Tensor, ""]
    count: Float[Tensor, ""]

    @property
    def mean(self) -> Float[Tensor, ""]:
        """The mean, and zero (with a zero gradient) where nothing was counted."""
        return self.sum / self.count.clamp(min=1)


@dataclass(frozen=True)
class DistanceSums:
    """Distances between contours, added up over images.

    Attributes:
        unit: ``mm`` where every image's file says the spacing of its pixels, else ``px``.
        sums: float64, a row a class: HD95, ASSD, number of images they are of, and how many of these lack the class in one of
            truth and prediction.
    """

    unit: Literal["px", "mm"]
    sums: Float64[np.ndarray, "C 4"]


@dataclass(frozen=True)
class Scores:
    """The outcome of an evaluation. An absent class is NaN in the arrays and ``null`` in JSON.

    Attributes:
        names: class names by id.
        confusion: pixel counts, row = truth, column = prediction, pooled over the images.
        border_confusion: the same over pixels within ``border_px`` of a class border.
        boundary: pixels in both bands along the contours of a class, and in either; int64 (2, C).
        distances: between the contours of truth and prediction.
        reliability: pixels, sum of confidence and right pixels by confidence, (3, bins); None for masks alone.
        replicates: the confusion of resampled sets of images, (R, C, C).
        per_image: one dict an image: stem, miou, pixel_accuracy, hd95; ``spacing_mm`` (rows, columns) where the file says it.
        per_volume: one dict a volume: volume, then a Dice value per class name; empty without ``volume``.
    """

    names: tuple[str, ...]
    confusion: np.ndarray
    border_confusion: np.ndarray
    border_px: int
    boundary: np.ndarray
    distances: DistanceSums
    reliability: np.ndarray | None
    replicates: np.ndarray
    per_image: tuple[dict[str, Any], ...]
    per_volume: tuple[dict[str, Any], ...]
