"""Small random maps as a loss gets them: scores and features on a grid, colours, strokes and padding at full size."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

#: Size of the images and of the grid of the scores.
GRIDS = [((5, 6), (5, 6)), ((8, 12), (4, 6)), ((7, 9), (4, 5)), ((1, 6), (1, 6))]


def make_maps(
    size: tuple[int, int] = (8, 12),
    grid: tuple[int, int] = (4, 6),
    num_images: int = 2,
    num_classes: int = 3,
    share: float = 0.15,
    holes: bool = True,
    seed: int = 5,
) -> dict[str, Tensor]:
    """Return float64 maps; about ``share`` of the pixels is drawn on, the right of the first and the foot of the last padded."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, num_classes, (num_images, *size), generator=rng)
    labels[torch.rand(num_images, *size, generator=rng) > share] = 255
    valid = torch.ones(num_images, *size, dtype=torch.bool)
    if holes:
        valid[0, :, -size[1] // 4 :] = False
        valid[-1, size[0] - size[0] // 5 :] = False
        valid[-1, 0, 0] = False
    return {
        "logits": torch.randn(num_images, num_classes, *grid, generator=rng, dtype=torch.float64),
        "labels": labels,
        "rgb": torch.rand(num_images, 3, *size, generator=rng, dtype=torch.float64),
        "features": F.normalize(torch.randn(num_images, 4, *grid, generator=rng, dtype=torch.float64), dim=1),
        "valid": valid,
    }


def pad_maps(maps: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the maps with padding below and to the right: two cells of the grid, whole ones, with any content."""
    (height, width), (h, w) = maps["labels"].shape[-2:], maps["logits"].shape[-2:]
    assert (height % h, width % w) == (0, 0), "padding moves the cells of an odd grid"
    full, cells = (0, 2 * width // w, 0, height // h), (0, 2, 0, 1)
    return {
        "logits": F.pad(maps["logits"], cells, value=3.0),
        "features": F.pad(maps["features"], cells, value=0.5),
        "rgb": F.pad(maps["rgb"], full, value=0.9),
        "labels": F.pad(maps["labels"], full, value=255),
        "valid": F.pad(maps["valid"], full, value=False),
    }


def renumber(maps: dict[str, Tensor], order: list[int]) -> dict[str, Tensor]:
    """Return the maps with the classes in another order: new class k is old class ``order[k]``."""
    table = torch.cat([torch.argsort(torch.tensor(order)), torch.full((256 - len(order),), 255)])
    return maps | {"logits": maps["logits"][:, order], "labels": table[maps["labels"]]}
