"""The dense Gaussian kernel through the permutohedral lattice: splat on few points, blur there, slice back."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from scribbleseg.ops.sampling import GOLDEN, pick, spread

#: Pixels at which the lattice's degrees are compared with true ones, and pixels that the true ones are summed over.
ROWS, COLUMNS = 256, 4096


def placement(num_guides: int) -> tuple[Tensor, Tensor]:
    """Return scale and shift of each guide channel.

    The scale makes splat, blur and slice together a blur of width 1 (Adams et al. 2010). The shift is arbitrary: without it
    pixels on a grid stand exactly on the borders of simplices, where rounding would decide.
    """
    j = torch.arange(1, num_guides + 1, dtype=torch.float64)
    return math.sqrt(2 / 3) * (num_guides + 1) / (j * (j + 1)).sqrt(), (j * GOLDEN).frac()


def hash_numbers(num_guides: int) -> Tensor:
    """Return the odd 64-bit numbers whose sum of products with a key is the name of a lattice point; the same every time."""
    generator = torch.Generator().manual_seed(2010)
    high, low = torch.randint(0, 1 << 32, (2, num_guides), generator=generator)
    return (high << 32) + (low | 1)


def corners(guide: Float[Tensor, "P G"]) -> tuple[Tensor, Tensor, Tensor]:
    """Return names and barycentric weights (P, G+1) of the corners of each pixel's simplex, and the steps between neighbours.

    There are G + 1 steps, one a direction. In float64 whatever the guide's type, so that the backends agree on the simplex.
    """
    num_pixels, d = guide.shape
    n = d + 1
    scale, shift = (x.to(guide.device) for x in placement(d))
    c = guide.double() * scale + shift
    bad = torch.where(c.abs() <= 2.0**40, 0.0, c - c).sum(1, keepdim=True)  # NaN for what is not finite
    c = c.nan_to_num(nan=0.0).clamp(-(2.0**40), 2.0**40)
    tail = c.flip(1).cumsum(1).flip(1)
    up = torch.cat([tail, torch.zeros_like(tail[:, :1])], 1)
    up[:, 1:] -= torch.arange(1, n, dtype=torch.float64, device=c.device) * c
    nearest = (up / n).round()
    key = nearest * n
    order = torch.argsort(up - key, dim=1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(1, order, torch.arange(n, device=c.device).expand(num_pixels, n))
    rank = rank + nearest.sum(1, keepdim=True).long()
    turn = (rank < 0).long() - (rank > d).long()
    rank, key = (rank + n * turn).clamp(0, d), key + n * turn
    hashes = torch.cat([hash_numbers(d).to(c.device), torch.zeros(1, dtype=torch.long, device=c.device)])
    gap = torch.zeros_like(up).scatter_(1, rank, (up - key) / n)  # by rank
    ranked = torch.zeros_like(rank).scatter_(1, rank, hashes.expand(num_pixels, n))
    gap = torch.cat([gap.flip(1), gap[:, :1] - 1], 1)  # from the highest rank down, and around
    weights = torch.cat([gap[:, :1] - gap[:, -1:], gap[:, 1:-1] - gap[:, :-2]], 1) + bad
    names = (key.long() * hashes).sum(1, keepdim=True)
    moves = hashes.sum() - n * ranked.flip(1)[:, :-1]
    names = torch.cat([names, names + moves.cumsum(1)], 1)
    return names, weights.to(guide.dtype), n * hashes - hashes.sum()


def lattice_torch(guide: Float[Tensor, "B G P"], values: Float[Tensor, "B N P"]) -> Float[Tensor, "B N P"]:
    """Return S(B + Bᵀ)Sᵀ values, S the barycentric weights and B the blur [½, 1, ½] along each direction in turn; not to scale.

    Pixels whose last value is zero take no part and get zero. A lattice point is named by a 64-bit number that is linear in
    its coordinates, so that a neighbour's name is a sum; two points share one with a probability around 1e-18.

    Cost: P·(G+1) entries are sorted once an image; then P·(G+1)·N additions three times over. Memory the same.
    """
    out = torch.zeros_like(values)
    for image in range(len(values)):
        pixels = (values[image, -1] != 0).nonzero()[:, 0]
        if not len(pixels):
            continue
        names, weights, steps = corners(guide[image, :, pixels].T)
        points, corner = torch.unique(names, return_inverse=True)
        v = values[image][:, pixels].T
        splatted = v.new_zeros(len(points), v.shape[1])
        for r in range(names.shape[1]):
            splatted.index_add_(0, corner[:, r], v * weights[:, r, None])
        neighbours = [(_find(points, points + step), _find(points, points - step)) for step in steps.tolist()]
        forth, back = splatted, splatted
        for there, here in zip(neighbours, reversed(neighbours), strict=True):
            forth, back = _blur(forth, *there), _blur(back, *here)
        blurred = forth + back
        sliced = sum(blurred[corner[:, r]] * weights[:, r, None] for r in range(names.shape[1]))
        assert isinstance(sliced, Tensor)
        out[image][:, pixels] = sliced.T
    return out


def _find(points: Tensor, wanted: Tensor) -> Tensor:
    """Return where in the sorted points the wanted ones are; one past the end for those that are not there."""
    at = torch.searchsorted(points, wanted).clamp(max=len(points) - 1)
    return torch.where(points[at] == wanted, at, len(points))


def _blur(values: Tensor, there: Tensor, here: Tensor) -> Tensor:
    padded = torch.cat([values, torch.zeros_like(values[:1])])
    return values + 0.5 * (padded[there] + padded[here])


def lattice(filter_: Callable[[Tensor, Tensor], Tensor], gaussian_sum: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return the method on top of one backend's lattice and sum over pairs.

    The lattice's scale is set for each image by the true degrees Σ_j k_ij at some pixels: where neighbours of lattice points
    are missing (most are) mass is lost, and no constant mends it. The gradient by the guide is the exact kernel's formula,
    −Σ_j k_ij (u_i·v_j + v_i·u_j)(g_i − g_j), with every sum a filtering; the derivative of the barycentric weights points
    elsewhere.
    """

    def run(v: Tensor, guide: Tensor, u: Tensor | None, num_landmarks: int) -> Tensor:
        stacked = [v]
        if u is not None:  # every channel times every guide channel; the weight stays the last
            stacked = [(x.unsqueeze(2) * guide.unsqueeze(1)).flatten(1, 2) for x in (u, v)] + [u, v]
        s = torch.cat(stacked, 1)
        filtered = filter_(guide, s)
        filtered *= _scale(gaussian_sum, guide, v[:, -1], filtered[:, -1]).view(-1, 1, 1)
        if u is None:
            return filtered
        num, width = v.shape[1], guide.shape[1]
        by_guide_u, by_guide_v = (filtered[:, n * num * width : (n + 1) * num * width] for n in (0, 1))
        all_u, all_v = filtered[:, -2 * num : -num], filtered[:, -num:]
        mass = (u * all_v + v * all_u).sum(1, keepdim=True)
        shape = len(v), num, width, -1
        towards = u.unsqueeze(2) * by_guide_v.reshape(shape) + v.unsqueeze(2) * by_guide_u.reshape(shape)
        return towards.sum(1) - mass * guide

    return run


def _scale(gaussian_sum: Callable[..., Tensor], guide: Tensor, weight: Tensor, degree: Tensor) -> Tensor:
    """Return the factor that makes the lattice's degrees the true ones in the mean over some pixels."""
    num_pixels = guide.shape[2]
    rows, there, part = spread(weight, ROWS), guide, weight
    if num_pixels > COLUMNS:
        there = pick(guide, spread(weight, COLUMNS))
        part = (weight.sum(1, keepdim=True) / COLUMNS).expand(-1, COLUMNS)
    true = gaussian_sum(pick(guide, rows), there, part.unsqueeze(1))[:, 0].sum(1)
    found = degree.gather(1, rows).sum(1)
    return torch.where(found == 0, 1.0, true / found)
