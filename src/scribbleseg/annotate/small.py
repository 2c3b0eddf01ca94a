"""An image as the learner sees it: whole where it is small, else shrunk while it is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scribbleseg.annotate.features import grid_of
from scribbleseg.data.images import Window, open_image
from scribbleseg.data.intensity import rgb_of

if TYPE_CHECKING:
    from scribbleseg.annotate.drawn import Drawn
    from scribbleseg.data.folder import Dataset

#: A picture of more pixels is read in bands and shrunk.
WHOLE_PIXELS = 2**22

#: Rows of the picture that are read at a time, at least.
BAND_PX = 512


def small_rgb(project: Drawn, dataset: Dataset, image: int, stem: str) -> np.ndarray:
    """Return an image's colours, float32 (h, w, 3): at its own size up to ``WHOLE_PIXELS``, else shrunk by a whole number.

    Cost: of a large picture the memory of one band, besides what its format reads at once.
    """
    height, width = project.size(image)
    if height * width <= WHOLE_PIXELS:
        return project.rgb(image)
    step = max(1, int(height / grid_of((height, width))[0]))
    path, number = dataset.image_source(stem)
    parts = []
    high = -(-BAND_PX // step) * step
    with open_image(path, dataset.spec.reading) as opened:
        for top in range(0, height, high):
            window = Window(top, 0, min(high, height - top), width)
            parts.append(_means(rgb_of(opened, dataset.spec.reading, window, number, dataset.ranges), step))
    return np.concatenate(parts)


def _means(rgb: np.ndarray, step: int) -> np.ndarray:
    """Return the means of blocks of ``step`` × ``step``; those at the right and below may be smaller."""
    starts = [np.arange(0, n, step) for n in rgb.shape[:2]]
    sums = np.add.reduceat(np.add.reduceat(rgb, starts[0], axis=0), starts[1], axis=1)
    areas = np.outer(*(np.diff(np.append(s, n)) for s, n in zip(starts, rgb.shape[:2], strict=True)))
    return (sums / areas[..., None]).astype(np.float32)
