"""The loss of absent classes as plain loops over Python floats, written from the equation alone."""

from __future__ import annotations

import math

from torch import Tensor

from tests.reference.losses import UNLABELLED, cell_label, cell_valid, cells, softmax


def terms(logits: Tensor, labels: Tensor, drawn: Tensor, valid: Tensor) -> tuple[float, int]:
    """Return −Σ log Σ_{c drawn} p_i(c) over the valid unlabelled pixels of images with a stroke, and their number."""
    num_images, num_classes, h, w = logits.shape
    total, count = 0.0, 0
    for b in range(num_images):
        possible = [c for c in range(num_classes) if drawn[b, c]]
        inside = cells(valid[b].tolist(), h, w, cell_valid)
        known = cells(labels[b].tolist(), h, w, cell_label)
        for y in range(h):
            for x in range(w):
                if possible and inside[y][x] and known[y][x] == UNLABELLED:
                    p = softmax(logits[b, :, y, x].tolist())
                    total -= math.log(sum(p[c] for c in possible))
                    count += 1
    return total, count
