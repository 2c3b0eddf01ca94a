"""The Gated CRF as plain loops over Python floats, written from the equation alone."""

from __future__ import annotations

import math

from torch import Tensor

from tests.reference.losses import UNLABELLED, cell_label, cell_mean, cell_valid, cells, softmax


def gate(pixels: str, known: list[list[float]], inside: list[list[float]]) -> list[list[bool]]:
    """Say of each pixel whether it is valid and, if asked, labelled or unlabelled."""
    fits = {"valid": lambda k: True, "labelled": lambda k: k != UNLABELLED, "unlabelled": lambda k: k == UNLABELLED}[pixels]
    return [[bool(v) and fits(k) for v, k in zip(*rows, strict=True)] for rows in zip(inside, known, strict=True)]


def terms(
    logits: Tensor,
    rgb: Tensor,
    valid: Tensor,
    labels: Tensor,
    features: Tensor,
    radius: int,
    dilation: int,
    sigma_px: float,
    sigma_rgb: float | None,
    sigma_feature: float | None,
    source: str,
    destination: str,
) -> tuple[float, int]:
    """Return Σ_{i sends} Σ_{j receives, in win(i)} k_ij (1 − p_i·p_j), and the number of receiving pixels."""
    num_images, _, h, w = logits.shape
    total, count = 0.0, 0
    for b in range(num_images):
        inside = cells(valid[b].tolist(), h, w, cell_valid)
        known = cells(labels[b].tolist(), h, w, cell_label)
        sends, receives = gate(source, known, inside), gate(destination, known, inside)
        colours = [cells(rgb[b, k].tolist(), h, w, cell_mean) for k in range(3)]
        z = features[b].tolist()
        p = [[softmax(logits[b, :, y, x].tolist()) for x in range(w)] for y in range(h)]
        count += sum(r for row in receives for r in row)
        reach = [n * dilation for n in range(-radius, radius + 1)]
        for y in range(h):
            for x in range(w):
                for v, u in ((y + down, x + right) for down in reach for right in reach if (down, right) != (0, 0)):
                    if not (0 <= v < h and 0 <= u < w and sends[y][x] and receives[v][u]):
                        continue
                    power = ((v - y) ** 2 + (u - x) ** 2) / sigma_px**2
                    if sigma_rgb is not None:
                        power += sum((c[y][x] - c[v][u]) ** 2 for c in colours) / sigma_rgb**2
                    if sigma_feature is not None:
                        power += sum((f[y][x] - f[v][u]) ** 2 for f in z) / sigma_feature**2
                    agree = sum(s * t for s, t in zip(p[y][x], p[v][u], strict=True))
                    total += math.exp(-power / 2) * (1 - agree)
    return total, count
