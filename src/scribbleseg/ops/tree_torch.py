"""The portable backend of the tree filter: whole-map steps, about log₂ P of each, on the CPU and on GPUs.

**Tree.** Borůvka: every component takes its cheapest edge out, all at once; a component's cheapest is a ``scatter_reduce``
over ranks, which are unique, so that no circle can arise. Then the Euler tour gives the tree its root: at every pixel the
tour leaves by the next tree edge after the one it came by, which is a local look-up on a grid, and doubling (list ranking)
tells how far each edge is from the tour's end. The one of an edge's two directions that comes first leads down.

**Filter.** With A the matrix of affinities from parent to child, s = (I − Aᵀ)⁻¹ y (up) and t = (I − A)⁻¹ (1 − a²) s (down).
(I − A)⁻¹ = Π_k (I + A^(2^k)), and A^(2^k) has one entry a row: the pixel 2^k above, with the product of the affinities.
No level of the tree is a step of its own: a path of 1000 pixels takes 10. On CUDA :mod:`scribbleseg.ops.tree_triton` filters
along the trees made here; it doubles downwards, too, but not upwards.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def build_torch(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return the parents and an order, depth first, of (B, 2, H, W) edge weights; NaN is an edge of last resort, cut."""
    return _rooted(_chosen(weights), torch.isnan(weights))


def _chosen(weights: Tensor) -> Tensor:
    """Return the (B, 2, H, W) edges of the minimum spanning trees; among equal weights the first edge is the lighter."""
    num_images, _, height, width = weights.shape
    size, device = height * width, weights.device
    pixel = torch.arange(num_images * size, device=device).view(num_images, 1, size)
    ends = torch.cat([pixel + 1, pixel + width], 1)
    real = torch.ones(2, height, width, dtype=torch.bool, device=device)
    real[0, :, -1] = False
    real[1, -1] = False
    rank = weights.flatten(1).argsort(dim=1, stable=True)  # NaN comes last
    places = rank + torch.arange(num_images, device=device)[:, None] * 2 * size
    places = places.flatten()[real.flatten()[rank].flatten()]  # in the flat map, image by image, the lightest first
    u = pixel.expand(-1, 2, -1).flatten()[places]
    v = ends.flatten()[places]
    chosen = torch.zeros(num_images * 2 * size, dtype=torch.bool, device=device)
    component = pixel.flatten()
    name = component
    while len(places):
        turn = torch.arange(len(places), device=device)
        best = torch.full_like(name, len(places))
        best.scatter_reduce_(0, u, turn, "amin").scatter_reduce_(0, v, turn, "amin")
        has = best < len(places)
        mine = best.clamp(max=len(places) - 1)
        chosen[places[mine[has]]] = True
        above = torch.where(has, u[mine] + v[mine] - name, name)  # the component at the other end
        both = (above[above] == name) & (name < above)  # two that took the same edge: the first is the top
        above = torch.where(both, name, above)
        while True:
            higher = above[above]
            if torch.equal(higher, above):
                break
            above = higher
        u, v = above[u], above[v]
        live = u != v
        places, u, v = places[live], u[live], v[live]
    return chosen.view(weights.shape)


def _each_way(edges: Tensor) -> Tensor:
    """Return (B, 4, P): is the edge from a pixel to the right, down, to the left, up one of ``edges``?"""
    right, down = edges[:, 0], edges[:, 1]
    left, up = functional.pad(right, (1, 0))[..., :-1], functional.pad(down, (0, 0, 1, 0))[..., :-1, :]
    return torch.stack([right, down, left, up], 1).flatten(2)


def _rooted(chosen: Tensor, cut: Tensor) -> tuple[Tensor, Tensor]:
    """Hang every tree up at pixel 0."""
    num_images, _, height, width = chosen.shape
    size, device = height * width, chosen.device
    exists = _each_way(chosen)
    offset = torch.tensor([1, width, -1, -width], device=device)[:, None]
    pixel = torch.arange(size, device=device)
    other = (pixel + offset).clamp(0, size - 1)  # 4 P
    # The tour: arriving at a pixel, turn to the next edge after the one behind; `turns[d]` leaves a pixel entered from there.
    turns = []
    for back in range(4):
        leave = torch.full_like(exists[:, 0], back, dtype=torch.long)
        for way in (back + 3, back + 2, back + 1):
            leave = torch.where(exists[:, way % 4], way % 4, leave)
        turns.append(leave)
    slots = torch.arange(4 * size, device=device).expand(num_images, -1).view(num_images, 4, size)
    successor = torch.stack([turns[(d + 2) % 4][:, other[d]] * size + other[d] for d in range(4)], 1)
    first = torch.where(exists[:, 3, 0], 3 * size, 0)
    first = torch.where(exists[:, 1, 0], size, first)
    first = torch.where(exists[:, 0, 0], 0, first)  # the slot by which the tour leaves pixel 0
    last = (successor == first[:, None, None]) | ~exists
    successor = torch.where(last, slots, successor).flatten(1)
    far = (~last).long().flatten(1)
    for _ in range((2 * size).bit_length()):
        far = far + far.gather(1, successor)
        successor = successor.gather(1, successor)
    far = far.view(num_images, 4, size)
    twin = torch.stack([far[:, (d + 2) % 4][:, other[d]] for d in range(4)], 1)
    upward = exists & (far < twin)  # this way lies the parent
    parent = (upward * offset).sum(1) + pixel
    entered = torch.where(upward, twin, -1).amax(1)
    entered[:, 0] = 2 * size
    parent = torch.where((upward & _each_way(cut)).any(1), pixel, parent)
    return parent.int(), entered.argsort(dim=1, descending=True).int()


