"""Mumford–Shah as plain loops over Python floats, written from the equation alone."""

from __future__ import annotations

from torch import Tensor

from tests.reference.losses import cell_mean, cell_valid, cells, softmax
from tests.reference.total_variation import variation


def terms(logits: Tensor, rgb: Tensor, valid: Tensor, length_weight: float) -> tuple[float, int]:
    """Return Σ_i Σ_k p_ik ‖I_i − c_k‖² + λ Σ_k TV(p_k) over the valid pixels of the logits' grid, and their number."""
    num_images, num_classes, h, w = logits.shape
    total, count = 0.0, 0
    for b in range(num_images):
        inside = [[bool(v) for v in row] for row in cells(valid[b].tolist(), h, w, cell_valid)]
        colours = [cells(rgb[b, k].tolist(), h, w, cell_mean) for k in range(3)]
        p = [[softmax(logits[b, :, y, x].tolist()) for x in range(w)] for y in range(h)]
        pixels = [(y, x) for y in range(h) for x in range(w) if inside[y][x]]
        count += len(pixels)
        for k in range(num_classes):
            mass = sum(p[y][x][k] for y, x in pixels)
            for colour in colours:
                centre = sum(p[y][x][k] * colour[y][x] for y, x in pixels) / mass if pixels else 0.0
                total += sum(p[y][x][k] * (colour[y][x] - centre) ** 2 for y, x in pixels)
            total += length_weight * variation([[p[y][x][k] for x in range(w)] for y in range(h)], inside, "anisotropic")
    return total, count
