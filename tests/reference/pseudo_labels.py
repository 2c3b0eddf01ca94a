"""The losses on pseudo labels and the random walker as plain loops over Python floats, written from their equations alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import Tensor

from tests.reference.losses import UNLABELLED, cell_label, cell_valid, cells, softmax
from tests.reference.mean_field import window_mean_field


def prediction(logits: Tensor, b: int, y: int, x: int) -> list[float]:
    """Return the probabilities of one cell."""
    return softmax(logits[b, :, y, x].tolist())


def valid_cells(valid: Tensor, h: int, w: int) -> list[list[tuple[int, int]]]:
    """Return, an image, the cells of the grid that are valid as a whole."""
    planes = [cells(plane, h, w, cell_valid) for plane in valid.tolist()]
    return [[(y, x) for y in range(h) for x in range(w) if plane[y][x]] for plane in planes]


def teacher_consistency(logits: Tensor, teacher: Tensor, valid: Tensor, max_entropy: float) -> tuple[float, int]:
    """Return Σ_i g_i ‖p_i − q_i‖²/C over valid cells, and their number."""
    num_classes, h, w = logits.shape[1:]
    total, count = 0.0, 0
    for b, places in enumerate(valid_cells(valid, h, w)):
        for y, x in places:
            p, q = prediction(logits, b, y, x), prediction(teacher, b, y, x)
            count += 1
            if -sum(v * math.log(v) for v in q) <= max_entropy * math.log(num_classes) + 1e-12:
                total += sum((u - v) ** 2 for u, v in zip(p, q, strict=True)) / num_classes
    return total, count


def pseudo_label(
    logits: Tensor,
    labels: Tensor,
    drawn: Tensor,
    teacher: Tensor,
    valid: Tensor,
    confidence: float,
    among: str,
    margin: float = 0.0,
    rgb: Tensor | None = None,
    window: dict[str, float] | None = None,
) -> tuple[float, int]:
    """Return Σ_i −ln p_i(y_i) over unlabelled valid cells whose label y_i is sure enough, and the number of all of them.

    Near a stroke of another class no label counts. With a window, the scores are as fine as the image and labels come from a
    mean field that knows the strokes.
    """
    num_classes, h, w = logits.shape[1:]
    total, count = 0.0, 0
    for b, places in enumerate(valid_cells(valid, h, w)):
        known = cells(labels[b].tolist(), h, w, cell_label)
        classes = [c for c in range(num_classes) if among == "all" or drawn[b, c]] or list(range(num_classes))
        q = np.zeros((num_classes, h, w))
        for y in range(h):
            for x in range(w):
                q[classes, y, x] = softmax([teacher[b, c, y, x].item() for c in classes])
                if window is not None and known[y][x] != UNLABELLED:
                    q[:, y, x] = np.arange(num_classes) == known[y][x]
        if window is not None and rgb is not None:
            numbers: dict[str, Any] = {key: window[key] for key in ("weight", "radius", "sigma_rgb", "num_steps")}
            step = max(1, round(max(h, w) / window["steps_across"]))
            q = window_mean_field(q, rgb[b].numpy(), valid[b].numpy(), step=step, **numbers)
        asked = [(y, x) for y, x in places if known[y][x] == UNLABELLED]
        reach = round(margin * max(h, w))
        taken = []
        for y, x in asked:
            around = [row[max(0, x - reach) : x + reach + 1] for row in known[max(0, y - reach) : y + reach + 1]]
            others = {c for row in around for c in row} - {UNLABELLED, int(q[:, y, x].argmax())}
            if q[:, y, x].max() >= confidence and not others:
                taken.append((y, x))
        total -= sum(math.log(prediction(logits, b, y, x)[int(q[:, y, x].argmax())]) for y, x in taken)
        count += len(asked)
    return total, count


def dynamic_mixing(logits: Tensor, branch: Tensor, valid: Tensor, beta: float, soft: bool) -> tuple[float, int]:
    """Return the sum and count of the hard form (images) or of the soft one (cells)."""
    h, w = logits.shape[-2:]
    total, count = 0.0, 0
    for b, places in enumerate(valid_cells(valid, h, w)):
        pairs = [(prediction(logits, b, y, x), prediction(branch, b, y, x)) for y, x in places]
        mixtures = [[beta * u + (1 - beta) * v for u, v in zip(p, q, strict=True)] for p, q in pairs]
        if soft:
            count += len(places)
            for (p, q), mixture in zip(pairs, mixtures, strict=True):
                total -= 0.5 * sum(m * (math.log(u) + math.log(v)) for m, u, v in zip(mixture, p, q, strict=True))
        elif places:
            count += 1
            winners = [mixture.index(max(mixture)) for mixture in mixtures]
            for side in (0, 1):
                ratios = []
                for c in sorted(set(winners)):
                    probs = [pair[side][c] for pair in pairs]
                    hits = [float(winner == c) for winner in winners]
                    overlap = sum(p * y for p, y in zip(probs, hits, strict=True))
                    ratios.append(2 * overlap / (sum(p * p for p in probs) + sum(hits)))
                total += 0.5 * (1 - sum(ratios) / len(ratios))
    return total, count


def random_walker(channels: np.ndarray, scribbles: np.ndarray, beta: float, num_classes: int) -> np.ndarray:
    """Return (C, H, W): the chance that a walker from a pixel meets strokes of each class first; −1 for classes not drawn.

    Args:
        channels: (H, W, K).
    """
    height, width, num_channels = channels.shape
    number = height * width
    spread = math.sqrt(float(((channels - channels.mean()) ** 2).mean()))
    weights = np.zeros((number, number))
    for y in range(height):
        for x in range(width):
            for other_y, other_x in ((y + 1, x), (y, x + 1)):
                if other_y < height and other_x < width:
                    square = sum(
                        (float(a) - float(b)) ** 2 for a, b in zip(channels[y, x], channels[other_y, other_x], strict=True)
                    )
                    exponent = beta * square / (10 * spread * math.sqrt(num_channels)) if spread else 0.0
                    i, j = y * width + x, other_y * width + other_x
                    weights[i, j] = weights[j, i] = math.exp(-exponent) + 1e-10
    laplacian = np.diag(weights.sum(0)) - weights
    drawn = scribbles.ravel() != UNLABELLED
    result = np.full((num_classes, number), -1.0)
    for c in range(num_classes):
        marks = (scribbles.ravel() == c).astype(float)
        if marks.any():
            result[c] = marks
            right = -laplacian[np.ix_(~drawn, drawn)] @ marks[drawn]
            result[c, ~drawn] = np.linalg.solve(laplacian[np.ix_(~drawn, ~drawn)], right)
    return result.reshape(num_classes, height, width)
