"""Explanation: which pixels the kernels of the dynamic feature loss find alike, by colour and by the network's own features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from scribbleseg.config import LossTerm
from scribbleseg.losses.dynamic_feature import Kernel
from scribbleseg.losses.objective import loss_numbers
from scribbleseg.models.folder import SNAPSHOTS, TrainedModel
from scribbleseg.ops.windowed import windowed_energy
from scribbleseg.predict.windows import as_rgb
from scribbleseg.records import UNLABELLED

#: A picture is explained on a grid of at most so many cells a side, seen at no more than so many pixels a side.
GRID, SEEN_PX = 72, 512


@dataclass(frozen=True)
class Look:
    """A picture as the kernels see it, on one grid.

    Attributes:
        rgb: mean colours of the cells, in [0, 1].
        features: deep features of unit length.
    """

    rgb: Float[Tensor, "3 h w"]
    features: Float[Tensor, "D h w"]

    def guide(self, kernel: Kernel) -> Float[Tensor, "G h w"]:
        """Return what a kernel compares, each over its sigma."""
        return kernel.guide(self.rgb[None], self.features[None])[0]


def kernels(losses: Mapping[str, LossTerm]) -> dict[str, Kernel] | None:
    """Return the kernels of a run's dynamic feature loss, ``shallow`` (colour) and ``deep``; None without a deep one.

    A run that has switched its static kernel off is shown beside the default one.
    """
    term = losses.get("dynamic_feature")
    if term is None or term.weight == 0:
        return None
    numbers = loss_numbers("dynamic_feature", term.numbers())
    deep, shallow = numbers["dynamic"], numbers["static"] or loss_numbers("dynamic_feature", {})["static"]
    if deep is None or deep.weight == 0 or deep.sigma_feature is None:
        return None
    return {"shallow": shallow, "deep": deep}


@torch.inference_mode()
def look(model: TrainedModel, rgb: np.ndarray, grid: int = GRID) -> Look:
    """Return a picture's colours and the network's features of it.

    Args:
        model: trained; its size for pictures is kept, but for ``SEEN_PX``.
        rgb: (H, W, 3), 8-bit or floats in [0, 1].
        grid: cells along the longer side, at most; the network's own grid where that is coarser.
    """
    device = model.segmenter.mean.device
    image = torch.from_numpy(np.ascontiguousarray(as_rgb(rgb).transpose(2, 0, 1)))[None].to(device)
    longest = max(image.shape[-2:])
    seen = min(model.longest_px or longest, SEEN_PX)
    if seen != longest:
        size = [max(1, round(side * seen / longest)) for side in image.shape[-2:]]
        image = F.interpolate(image, size, mode="bilinear", align_corners=False, antialias=seen < longest)
    z = model.segmenter(image).features.float()
    shrunk = min(1.0, grid / max(z.shape[-2:]))
    rows, columns = (max(1, round(side * shrunk)) for side in z.shape[-2:])
    z = F.normalize(F.adaptive_avg_pool2d(z, (rows, columns)), dim=1)
    return Look(F.adaptive_avg_pool2d(image, (rows, columns))[0].cpu(), z[0].cpu())


def affinity(guide: Float[Tensor, "G h w"], row: int, column: int) -> Float[Tensor, "h w"]:
    """Return how alike a kernel finds each cell and the one at (row, column), 0 to 1, wherever the cell lies.

        a_j = exp(−½‖g_i − g_j‖²)

    The factor of the distance, by which the loss keeps to its window, is left out: this is what the kernel has to tell.
    """
    return (-0.5 * (guide - guide[:, row, column, None, None]).square().sum(0)).exp()


def same_class(alike: Float[Tensor, "h w"], labels: Int[np.ndarray, "h w"], row: int, column: int) -> float:
    """Return which share of an affinity map lies on cells of the class at (row, column), itself left out; NaN if unlabelled."""
    weight = alike.double().numpy().copy()
    weight[row, column] = 0
    weight[labels == UNLABELLED] = 0
    mine = labels[row, column]
    total = weight.sum()
    return float(weight[labels == mine].sum() / total) if mine != UNLABELLED and total > 0 else float("nan")


def leak(kernel: Kernel, seen: Look, labels: Int[np.ndarray, "h w"], num_classes: int) -> tuple[float, float]:
    """Return the kernel's mass that joins cells of two classes, and its whole mass, within its window.

    Their quotient says how often the loss is wrong to ask for agreement. Cells without a label take no part.
    """
    valid = torch.from_numpy(labels != UNLABELLED)[None]
    truth = torch.from_numpy(np.where(labels == UNLABELLED, 0, labels).astype(np.int64))[None]
    one_hot = F.one_hot(truth, num_classes).movedim(-1, 1).float()
    guide = seen.guide(kernel)[None]
    across, all_ = (
        windowed_energy(p, guide, valid, radius=kernel.radius, dilation=kernel.dilation, sigma_px=kernel.sigma_px)
        for p in (one_hot, torch.zeros_like(one_hot))
    )
    return float(across), float(all_)


def stages(run: Path, max_steps: int) -> list[tuple[int, Path]]:
    """Return the run's networks in the order of their steps: its snapshots, if it kept any, and the last one."""
    kept = sorted((run / SNAPSHOTS).glob("[0-9]*")) if (run / SNAPSHOTS).is_dir() else []
    return [*((int(folder.name), folder) for folder in kept if folder.name.isdigit()), (max_steps, run / "model")]


def at_grid(labels: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Return the label at the middle of each cell."""
    y, x = (((np.arange(n) + 0.5) * side / n).astype(int) for n, side in ((rows, labels.shape[0]), (columns, labels.shape[1])))
    return labels[np.ix_(y, x)]


def inmost(labels: np.ndarray) -> tuple[int, int]:
    """Return the cell farthest from any border within the largest class but 0 (of that one, if there is no other)."""
    counts = np.bincount(labels.ravel(), minlength=256)[:255]
    shown = int(counts[1:].argmax()) + 1 if counts[1:].any() else 0
    depth = ndimage.distance_transform_edt(np.pad(labels == shown, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(row), int(column)
