"""Partial Dice as plain loops over Python floats, written from the equation alone."""

from __future__ import annotations

from torch import Tensor

from tests.reference.losses import UNLABELLED, bilinear, softmax


def terms(
    logits: Tensor, labels: Tensor, squared: bool, smooth: float, include_background: bool, per_image: bool
) -> tuple[float, int]:
    """Return Σ (1 − Dice) over the pairs of a pool and a class drawn in it, and their number."""
    num_images, height, width = labels.shape
    num_classes = logits.shape[1]
    pools: dict[int, list[tuple[list[float], int]]] = {}
    for b in range(num_images):
        planes = [bilinear(plane, height, width) for plane in logits[b].tolist()]
        for y in range(height):
            for x in range(width):
                label = int(labels[b, y, x])
                if label != UNLABELLED:
                    p = softmax([plane[y][x] for plane in planes])
                    pools.setdefault(b if per_image else 0, []).append((p, label))
    total, count = 0.0, 0
    for pixels in pools.values():
        for c in range(0 if include_background else 1, num_classes):
            size = sum(1 for _, label in pixels if label == c)
            if size == 0:
                continue
            both = sum(p[c] for p, label in pixels if label == c)
            mass = sum(p[c] ** 2 if squared else p[c] for p, _ in pixels)
            total += 1 - (2 * both + smooth) / (mass + size + smooth)
            count += 1
    return total, count
