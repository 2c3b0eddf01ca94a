"""The definition of the spanning tree and of the filter along it: one edge, one pixel, one path at a time."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def edges_of(height: int, width: int) -> list[tuple[int, int, int]]:
    """Return (place in the flat edge map, pixel, pixel) in the order that breaks ties: horizontal edges, then vertical ones."""
    size = height * width
    right = [(p, p, p + 1) for p in range(size) if (p + 1) % width]
    return right + [(size + p, p, p + width) for p in range(size - width)]


def build_reference(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return parents and an order of (B, 2, H, W) edge weights: Kruskal, then breadth first from pixel 0; NaN is cut."""
    height, width = weights.shape[2:]
    edges, size = edges_of(height, width), height * width
    parents, orders = [], []
    for image in weights.flatten(1).tolist():
        near: list[list[tuple[int, bool]]] = [[] for _ in range(size)]
        group = list(range(size))  # the name of each pixel's part of the forest
        keys = [(1, 0.0) if math.isnan(weight) else (0, weight) for weight in image]
        for edge, u, v in sorted(edges, key=lambda e: keys[e[0]]):
            if group[u] != group[v]:
                old, new = group[v], group[u]
                group = [new if name == old else name for name in group]
                near[u].append((v, math.isnan(image[edge])))
                near[v].append((u, math.isnan(image[edge])))
        parent, order = [-1] * size, [0]
        parent[0] = 0
        for pixel in order:
            for other, cut in near[pixel]:
                if parent[other] < 0:
                    parent[other] = other if cut else pixel
                    order.append(other)
        parents.append(parent)
        orders.append(order)
    like = torch.empty(0, dtype=torch.int32, device=weights.device)
    return like.new_tensor(parents).view(-1, size), like.new_tensor(orders).view(-1, size)


def filter_reference(values: Tensor, affinity: Tensor, parent: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
    """Return Σ_j K_ij y_j / Σ_j K_ij and Σ_j K_ij in float64, K_ij the product over the path; autograd, O(P²) memory."""
    num_images, _, height, width = values.shape
    size = height * width
    kernels = []
    for b in range(num_images):
        flat, above = affinity[b].double().flatten(), parent[b].tolist()
        rows: dict[int, Tensor] = {}  # K_i. over the pixels seen so far, zeros beyond
        unit = torch.eye(size, dtype=torch.float64, device=values.device)
        for v in order[b].tolist():
            p = above[v]
            if p == v:
                rows[v] = unit[v]
                continue
            a = flat[min(p, v) + size * (abs(p - v) == width)]
            mine = unit[v] + a * rows[p]
            rows = {other: row + a * row[p] * unit[v] for other, row in rows.items()} | {v: mine}
        kernels.append(torch.stack([rows[v] for v in range(size)]))
    kernel = torch.stack(kernels)
    norm = kernel.sum(-1)
    filtered = torch.einsum("bij,bcj->bci", kernel, values.double().flatten(2)) / norm[:, None]
    return filtered.view(values.shape), norm.view(num_images, height, width)