class _Passes:
    """Both passes along the trees of a batch, whose pixels are numbered through."""

    def __init__(self, affinity: Tensor, parent: Tensor) -> None:
        height, width = affinity.shape[2:]
        size = height * width
        pixel = torch.arange(size, device=affinity.device)
        parent = parent.long()
        vertical = (parent - pixel).abs() == width
        #: Where the edge to the parent stands in the flat edge map, and whether there is a parent.
        self.edge, self.inner = torch.minimum(parent, pixel) + vertical * size, parent != pixel
        self.edge = torch.where(self.inner, self.edge, 0)
        self.a = torch.where(self.inner, affinity.flatten(1).gather(1, self.edge), 0.0)
        self.parent = parent
        self.jumps = []
        above, a = parent, self.a
        for _ in range(size.bit_length()):
            if not bool(a.any()):
                break
            self.jumps.append((above[:, None], a[:, None]))
            a = torch.where(a == 0, 0.0, a * a.gather(1, above))
            above = above.gather(1, above)

    def up(self, y: Tensor) -> Tensor:
        """Return s of (B, C, P) values."""
        for above, a in self.jumps:
            y = y.scatter_add(2, above.expand(y.shape), a * y)
        return y

    def down(self, s: Tensor) -> Tensor:
        """Return t."""
        t = ((1 - self.a) * (1 + self.a))[:, None] * s
        for above, a in self.jumps:
            t = torch.addcmul(t, a, t.gather(2, above.expand(t.shape)))
        return t

    def slope(self, s: Tensor, t: Tensor, s_u: Tensor, t_u: Tensor) -> Tensor:
        """Return the derivative of Σ u·K y by every pixel's own affinity."""
        above = self.parent[:, None].expand(s.shape)
        a = self.a[:, None]
        return (s_u * (t.gather(2, above) - a * s) + s * (t_u.gather(2, above) - a * s_u)).sum(1)


def filter_torch(values: Tensor, affinity: Tensor, parent: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
    """Return the filtered values and the sums of affinities."""
    passes = _Passes(affinity, parent)
    norm = passes.down(passes.up(values.new_ones(parent.shape)[:, None]))
    filtered = passes.down(passes.up(values.flatten(2))) / norm
    return filtered.view(values.shape), norm.view(values.shape[0], *values.shape[2:])


def gradient_torch(
    grad: Tensor,
    values: Tensor,
    filtered: Tensor,
    norm: Tensor,
    affinity: Tensor,
    parent: Tensor,
    order: Tensor,
    want_values: bool,
    want_affinity: bool,
) -> tuple[Tensor, Tensor]:
    """Return the gradients by values and by affinities; empty where not wanted."""
    passes = _Passes(affinity, parent)
    u = (grad / norm[:, None]).flatten(2)
    s_u = passes.up(u)
    t_u = passes.down(s_u)
    for_affinity = affinity.new_empty(0)
    if want_affinity:
        s = passes.up(values.flatten(2))
        slope = passes.slope(s, (filtered * norm[:, None]).flatten(2), s_u, t_u)
        through = -(u * filtered.flatten(2)).sum(1, keepdim=True)  # of the sums n
        s, s_u = passes.up(torch.ones_like(through)), passes.up(through)
        slope = slope + passes.slope(s, norm.flatten(1)[:, None], s_u, passes.down(s_u))
        for_affinity = torch.zeros_like(affinity).flatten(1)
        for_affinity = for_affinity.scatter_add(1, passes.edge, torch.where(passes.inner, slope, 0.0)).view(affinity.shape)
    return t_u.view(values.shape) if want_values else values.new_empty(0), for_affinity
