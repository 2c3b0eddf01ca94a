"""The one calling form of every loss."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from scribbleseg.losses.ranks import ALONE, Ranks
from scribbleseg.records import UNLABELLED, Terms


class Loss(nn.Module):
    """Base of the losses: numbers in the constructor by keyword, data in the call by keyword.

    A subclass says in ``needs`` what it takes and implements :meth:`terms`. Called as a module it returns the mean,
    as users of PyTorch expect; the objective uses the sum and the count.
    """

    needs: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def terms(self, logits: Tensor, **data: Any) -> Terms:
        """Return the loss as a sum and a count."""

    def forward(
        self,
        logits: Float[Tensor, "B C h w"],
        *,
        labels: Int[Tensor, "B H W"] | None = None,
        rgb: Float[Tensor, "B 3 H W"] | None = None,
        drawn: Bool[Tensor, "B K"] | None = None,
        features: Float[Tensor, "B D h w"] | None = None,
        valid: Bool[Tensor, "B H W"] | None = None,
        progress: float = 1.0,
        branch_logits: Float[Tensor, "B C h w"] | None = None,
        teacher_logits: Float[Tensor, "B C h w"] | None = None,
        teacher_clean_logits: Float[Tensor, "B C h w"] | None = None,
        teacher_features: Float[Tensor, "B D h w"] | None = None,
        first_features: Float[Tensor, "B D h w"] | None = None,
        ranks: Ranks = ALONE,
    ) -> Float[Tensor, ""]:
        """Return the mean loss.

        Args:
            logits: class scores, on their own grid (h, w), which may be coarser than the image's.
            labels: class ids, 255 where nobody drew.
            rgb: true colours in [0, 1].
            drawn: which class ids were drawn anywhere in the image that the crop is of, K ≥ C.
            features: deep features on the grid of the logits.
            valid: False on padding.
            progress: share of the training run that is done, in [0, 1].
            branch_logits: class scores of a second branch.
            teacher_logits: class scores of a teacher.
            teacher_clean_logits: class scores of a teacher that saw true colours, without noise.
            teacher_features: deep features of a teacher.
            first_features: deep features of the network as it began.
            ranks: the processes that share the batch, if it is not this one alone. The mean is this rank's own, but for
                losses that pool the batch.
        """
        given = {
            "labels": labels,
            "rgb": rgb,
            "drawn": drawn,
            "features": features,
            "valid": valid,
            "progress": progress,
            "branch_logits": branch_logits,
            "teacher_logits": teacher_logits,
            "teacher_clean_logits": teacher_clean_logits,
            "teacher_features": teacher_features,
            "first_features": first_features,
            "ranks": ranks,
        }
        missing = [name for name in self.needs if given[name] is None]
        if missing:
            raise TypeError(f"{type(self).__name__} needs {', '.join(sorted(missing))}: pass it by keyword")
        if "rgb" in self.needs and rgb is not None and float(rgb.detach().amax()) > 1.01:
            raise ValueError(f"{type(self).__name__} needs rgb in [0, 1], got values up to {float(rgb.detach().amax()):g}")
        return self.terms(logits, **{name: given[name] for name in self.needs}).mean


def at_least_float32(x: Tensor) -> Tensor:
    """Return half-precision tensors as float32; leave float32 and float64 alone."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def possible_classes(drawn: Bool[Tensor, "B K"], num_classes: int) -> Bool[Tensor, "B C"]:
    """Return the classes that were drawn in each image; in one without any stroke, all of them."""
    found = drawn[:, :num_classes]
    return found | ~found.any(1, keepdim=True)


def at_labels(scores: Float[Tensor, "B C h w"], labels: Int[Tensor, "B H W"]) -> Float[Tensor, "B C H W"]:
    """Bring scores to the grid of the labels, as prediction does."""
    size = labels.shape[-2:]
    return scores if scores.shape[-2:] == size else F.interpolate(scores, size, mode="bilinear", align_corners=False)


def at_grid(
    grid: Float[Tensor, "B C h w"],
    *,
    rgb: Float[Tensor, "B 3 H W"] | None = None,
    labels: Int[Tensor, "B H W"] | None = None,
    valid: Bool[Tensor, "B H W"] | None = None,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Bring colours (mean of the cell), labels (the only class drawn in the cell) and validity (whole cell) to a grid.

    A cell in which strokes of two classes meet is unlabelled: halving the resolution must not invent an answer.
    """
    size = grid.shape[-2:]
    if rgb is not None and rgb.shape[-2:] != size:
        rgb = F.adaptive_avg_pool2d(rgb, (size[0], size[1]))
    if valid is not None and valid.shape[-2:] != size:
        valid = F.adaptive_avg_pool2d(valid.float(), (size[0], size[1])) > 0.999
    if labels is not None and labels.shape[-2:] != size:
        labels = labels.long()
        drawn = labels != UNLABELLED
        high = F.adaptive_max_pool2d(torch.where(drawn, labels, -1).float(), size).long()
        low = -F.adaptive_max_pool2d(torch.where(drawn, -labels, -UNLABELLED).float(), size).long()
        labels = torch.where(high == low, high, UNLABELLED)
    return rgb, labels, valid
