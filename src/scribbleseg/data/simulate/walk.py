"""A wandering line that turns back where it comes near the border."""

from __future__ import annotations

import numpy as np

from scribbleseg.data.simulate.region import Region, centre_of, smoothed

#: Length of a step (px), how much the direction changes in one, and how long the line is in √area.
STEP_PX, WOBBLE, LENGTH = 2.0, 0.25, (0.8, 2.0)


def walk(region: Region, rng: np.random.Generator, width_px: float) -> list[np.ndarray]:
    """Draw a line that goes on in a direction which wanders; a step that comes too near the border is turned till it fits."""
    margin = min(width_px / 2 + 1, float(region.depth.max()) * 0.5)
    at = centre_of(np.array([region.place(rng)]))[0]
    direction = rng.normal(size=2)
    line = [at]
    for _ in range(max(2, int(rng.uniform(*LENGTH) * np.sqrt(region.area) / STEP_PX))):
        for tries in range(12):
            new = direction / np.sqrt((direction**2).sum()) + rng.normal(0, WOBBLE * (1 + tries), 2)
            new /= np.sqrt((new**2).sum())
            there = at + STEP_PX * new
            column, row = np.clip(np.floor(there).astype(int), 0, np.array(region.inside.shape[::-1]) - 1)
            if region.depth[row, column] > margin:
                at, direction = there, new
                line.append(at)
                break
        else:
            break
    return [smoothed(np.array(line), 3.0)]
