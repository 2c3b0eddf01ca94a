"""What the instant classifier sees of a pixel: filters at several scales, and the maps of a frozen backbone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional as F

from scribbleseg.models.backbone import Backbone, build_backbone
from scribbleseg.models.segmenter import IMAGE_MEAN, IMAGE_STD

#: Scales of the filters, px of the grid.
SIGMAS = (1.0, 2.0, 4.0, 8.0, 16.0)

#: Filters at each scale: three colours, gradient, two eigenvalues of the Hessian, two of the structure tensor.
PER_SIGMA = 8
NUM_FILTERS = 3 + PER_SIGMA * len(SIGMAS)

#: Images are looked at on a grid of at most so many pixels: 1024 × 768 and less at their own size.
MAX_GRID = 3 * 2**18

#: The backbone sees the image with its longer side enlarged towards this, at most twice, so that its maps are finer.
BACKBONE_PX = 896

#: It sees pieces of at most this side.
PIECE_PX = 448


@dataclass(frozen=True, eq=False)
class Features:
    """The features of one image on its grid.

    Attributes:
        filters: float16 (h, w, NUM_FILTERS).
        maps: float16 (D, u, v) on a coarser grid that covers the same image; D is 0 without a backbone.
        size: (height, width) of the image itself.
    """

    filters: np.ndarray
    maps: np.ndarray
    size: tuple[int, int]

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of the grid."""
        return self.filters.shape[0], self.filters.shape[1]

    def cells(self, pixels: np.ndarray) -> np.ndarray:
        """Return the cells of the grid, as ascending flat indices without repeats, in which pixels of the image lie."""
        row, column = np.divmod(pixels, self.size[1])
        height, width = self.grid
        return np.unique(row * height // self.size[0] * width + column * width // self.size[1])

    def at(self, cells: np.ndarray) -> np.ndarray:
        """Return the features of cells, float32 (N, NUM_FILTERS + D)."""
        fine = np.asarray(self.filters.reshape(-1, self.filters.shape[-1])[cells], np.float32)
        if not len(self.maps):
            return fine
        row, column = np.divmod(cells, self.grid[1])
        place = [(row + 0.5) / self.grid[0] * 2 - 1, (column + 0.5) / self.grid[1] * 2 - 1]
        where = torch.from_numpy(np.stack(place[::-1], axis=-1).astype(np.float32))[None, None]
        coarse = torch.from_numpy(np.asarray(self.maps, np.float32))[None]
        read = F.grid_sample(coarse, where, mode="bilinear", padding_mode="border", align_corners=False)
        return np.concatenate([fine, read[0, :, 0].T.numpy()], axis=1)


def grid_of(size: tuple[int, int]) -> tuple[int, int]:
    """Return height and width of the grid of an image of a size."""
    shrink = min(1.0, (MAX_GRID / (size[0] * size[1])) ** 0.5)
    return max(1, round(size[0] * shrink)), max(1, round(size[1] * shrink))


def compute(rgb: np.ndarray, size: tuple[int, int], encoder: Encoder | None) -> Features:
    """Return the features of an image.

    Args:
        rgb: float32 (h, w, 3) in [0, 1], on the grid or larger.
        size: (height, width) of the image itself.
        encoder: the backbone, if there is one.

    Cost: 1.5 s of one core for a grid of 1024 × 768, and what the backbone takes (docs/explanation/live_learning.md).
    """
    image = torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1), dtype=np.float32))[None]
    grid = grid_of(size)
    small = image if image.shape[-2:] == grid else F.interpolate(image, grid, mode="bilinear", antialias=True)
    maps = np.zeros((0, 1, 1), np.float16) if encoder is None else encoder.maps(small)
    return Features(filters(small[0].permute(1, 2, 0).numpy()), maps, size)


def filters(rgb: np.ndarray) -> np.ndarray:
    """Return the filters of an image: float16 (H, W, NUM_FILTERS).

    At each scale σ: the colours smoothed, and of the smoothed grey the gradient times σ, the eigenvalues of its Hessian times
    σ² and of its structure tensor times σ², as roots: the features that ilastik and others in its wake give their forests. From
    σ = 4 on they are computed on a smaller image and brought back.
    """
    height, width = rgb.shape[:2]
    out = np.empty((height, width, NUM_FILTERS), np.float16)
    out[..., :3] = rgb
    for n, sigma in enumerate(SIGMAS):
        step = max(1, int(sigma / 2))
        found = _at_scale(_shrunk(rgb, step), sigma / step)
        if step > 1:
            grown = F.interpolate(torch.from_numpy(found)[None], (height, width), mode="bilinear", align_corners=False)
            found = grown[0].numpy()
        out[..., 3 + PER_SIGMA * n : 3 + PER_SIGMA * (n + 1)] = found.transpose(1, 2, 0)
    return out


