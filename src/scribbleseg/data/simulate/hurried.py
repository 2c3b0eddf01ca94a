"""One hurried stroke a region, as pixels: the scribbles of the demo, whose data must not change."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra

from scribbleseg.records import UNLABELLED

#: Stays clear of the border: cost of a step through a pixel at distance d from it is 1 + (BORDER_COST / d)².
BORDER_COST = 8.0


def simulate_scribbles(
    mask: np.ndarray, rng: np.random.Generator, *, min_area: int = 60, width_px: int = 2, reach_px: float = 40.0
) -> np.ndarray:
    """Draw one stroke in every connected region of a mask, as a hurried person would.

    Two anchor points inside the region, each likelier far from its border, are joined by the cheapest path that avoids
    the border; the second anchor lies within ``reach_px`` of the first. No stroke pixel ever has a wrong label.

    Args:
        mask: class ids (H, W), 255 where there is none.
        rng: source of randomness.
        min_area: smaller regions get no stroke.
        width_px: of the stroke.
        reach_px: largest distance between the anchors.

    Returns:
        Labels uint8 (H, W), 255 where nothing was drawn.
    """
    scribbles = np.full(mask.shape, UNLABELLED, dtype=np.uint8)
    for class_id in np.unique(mask[mask != UNLABELLED]):
        regions, number = ndimage.label(mask == class_id)
        for region in range(1, number + 1):
            inside = regions == region
            if inside.sum() < min_area:
                continue
            path = _stroke(inside, rng, reach_px)
            if width_px > 1:
                path = ndimage.binary_dilation(path, np.ones((width_px, width_px), bool)) & inside
            scribbles[path] = class_id
    return scribbles


def _stroke(inside: np.ndarray, rng: np.random.Generator, reach_px: float) -> np.ndarray:
    """Return the pixels of one path inside a region."""
    depth = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
    pixels = np.flatnonzero(inside)
    weight = depth.ravel()[pixels] ** 2
    start = int(rng.choice(len(pixels), p=weight / weight.sum()))
    y, x = np.divmod(pixels, inside.shape[1])
    near = np.hypot(y - y[start], x - x[start]) <= reach_px
    weight = np.where(near, weight, 0.0)
    end = int(rng.choice(len(pixels), p=weight / weight.sum()))

    number = np.full(inside.shape, -1)
    number.ravel()[pixels] = np.arange(len(pixels))
    cost = 1 + (BORDER_COST / depth.ravel()[pixels]) ** 2
    tails, heads = [], []
    for a, b in ((number[:, :-1], number[:, 1:]), (number[:-1], number[1:])):
        joined = (a >= 0) & (b >= 0)
        tails.append(a[joined])
        heads.append(b[joined])
    tail, head = np.concatenate(tails), np.concatenate(heads)
    graph = coo_array((cost[tail] + cost[head], (tail, head)), shape=(len(pixels),) * 2).tocsr()
    _, before = dijkstra(graph, directed=False, indices=start, return_predecessors=True)

    path = np.zeros(inside.shape, dtype=bool)
    at = end
    while at >= 0:
        path.ravel()[pixels[at]] = True
        at = int(before[at])
    return path
