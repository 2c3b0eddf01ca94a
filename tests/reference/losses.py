"""The losses as plain loops over Python floats, written from their equations alone.

Tensors come in, nested lists are looped over. For maps of at most 64 pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import Tensor

from tests.reference import windowed

UNLABELLED = 255


def softmax(scores: Sequence[float]) -> list[float]:
    """Return probabilities."""
    top = max(scores)
    powers = [math.exp(s - top) for s in scores]
    return [p / sum(powers) for p in powers]


def bilinear(plane: list[list[float]], height: int, width: int) -> list[list[float]]:
    """Resize with pixel centres at half integers; beyond the outer centres the border is repeated."""
    h, w = len(plane), len(plane[0])

    def ends(n: int, small: int, large: int) -> tuple[int, int, float]:
        place = max(0.0, (n + 0.5) * small / large - 0.5)
        low = min(int(place), small - 1)
        return low, min(low + 1, small - 1), place - low

    result = []
    for y in range(height):
        y0, y1, fy = ends(y, h, height)
        row = []
        for x in range(width):
            x0, x1, fx = ends(x, w, width)
            top = plane[y0][x0] * (1 - fx) + plane[y0][x1] * fx
            bottom = plane[y1][x0] * (1 - fx) + plane[y1][x1] * fx
            row.append(top * (1 - fy) + bottom * fy)
        result.append(row)
    return result


def partial_cross_entropy(logits: Tensor, labels: Tensor) -> tuple[float, int]:
    """Return −Σ log softmax(logits_i)[label_i] over the labelled pixels, and their number."""
    num_images, height, width = labels.shape
    total, count = 0.0, 0
    for b in range(num_images):
        planes = [bilinear(plane, height, width) for plane in logits[b].tolist()]
        for y in range(height):
            for x in range(width):
                label = int(labels[b, y, x])
                if label != UNLABELLED:
                    total -= math.log(softmax([plane[y][x] for plane in planes])[label])
                    count += 1
    return total, count


def cells(plane: list[list[float]], h: int, w: int, of: Callable[[list[float]], float]) -> list[list[float]]:
    """Return ``of`` the pixels of every cell; cell n of h reaches from ⌊nH/h⌋ to ⌈(n+1)H/h⌉."""
    height, width = len(plane), len(plane[0])

    def reach(n: int, small: int, large: int) -> range:
        return range(n * large // small, -(-(n + 1) * large // small))

    return [[of([plane[y][x] for y in reach(i, h, height) for x in reach(j, w, width)]) for j in range(w)] for i in range(h)]


def cell_mean(values: list[float]) -> float:
    """Return the mean of a cell."""
    return sum(values) / len(values)


def cell_label(values: list[float]) -> float:
    """Return the only class drawn in a cell, or 255."""
    drawn = {v for v in values if v != UNLABELLED}
    return drawn.pop() if len(drawn) == 1 else UNLABELLED


def cell_valid(values: list[float]) -> float:
    """Say whether all of a cell is valid."""
    return float(all(values))


def window_mass(kernel: dict[str, float | None]) -> float:
    """Return Σ_j exp(−½‖x_i−x_j‖²/σ²) over a window, its middle left out."""
    total = 0.0
    for step_y in range(-int(kernel["radius"]), int(kernel["radius"]) + 1):
        for step_x in range(-int(kernel["radius"]), int(kernel["radius"]) + 1):
            if (step_y, step_x) != (0, 0):
                total += math.exp(-0.5 * (math.hypot(step_y, step_x) * kernel["dilation"] / kernel["sigma_px"]) ** 2)
    return total


def dynamic_feature(
    logits: Tensor,
    rgb: Tensor,
    features: Tensor,
    valid: Tensor,
    kernels: Sequence[dict[str, float | None]],
    relaxation: str = "bilinear",
) -> tuple[float, int]:
    """Return Σ_m w_m/M_m Σ_i Σ_j k_ij d(p_i, p_j) over valid pixels of the logits' grid, and their number.

    Args:
        kernels: each with weight, radius, dilation, sigma_px, sigma_rgb and sigma_feature; None leaves a part out.
    """
    num_images, _, h, w = logits.shape
    probs = logits.new_zeros(logits.shape).double()
    colours = rgb.new_zeros(num_images, 3, h, w).double()
    inside = valid.new_zeros(num_images, h, w)
    for b in range(num_images):
        for k in range(3):
            colours[b, k] = colours.new_tensor(cells(rgb[b, k].tolist(), h, w, cell_mean))
        inside[b] = inside.new_tensor(cells(valid[b].tolist(), h, w, cell_valid))
        for y in range(h):
            for x in range(w):
                probs[b, :, y, x] = probs.new_tensor(softmax(logits[b, :, y, x].tolist()))
    total = 0.0
    for kernel in kernels:
        parts = []
        if kernel["sigma_rgb"] is not None:
            parts += [colours[:, k] / kernel["sigma_rgb"] for k in range(3)]
        if kernel["sigma_feature"] is not None:
            parts += [features[:, k].double() / kernel["sigma_feature"] for k in range(features.shape[1])]
        guide = probs.new_zeros(num_images, len(parts), h, w)
        for k, part in enumerate(parts):
            guide[:, k] = part
        numbers = int(kernel["radius"]), int(kernel["dilation"]), kernel["sigma_px"], relaxation
        energy = windowed.energy(probs, guide, inside, *numbers)
        total += kernel["weight"] / window_mass(kernel) * energy
    return total, int(inside.sum())


def pair_logistic(features: Tensor, labels: Tensor, scale: float, margin: float) -> list[float]:
    """Return each image's ½·mean over equal pairs + ½·mean over unequal pairs; with pairs of one kind, their mean."""
    result = []
    for z, label in zip(features.tolist(), labels.tolist(), strict=True):
        together, apart = [], []
        for i in range(len(z)):
            for j in range(len(z)):
                if i == j:
                    continue
                cosine = sum(a * b for a, b in zip(z[i], z[j], strict=True))
                if label[i] == label[j]:
                    together.append(math.log1p(math.exp(-scale * (cosine - margin))))
                else:
                    apart.append(math.log1p(math.exp(scale * (cosine - margin))))
        means = [sum(kind) / len(kind) for kind in (together, apart) if kind]
        result.append(sum(means) / len(means) if means else 0.0)
    return result
