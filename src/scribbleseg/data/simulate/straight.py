"""A straight line, rather along the region than across."""

from __future__ import annotations

import numpy as np

from scribbleseg.data.simulate.region import Region, centre_of

#: Directions tried; the longer of the lines they allow are the likelier.
TRIES = 8


def straight(region: Region, rng: np.random.Generator, width_px: float) -> list[np.ndarray]:
    """Draw one straight line: through a place far from the border, 40 to 80 % of the way to it on either side."""
    middle = centre_of(np.array([region.place(rng)]))[0]
    lines = []
    for direction in rng.normal(size=(TRIES, 2)):
        direction /= np.sqrt((direction**2).sum())
        ends = [middle + sign * to_border(region, middle, sign * direction) * direction for sign in (1, -1)]
        lines.append(np.array(ends))
    reach = np.array([((line[0] - line[1]) ** 2).sum() for line in lines])
    line = lines[int(rng.choice(TRIES, p=reach / reach.sum()))] if reach.sum() > 0 else middle[None]
    return [middle + (line - middle) * rng.uniform(0.4, 0.8, (len(line), 1))]


def to_border(region: Region, start: np.ndarray, direction: np.ndarray) -> float:
    """Return how far one can go from a point before leaving the region, px."""
    steps = np.arange(0, sum(region.inside.shape), 0.5)
    x, y = np.floor(start[:, None] + direction[:, None] * steps).astype(int)
    height, width = region.inside.shape
    inside = region.inside[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
    return float(steps[int(np.argmin(inside))])  # the rim is never inside: there is a first step that leaves
