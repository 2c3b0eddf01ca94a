"""The fully connected Gaussian kernel as plain loops over Python floats, written from the equations alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def kernel(guide: Tensor) -> list[list[float]]:
    """Return exp(−½‖g_i − g_j‖²) of one image's guide (G, H, W), pixels in reading order."""
    points = guide.flatten(1).T.tolist()
    return [[math.exp(-0.5 * sum((a - b) ** 2 for a, b in zip(p, q, strict=True))) for q in points] for p in points]


def filtered(values: Tensor, guide: Tensor) -> list[list[list[float]]]:
    """Return Σ_j k_ij v_j of every channel of every image."""
    result = []
    for v, g in zip(values.flatten(2).tolist(), guide, strict=True):
        k = kernel(g)
        result.append([[sum(k_ij * v_j for k_ij, v_j in zip(row, channel, strict=True)) for row in k] for channel in v])
    return result


def forms(probs: Tensor, guide: Tensor, valid: Tensor) -> list[tuple[list[float], list[float], float]]:
    """Return for every image Σ_ij k_ij s_i s_j and Σ_ij k_ij s_i m_j of every class, s = m·p, and Σ_ij k_ij m_i m_j."""
    result = []
    for p, g, m in zip(probs.flatten(2).tolist(), guide, valid.flatten(1).tolist(), strict=True):
        k = kernel(g)
        inside = [i for i, is_valid in enumerate(m) if is_valid]
        association = [sum(k[i][j] * c[i] * c[j] for i in inside for j in inside) for c in p]
        volume = [sum(k[i][j] * c[i] for i in inside for j in inside) for c in p]
        result.append((association, volume, sum(k[i][j] for i in inside for j in inside)))
    return result


def energy(probs: Tensor, guide: Tensor, valid: Tensor) -> float:
    """Return Σ_ij m_i m_j k_ij (1 − p_i·p_j), summed over the images."""
    total = 0.0
    for p, g, m in zip(probs.flatten(2).transpose(1, 2).tolist(), guide, valid.flatten(1).tolist(), strict=True):
        k = kernel(g)
        for i in range(len(p)):
            for j in range(len(p)):
                if m[i] and m[j]:
                    total += k[i][j] * (1 - sum(a * b for a, b in zip(p[i], p[j], strict=True)))
    return total


def guide_gradient(probs: Tensor, guide: Tensor, valid: Tensor) -> list[list[list[float]]]:
    """Return −Σ_j 2 m_i m_j k_ij (1 − p_i·p_j)(g_i − g_j), the gradient of the energy by every g_i, (B, P, G)."""
    result = []
    for p, g, m in zip(probs.flatten(2).transpose(1, 2).tolist(), guide, valid.flatten(1).tolist(), strict=True):
        k, points = kernel(g), g.flatten(1).T.tolist()
        image = []
        for i in range(len(p)):
            row = [0.0] * len(points[i])
            for j in range(len(p)):
                if m[i] and m[j]:
                    differ = 1 - sum(a * b for a, b in zip(p[i], p[j], strict=True))
                    for d in range(len(row)):
                        row[d] -= 2 * k[i][j] * differ * (points[i][d] - points[j][d])
            image.append(row)
        result.append(image)
    return result


def positions(height: int, width: int, full_height: int, full_width: int) -> list[tuple[float, float]]:
    """Return the centres (x, y) of a grid's cells in pixels of the full image, in reading order."""
    across, down = full_width / width, full_height / height
    return [((x + 0.5) * across, (y + 0.5) * down) for y in range(height) for x in range(width)]


def guide_of(
    rgb: Tensor, features: Tensor | None, full: tuple[int, int], sigmas: tuple[float, float | None, float | None]
) -> Tensor:
    """Return (B, G, h, w): places in the full image, colours and features, each over its sigma (px, rgb, feature)."""
    num_images, _, height, width = rgb.shape
    places = torch.tensor(positions(height, width, *full), dtype=torch.float64).T.reshape(2, height, width) / sigmas[0]
    parts = [places.expand(num_images, -1, -1, -1)]
    if sigmas[1] is not None:
        parts.append(rgb.double() / sigmas[1])
    if sigmas[2] is not None and features is not None:
        parts.append(features.double() / sigmas[2])
    return torch.cat(parts, 1)


def dense_crf(probs: Tensor, guide: Tensor, valid: Tensor) -> tuple[float, int]:
    """Return Σ_b |V_b| · (energy of image b / its kernel's mass), and the number of valid pixels."""
    total = 0.0
    for b, (association, _, mass) in enumerate(forms(probs, guide, valid)):
        if mass > 0:
            total += int(valid[b].sum()) * (mass - sum(association)) / mass
    return total, int(valid.sum())


def normalized_cut(probs: Tensor, guide: Tensor, valid: Tensor, smallest: float) -> tuple[float, int]:
    """Return Σ_b Σ_k s_kᵀA(m − s_k) / (dᵀs_k + ε dᵀm), and the number of images with a valid pixel."""
    total, images = 0.0, 0
    for b, (association, volume, mass) in enumerate(forms(probs, guide, valid)):
        images += bool(valid[b].any())
        for together, all_ties in zip(association, volume, strict=True):
            if all_ties + smallest * mass > 0:
                total += (all_ties - together) / (all_ties + smallest * mass)
    return total, images
