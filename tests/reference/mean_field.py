"""The mean field over a window as plain loops, written from its equation alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def window_mean_field(
    p: Array, rgb: Array, valid: NDArray[np.bool_], weight: float, radius: int, step: int, sigma_rgb: float, num_steps: int
) -> Array:
    """Return the marginals of one image; p is (C, H, W). Pixels that are not valid send nothing and stay out."""
    q, (height, width) = p, p.shape[1:]
    offsets = range(-radius * step, radius * step + 1, step)
    for _ in range(num_steps):
        message = q.copy()
        for y in range(height):
            for x in range(width):
                total, mass = np.zeros(len(p)), 0.0
                for dy in offsets:
                    for dx in offsets:
                        there = (y + dy, x + dx)
                        inside = 0 <= there[0] < height and 0 <= there[1] < width
                        if (dy or dx) and inside and valid[y, x] and valid[there]:
                            unlike = ((rgb[:, y, x] - rgb[:, *there]) ** 2).sum()
                            k = np.exp(-0.5 * (dy**2 + dx**2) / (radius * step) ** 2 - 0.5 * unlike / sigma_rgb**2)
                            total, mass = total + k * q[:, *there], mass + k
                if mass > 1e-12:
                    message[:, y, x] = total / mass
        score = np.log(np.maximum(p, 1e-6)) + weight * message
        q = np.exp(score - score.max(0))
        q = q / q.sum(0)
    return q
