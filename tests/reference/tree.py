"""The tree filter as plain loops over Python floats: Kruskal, then a walk along the tree from every pixel."""

from __future__ import annotations

import math

from torch import Tensor

from tests.reference.losses import UNLABELLED, cell_label, cell_mean, cell_valid, cells, softmax

Edge = tuple[int, int]


def distance(planes: list[list[list[float]]], u: int, v: int, width: int) -> float:
    """Return the squared distance of two pixels' features."""
    return sum((plane[u // width][u % width] - plane[v // width][v % width]) ** 2 for plane in planes)


def spanning_tree(guide: list[list[list[float]]], valid: list[list[bool]]) -> dict[Edge, bool]:
    """Return the edges (u, v), u < v, and whether both ends are valid; planes are guide[channel][y][x].

    Edges with an end that is not valid come last, then the heavier ones; of equal ones horizontal edges come first, in the
    order of their pixels, then vertical ones. A weight that is not a number is the heaviest there is.
    """
    height, width = len(valid), len(valid[0])
    inside = [v for row in valid for v in row]
    across = [(y * width + x, y * width + x + 1) for y in range(height) for x in range(width - 1)]
    down = [(p, p + width) for p in range((height - 1) * width)]

    def key(edge: Edge) -> tuple[bool, float]:
        u, v = edge
        weight = distance(guide, u, v, width)
        return not (inside[u] and inside[v]), math.inf if math.isnan(weight) else weight

    part = list(range(height * width))
    result = {}
    for u, v in sorted(across + down, key=key):
        if part[u] != part[v]:
            old, new = part[v], part[u]
            part = [new if name == old else name for name in part]
            result[u, v] = inside[u] and inside[v]
    return result


def path_products(edges: dict[Edge, bool], guide: list[list[list[float]]], size: int, width: int) -> list[dict[int, float]]:
    """Return for every pixel the product of affinities to every pixel it is connected to."""
    near: list[list[tuple[int, float]]] = [[] for _ in range(size)]
    for (u, v), whole in edges.items():
        if whole:
            affinity = math.exp(-distance(guide, u, v, width))
            near[u].append((v, affinity))
            near[v].append((u, affinity))
    result = []
    for start in range(size):
        seen = {start: 1.0}
        todo = [start]
        while todo:
            here = todo.pop()
            for there, affinity in near[here]:
                if there not in seen:
                    seen[there] = seen[here] * affinity
                    todo.append(there)
        result.append(seen)
    return result


def tree_filter(values: Tensor, guide: Tensor, tree_guide: Tensor, valid: Tensor) -> list[list[list[float]]]:
    """Return ŷ[image][class][pixel] = Σ_j K_ij y_j / Σ_j K_ij."""
    num_images, num_classes, height, width = values.shape
    size = height * width
    result = []
    for b in range(num_images):
        edges = spanning_tree(tree_guide[b].tolist(), valid[b].tolist())
        kernel = path_products(edges, guide[b].tolist(), size, width)
        y = [[value for row in values[b, c].tolist() for value in row] for c in range(num_classes)]
        result.append([[sum(k * plane[j] for j, k in row.items()) / sum(row.values()) for row in kernel] for plane in y])
    return result


def tree_energy(
    logits: Tensor,
    labels: Tensor,
    rgb: Tensor,
    valid: Tensor,
    features: Tensor | None,
    sigma_rgb: float,
    sigma_feature: float,
    scales: tuple[int, ...] = (1,),
) -> tuple[float, int]:
    """Return Σ_{i∈U} Σ_k |p_ik − ŷ_ik| and |U|, each scale's times the square of its stride; features None: one tree."""
    num_images, num_classes, h, w = logits.shape
    total, count = 0.0, 0
    for stride in scales:
        height, width = -(-h // stride), -(-w // stride)
        for b in range(num_images):
            probs = [[softmax(logits[b, :, y, x].tolist()) for x in range(w)] for y in range(h)]
            p = [
                cells([[probs[y][x][k] for x in range(w)] for y in range(h)], height, width, cell_mean)
                for k in range(num_classes)
            ]
            inside = [[bool(v) for v in row] for row in cells(valid[b].tolist(), height, width, cell_valid)]
            drawn = cells(labels[b].tolist(), height, width, cell_label)
            colours = [cells(plane, height, width, cell_mean) for plane in rgb[b].tolist()]
            target = _filtered(p, colours, sigma_rgb, inside)
            if features is not None:
                z = [cells(plane, height, width, cell_mean) for plane in features[b].tolist()]
                lengths = [[math.sqrt(sum(plane[y][x] ** 2 for plane in z)) for x in range(width)] for y in range(height)]
                z = [[[plane[y][x] / lengths[y][x] for x in range(width)] for y in range(height)] for plane in z]
                target = _filtered(target, z, sigma_feature, inside)
            for y in range(height):
                for x in range(width):
                    if inside[y][x] and drawn[y][x] == UNLABELLED:
                        count += stride**2
                        total += stride**2 * sum(abs(p[k][y][x] - target[k][y][x]) for k in range(num_classes))
    return total, count


def _filtered(
    planes: list[list[list[float]]], guide: list[list[list[float]]], sigma: float, valid: list[list[bool]]
) -> list[list[list[float]]]:
    """Filter planes [class][y][x] with affinities exp(−½ d/σ²)."""
    height, width = len(valid), len(valid[0])
    scaled = [[[value / (math.sqrt(2) * sigma) for value in row] for row in plane] for plane in guide]
    kernel = path_products(spanning_tree(guide, valid), scaled, height * width, width)
    result = []
    for plane in planes:
        flat = [value for row in plane for value in row]
        mean = [sum(k * flat[j] for j, k in row.items()) / sum(row.values()) for row in kernel]
        result.append([mean[y * width : (y + 1) * width] for y in range(height)])
    return result