def _shrunk(rgb: np.ndarray, step: int) -> np.ndarray:
    """Return an image (3, h, w) of blocks' means."""
    planes = torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))[None]
    if step == 1:
        return planes[0].numpy()
    size = [max(1, round(n / step)) for n in rgb.shape[:2]]
    return F.interpolate(planes, size, mode="bilinear", align_corners=False, antialias=True)[0].numpy()


def _at_scale(planes: np.ndarray, sigma: float) -> np.ndarray:
    """Return the filters of one scale, float32 (PER_SIGMA, h, w)."""
    smooth = np.stack([ndimage.gaussian_filter(plane, sigma, mode="nearest") for plane in planes])
    grey = smooth.mean(axis=0)
    down, right = _slope(grey, 0) * sigma, _slope(grey, 1) * sigma
    bend = (_slope(down, 0) * sigma, _slope(down, 1) * sigma, _slope(right, 1) * sigma)
    products = [ndimage.gaussian_filter(x, sigma, mode="nearest") for x in (down * down, down * right, right * right)]
    large, small = _eigenvalues(*products)
    strength = np.hypot(down, right)
    return np.stack([*smooth, strength, *_eigenvalues(*bend), np.sqrt(np.maximum(large, 0)), np.sqrt(np.maximum(small, 0))])


def _slope(plane: np.ndarray, axis: int) -> np.ndarray:
    return ndimage.correlate1d(plane, np.array([-0.5, 0, 0.5], np.float32), axis=axis, mode="nearest")


def _eigenvalues(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the larger and the smaller eigenvalue of [[a, b], [b, c]] everywhere."""
    middle, half = (a + c) / 2, np.hypot((a - c) / 2, b)
    return middle + half, middle - half


class Encoder:
    """A frozen backbone.

    Args:
        source: a local folder, as ``model.backbone`` of a run.
        device: where it runs.

    Raises:
        ModelError: the folder is no backbone.
    """

    def __init__(self, source: Path | str, device: torch.device | None = None) -> None:
        self.backbone: Backbone = build_backbone(str(source), pretrained=True).eval().requires_grad_(False)
        self.device = device or torch.device("cpu")
        self.backbone.to(self.device)

    @torch.inference_mode()
    def maps(self, image: torch.Tensor) -> np.ndarray:
        """Return the maps of an image (1, 3, H, W) as float16 (D, u, v), each brought to the grid of the second finest.

        The image goes through in pieces of at most ``PIECE_PX``: the cost of attention grows with the square of a piece.
        """
        height, width = image.shape[-2:]
        grow = min(2.0, BACKBONE_PX / max(height, width))
        size = [max(self.backbone.multiple, round(n * grow)) for n in (height, width)]
        mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (IMAGE_MEAN, IMAGE_STD))
        grown = (F.interpolate(image, size, mode="bilinear", align_corners=False, antialias=grow < 1) - mean) / std
        number = [-(-n // PIECE_PX) for n in size]
        side = [-(-n // (k * self.backbone.multiple)) * self.backbone.multiple for n, k in zip(size, number, strict=True)]
        whole = [k * s for k, s in zip(number, side, strict=True)]
        padded = F.pad(grown, (0, whole[1] - size[1], 0, whole[0] - size[0]), mode="replicate")
        pieces = padded.unfold(2, side[0], side[0]).unfold(3, side[1], side[1])[0].permute(1, 2, 0, 3, 4).flatten(0, 1)
        found = torch.cat([_joined(self.backbone(piece[None].to(self.device))) for piece in pieces])
        rows, columns = found.shape[-2:]
        joined = (
            found.reshape(*number, -1, rows, columns).permute(2, 0, 3, 1, 4).reshape(-1, number[0] * rows, number[1] * columns)
        )
        kept = [max(1, round(n * g / p)) for n, g, p in zip(size, joined.shape[-2:], whole, strict=True)]
        return joined[:, : kept[0], : kept[1]].to(torch.float16).cpu().numpy()


def _joined(maps: list[torch.Tensor]) -> torch.Tensor:
    """Return all maps but the first as one (1, D, u, v), every pixel's vector of each of mean 0 and spread 1."""
    chosen = maps[1:] or maps
    grid = chosen[0].shape[-2:]
    parts = []
    for one in chosen:
        one = one.float()
        one = (one - one.mean(1, keepdim=True)) / (one.std(1, keepdim=True) + 1e-6)
        parts.append(F.interpolate(one, grid, mode="bilinear", align_corners=False) if one.shape[-2:] != grid else one)
    return torch.cat(parts, dim=1)
