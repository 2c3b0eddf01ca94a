"""The windowed Gaussian energy as plain loops over Python floats, written from the equation alone."""

from __future__ import annotations

import math

from torch import Tensor


def differ(p: list[float], q: list[float], relaxation: str) -> float:
    """Return φ(p, q); nothing under a logarithm is below 1e-6."""
    dot = sum(a * b for a, b in zip(p, q, strict=True))
    half_gap = sum((a - b) ** 2 for a, b in zip(p, q, strict=True)) / 2
    if relaxation == "bilinear":
        return 1 - dot
    if relaxation == "quadratic":
        return half_gap
    if relaxation == "log_quadratic":
        return -math.log(max(1 - half_gap, 1e-6))
    lengths = [max(sum(a * a for a in side), 1e-6) for side in (p, q)]
    return 0.5 * math.log(lengths[0] * lengths[1]) - math.log(max(dot, 1e-6))


def energy(
    probs: Tensor,
    guide: Tensor,
    valid: Tensor,
    radius: int,
    dilation: int,
    sigma_px: float,
    relaxation: str,
    destination: Tensor | None = None,
) -> float:
    """Return Σ_i Σ_{j ∈ win(i)} a_i b_j exp(−½‖g_i−g_j‖² − ½‖x_i−x_j‖²/σ²) φ(p_i, p_j), summed over the images.

    a is ``valid``, and so is b unless ``destination`` is given.
    """
    num_images, _, height, width = probs.shape
    p, g, m = probs.tolist(), guide.tolist(), valid.double().tolist()
    n = m if destination is None else destination.double().tolist()
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
                        weight = m[b][y][x] * n[b][v][u]
                        if not weight:
                            continue
                        colour = sum((g[b][k][y][x] - g[b][k][v][u]) ** 2 for k in range(num_guides))
                        place = ((v - y) ** 2 + (u - x) ** 2) / sigma_px**2
                        here, there = ([p[b][c][j][i] for c in range(num_classes)] for j, i in ((y, x), (v, u)))
                        total += weight * math.exp(-0.5 * colour - 0.5 * place) * differ(here, there, relaxation)
    return total
