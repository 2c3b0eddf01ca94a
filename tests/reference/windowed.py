"""The windowed Gaussian energy as plain loops over Python floats, written from the equation alone."""

from __future__ import annotations

import math

from torch import Tensor


def energy(probs: Tensor, guide: Tensor, valid: Tensor, radius: int, dilation: int, sigma_px: float, relaxation: str) -> float:
    """Return Σ_i Σ_{j ∈ win(i)} m_i m_j exp(−½‖g_i−g_j‖² − ½‖x_i−x_j‖²/σ²) d(p_i, p_j), summed over the images.

    d(p, q) = 1 − p·q for ``bilinear``, ½‖p − q‖² for ``quadratic``.
    """
    num_images, _, height, width = probs.shape
    p, g, m = probs.tolist(), guide.tolist(), valid.tolist()
    num_classes, num_guides = probs.shape[1], guide.shape[1]
    total = 0.0
    for b in range(num_images):
        for y in range(height):
            for x in range(width):
                for step_y in range(-radius, radius + 1):
                    for step_x in range(-radius, radius + 1):
                        v, u = y + step_y * dilation, x + step_x * dilation
                        if (v, u) == (y, x) or not (0 <= v < height and 0 <= u < width):
                            continue
                        if not (m[b][y][x] and m[b][v][u]):
                            continue
                        colour = sum((g[b][k][y][x] - g[b][k][v][u]) ** 2 for k in range(num_guides))
                        place = ((v - y) ** 2 + (u - x) ** 2) / sigma_px**2
                        here, there = ([p[b][c][j][i] for c in range(num_classes)] for j, i in ((y, x), (v, u)))
                        if relaxation == "bilinear":
                            differ = 1 - sum(a * c for a, c in zip(here, there, strict=True))
                        else:
                            differ = sum((a - c) ** 2 for a, c in zip(here, there, strict=True)) / 2
                        total += math.exp(-0.5 * colour - 0.5 * place) * differ
    return total
