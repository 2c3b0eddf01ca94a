"""Potts relaxations and soft self-labels as plain loops over Python floats, written from the equations alone.

Pixels of one image are numbered, and the pairs of a window listed once each. Nothing under a logarithm is below 1e-6.
"""

from __future__ import annotations

import math

from torch import Tensor

from tests.reference.losses import UNLABELLED, cell_label, cell_mean, cell_valid, cells, softmax

Vector = list[float]
SMALLEST = 1e-6


def dot(p: Vector, q: Vector) -> float:
    """Return p·q."""
    return sum(a * b for a, b in zip(p, q, strict=True))


def differ(p: Vector, q: Vector, relaxation: str) -> float:
    """Return P(p, q)."""
    half_gap = sum((a - b) ** 2 for a, b in zip(p, q, strict=True)) / 2
    if relaxation == "bilinear":
        return 1 - dot(p, q)
    if relaxation == "quadratic":
        return half_gap
    if relaxation == "log_quadratic":
        return -math.log(max(1 - half_gap, SMALLEST))
    return -math.log(max(dot(p, q), SMALLEST) / math.sqrt(dot(p, p) * dot(q, q)))


def slope(p: Vector, q: Vector, relaxation: str) -> Vector:
    """Return ∂P(p, q)/∂p."""
    if relaxation == "bilinear":
        return [-b for b in q]
    if relaxation == "collision":
        reach = 1 / dot(p, q) if dot(p, q) > SMALLEST else 0.0
        return [a / dot(p, p) - b * reach for a, b in zip(p, q, strict=True)]
    gap = [a - b for a, b in zip(p, q, strict=True)]
    if relaxation == "quadratic":
        return gap
    left = 1 - dot(gap, gap) / 2
    return [g / left if left > SMALLEST else 0.0 for g in gap]


class Picture:
    """One image on the grid of the logits: its pixels, and its pairs of valid pixels (i, j, squared length)."""

    def __init__(self, logits: Tensor, rgb: Tensor, valid: Tensor, labels: Tensor, radius: int) -> None:
        h, w = logits.shape[-2:]
        inside, known = cells(valid.tolist(), h, w, cell_valid), cells(labels.tolist(), h, w, cell_label)
        colours = [cells(plane.tolist(), h, w, cell_mean) for plane in rgb]
        places = [(y, x) for y in range(h) for x in range(w)]
        self.scores: list[Vector] = [logits[:, y, x].tolist() for y, x in places]
        self.colours = [[c[y][x] for c in colours] for y, x in places]
        self.valid = [bool(inside[y][x]) for y, x in places]
        self.known = [int(known[y][x]) for y, x in places]
        self.pairs = [
            (i, j, (y - v) ** 2 + (x - u) ** 2)
            for i, (y, x) in enumerate(places)
            for j, (v, u) in enumerate(places)
            if i < j and max(abs(y - v), abs(x - u)) <= radius and self.valid[i] and self.valid[j]
        ]

    def gap(self, i: int, j: int) -> float:
        """Return ‖I_i − I_j‖²."""
        return sum((a - b) ** 2 for a, b in zip(self.colours[i], self.colours[j], strict=True))

    def weights(self, sigma_px: float, sigma_rgb: float | str) -> list[float]:
        """Return w_ij of every pair."""
        square = float(sigma_rgb) ** 2 if sigma_rgb != "image" else 0.0
        if sigma_rgb == "image" and self.pairs:
            square = sum(self.gap(i, j) for i, j, _ in self.pairs) / len(self.pairs)
        return [
            math.exp(-0.5 * self.gap(i, j) / (square or 1.0) - 0.5 * (length - 1) / sigma_px**2) for i, j, length in self.pairs
        ]


def mass(radius: int, sigma_px: float) -> float:
    """Return Σ_j w_ij in one colour."""
    steps = range(-radius, radius + 1)
    return sum(math.exp(-0.5 * (y * y + x * x - 1) / sigma_px**2) for y in steps for x in steps if y or x)


def labels_of(picture: Picture, weights: list[float], numbers: dict[str, object]) -> list[Vector]:
    """Return y after the descent on u, y = softmax(u), from u = ln σ."""
    eta, lam, relaxation = float(numbers["unary_weight"]), float(numbers["pair_weight"]), str(numbers["relaxation"])
    step = float(numbers["step"]) / (eta + lam * mass(int(numbers["radius"]), float(numbers["sigma_px"])))
    sigma = [softmax(s) for s in picture.scores]
    u = [[max(math.log(q), math.log(1e-5)) for q in s] for s in sigma]

    def read() -> list[Vector]:
        one_hot = [[float(c == k) for c in range(len(s))] for s, k in zip(sigma, picture.known, strict=True)]
        return [t if k != UNLABELLED else softmax(v) for t, k, v in zip(one_hot, picture.known, u, strict=True)]

    for _ in range(int(numbers["num_steps"])):
        y = read()
        by_y = [[0.0] * len(s) for s in sigma]
        for i in range(len(sigma)):
            if picture.valid[i] and picture.known[i] == UNLABELLED:
                by_y[i] = [-eta * a / dot(y[i], sigma[i]) for a in sigma[i]]
        for (i, j, _), weight in zip(picture.pairs, weights, strict=True):
            for a, b in ((i, j), (j, i)):
                for c, value in enumerate(slope(y[a], y[b], relaxation)):
                    by_y[a][c] += lam * weight * value
        for i in range(len(sigma)):
            if picture.known[i] == UNLABELLED:  # through the softmax
                mean = dot(y[i], by_y[i])
                u[i] = [v - step * p * (g - mean) for v, p, g in zip(u[i], y[i], by_y[i], strict=True)]
    return read()


def terms(logits: Tensor, rgb: Tensor, valid: Tensor, labels: Tensor, **numbers: object) -> tuple[float, int]:
    """Return Σ_U −ln y_i·σ_i and |U|; without self-labels Σ_i Σ_j w_ij P(σ_i, σ_j) / M and |V|."""
    radius, sigma_px = int(numbers["radius"]), float(numbers["sigma_px"])
    total, count = 0.0, 0
    for b in range(len(logits)):
        picture = Picture(logits[b], rgb[b], valid[b], labels[b], radius)
        weights = picture.weights(sigma_px, numbers["sigma_rgb"])
        sigma = [softmax(s) for s in picture.scores]
        if numbers["self_labels"]:
            y = labels_of(picture, weights, numbers)
            free = [i for i in range(len(sigma)) if picture.valid[i] and picture.known[i] == UNLABELLED]
            total -= sum(math.log(dot(y[i], sigma[i])) for i in free)
            count += len(free)
        else:
            pairs = zip(picture.pairs, weights, strict=True)
            energy = sum(w * differ(sigma[i], sigma[j], str(numbers["relaxation"])) for (i, j, _), w in pairs)
            total += 2 * energy / mass(radius, sigma_px)
            count += sum(picture.valid)
    return total, count
