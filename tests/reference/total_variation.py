"""Total variation as plain loops over Python floats, written from the equations alone."""

from __future__ import annotations

import math

from torch import Tensor

from tests.reference.losses import cell_valid, cells, softmax


def variation(plane: list[list[float]], valid: list[list[bool]], form: str) -> float:
    """Return TV of one plane: Σ|q_i − q_j|, Σ sqrt(Δx² + Δy²), or Σ max₃(min₃(q)) − min₃(q)."""
    h, w = len(plane), len(plane[0])

    def gap(y: int, x: int, v: int, u: int) -> float:
        there = 0 <= v < h and 0 <= u < w and valid[y][x] and valid[v][u]
        return plane[v][u] - plane[y][x] if there else 0.0

    def pool(values: list[list[float]], of: type[min]) -> list[list[float]]:
        def around(y: int, x: int) -> list[float]:
            near = [(v, u) for v in (y - 1, y, y + 1) for u in (x - 1, x, x + 1) if 0 <= v < h and 0 <= u < w]
            return [values[v][u] for v, u in near if valid[v][u]]

        return [[of(around(y, x)) if valid[y][x] else 0.0 for x in range(w)] for y in range(h)]

    pixels = [(y, x) for y in range(h) for x in range(w)]
    if form == "anisotropic":
        return sum(abs(gap(y, x, y, x + 1)) + abs(gap(y, x, y + 1, x)) for y, x in pixels)
    if form == "isotropic":
        return sum(
            math.hypot(gap(y, x, y, x + right), gap(y, x, y + down, x)) / 4
            for y, x in pixels
            for right in (-1, 1)
            for down in (-1, 1)
        )
    eroded = pool(plane, min)
    opened = pool(eroded, max)
    return sum(opened[y][x] - eroded[y][x] for y, x in pixels if valid[y][x])


def terms(logits: Tensor, valid: Tensor, form: str) -> tuple[float, int]:
    """Return ½ Σ_k TV(p_k) over the valid pixels of the logits' grid, and their number."""
    num_images, num_classes, h, w = logits.shape
    total, count = 0.0, 0
    for b in range(num_images):
        inside = [[bool(v) for v in row] for row in cells(valid[b].tolist(), h, w, cell_valid)]
        p = [[softmax(logits[b, :, y, x].tolist()) for x in range(w)] for y in range(h)]
        for k in range(num_classes):
            total += variation([[p[y][x][k] for x in range(w)] for y in range(h)], inside, form) / 2
        count += sum(v for row in inside for v in row)
    return total, count
