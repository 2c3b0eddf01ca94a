"""A bow from one end of the region to another."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from scribbleseg.data.simulate.region import Region, centre_of, length_px, resampled

#: Bows tried before the region is eroded further.
TRIES = 20

#: Share of a bow's length that is kept, around its middle.
KEPT = 0.9


def curve(region: Region, rng: np.random.Generator, width_px: float) -> list[np.ndarray]:
    """Draw a bow through five points: two far apart in the eroded region, its middle, and two in between.

    Reference: Scribbles4All (NeurIPS Datasets and Benchmarks 2024), ``create_scribble.py``: erosion by 2 to 20 px with the area
    (here from the region's own area), an approximate diameter from a random point of the border, the centre of mass with a
    spread of √area / 20, a parabola, two more points on it with the same spread; accepted only if none of it leaves the eroded
    region, else 20 tries, then 2 px more of erosion. There the two points snap to the skeleton.
    """
    margin = float(np.clip(np.sqrt(region.area) / 12, 2, 20))
    while True:
        allowed = region.depth > margin
        if not allowed.any():
            return [centre_of(np.array([region.place(rng)]))]
        numbers, number = ndimage.label(allowed)
        largest = numbers == 1 + int(np.argmax(ndimage.sum_labels(allowed, numbers, range(1, number + 1))))
        every = centre_of(np.argwhere(largest))
        edge = centre_of(np.argwhere(largest & ~ndimage.binary_erosion(largest)))
        for _ in range(TRIES):
            line = bow(every, edge, rng)
            row, column = np.clip(np.floor(line[:, ::-1]).astype(int), 0, np.array(allowed.shape) - 1).T
            if allowed[row, column].all():
                cut = max(1, round(len(line) * (1 - KEPT) / 2))
                return [line[cut:-cut] if len(line) > 2 * cut + 1 else line]
        margin += max(2.0, margin / 4)


def bow(every: np.ndarray, edge: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a smooth line across a blob, given by the centres of all its pixels and of those at its edge."""
    start = edge[int(rng.integers(len(edge)))]
    one = edge[int(np.argmax(((edge - start) ** 2).sum(axis=1)))]
    other = edge[int(np.argmax(((edge - one) ** 2).sum(axis=1)))]
    spread = np.sqrt(len(every)) / 20
    middle = nearest_in(every, every.mean(axis=0) + rng.normal(0, spread, 2))
    bent = [parabola(one, middle, other, share) for share in rng.uniform(0.2, 0.8, 2)]
    near = [nearest_in(every, point + rng.normal(0, spread, 2)) for point in bent]
    knots = np.array([one, *near, middle, other])
    along = knots @ (other - one)
    at = (along - along.min()) / max(float(np.ptp(along)), 1e-9)
    bend, *_ = np.linalg.lstsq(np.vander(at, 3), knots, rcond=None)
    fit = np.vander(np.linspace(0, 1, 100), 3) @ bend
    return resampled(fit, 2.0) if length_px(fit) > 0 else fit[:1]


def parabola(one: np.ndarray, middle: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    """Return the place at a share of the parabola that is at its middle point half way."""
    return one * (2 * share - 1) * (share - 1) + middle * 4 * share * (1 - share) + other * share * (2 * share - 1)


def nearest_in(points: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Return the nearest of some points."""
    return points[int(np.argmin(((points - point) ** 2).sum(axis=1)))]
