"""The mean entropy as plain loops over Python floats, written from the equation alone."""

from __future__ import annotations

import math

from torch import Tensor

from tests.reference.losses import UNLABELLED, cell_label, cell_valid, cells, softmax


def terms(logits: Tensor, labels: Tensor, valid: Tensor, pixels: str) -> tuple[float, int]:
    """Return Σ H(p_i) / ln C over the valid (and unlabelled) pixels of the logits' grid, and their number."""
    num_images, num_classes, h, w = logits.shape
    total, count = 0.0, 0
    for b in range(num_images):
        inside = cells(valid[b].tolist(), h, w, cell_valid)
        known = cells(labels[b].tolist(), h, w, cell_label)
        for y in range(h):
            for x in range(w):
                if not inside[y][x] or (pixels == "unlabelled" and known[y][x] != UNLABELLED):
                    continue
                count += 1
                if num_classes > 1:
                    p = softmax(logits[b, :, y, x].tolist())
                    total -= sum(q * math.log(q) for q in p if q > 0) / math.log(num_classes)
    return total, count
