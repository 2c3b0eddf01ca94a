"""Do our losses have the values and gradients of the field's own code? On the same tensors, in one table.

    python -m benchmarks.ops.agree [--peers-dir PEERS_DIR] [--out FILE]

Where the definitions coincide the two must agree to ``TOLERANCE``; where they do not, the table says how far apart they
are, and why. The lattice of rloss is an approximation: its losses are run twice, as they are and with the exact filter
put in its place, which shows their definition without their approximation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from benchmarks.ops import peers, record
from benchmarks.ops.measure import errors, relative_distance
from benchmarks.ops.scene import scene
from scribbleseg.losses.dense_crf import DenseCRFLoss
from scribbleseg.losses.gated_crf import GatedCRFLoss
from scribbleseg.losses.normalized_cut import NormalizedCutLoss
from scribbleseg.records import UNLABELLED

#: Largest relative difference of values, and of gradients to their largest entry, where the definitions coincide.
TOLERANCE = 1e-5

RADIUS, SIGMA_PX, SIGMA_RGB = 5, 6.0, 0.1
DENSE: Any = {"sigma_rgb": 15 / 255, "sigma_px": 12.0}


def line(
    what: str, ours: Sequence[Tensor], theirs: Sequence[Tensor], *, same: Sequence[str] = ("value", "gradient"), why: str = ""
) -> dict[str, Any]:
    """Return a row of the table; ``same`` says of what the definitions coincide."""
    found = errors(ours, theirs, ("value", "gradient"))
    return {"what": what, **found, "bound": dict.fromkeys(same, TOLERANCE), "why": why}


def with_gradient(value: Tensor, of: Tensor) -> tuple[Tensor, Tensor]:
    """Return a value and its gradient."""
    (gradient,) = torch.autograd.grad(value.sum(), of)
    return value.detach().sum(), gradient


def gated_crf(size: int, dtype: torch.dtype) -> Iterator[dict[str, Any]]:
    """Compare with WSL4MIS's gated CRF, by the logits, under all gates."""
    rng = torch.Generator().manual_seed(0)
    shape = (2, size, size)
    logits = torch.randn(2, 4, size, size, generator=rng).to(dtype).requires_grad_()
    rgb = torch.rand(2, 3, size, size, generator=rng).to(dtype)
    everywhere, some = torch.ones(shape, dtype=torch.bool), torch.rand(shape, generator=rng) > 0.2
    labels = torch.randint(0, 4, shape, generator=rng).where(torch.rand(shape, generator=rng) < 0.3, UNLABELLED)
    kind = str(dtype).removeprefix("torch.")
    loss = peers.load(peers.GATED_CRF).ModelLossSemsegGatedCRF()

    def theirs(**masks: Tensor) -> tuple[Tensor, Tensor]:
        kernels = [{"weight": 1, "xy": SIGMA_PX, "rgb": SIGMA_RGB}]
        gates = {name: mask[:, None].float() for name, mask in masks.items()}
        return with_gradient(loss(logits.softmax(1), kernels, RADIUS, rgb, size, size, **gates)["loss"], logits)

    def ours(valid: Tensor, **gates: Any) -> tuple[Tensor, Tensor]:
        numbers: dict[str, Any] = {"radius": RADIUS, "sigma_px": SIGMA_PX, "sigma_rgb": SIGMA_RGB}
        return with_gradient(GatedCRFLoss(**numbers, **gates)(logits, rgb=rgb, valid=valid, labels=labels), logits)

    def row(what: str, *pair: tuple[Tensor, Tensor], **words: Any) -> dict[str, Any]:
        return line(f"Gated CRF, {what}, {kind}", *pair, **words)

    drawn, blank = some & (labels != UNLABELLED), some & (labels == UNLABELLED)
    yield row("a mask of ones", ours(everywhere), theirs(mask_src=everywhere))
    yield row("padded pixels left out at both ends", ours(some), theirs(mask_src=some, mask_dst=some))
    to_blank = ours(some, source="labelled", destination="unlabelled")
    yield row("from labelled to unlabelled pixels", to_blank, theirs(mask_src=drawn, mask_dst=blank))
    value, gradient = theirs()
    outside = (value - outside_of_the_map(rgb), gradient)
    beyond = "without a mask their window reaches beyond the border, where it finds zeros of colour, place and class"
    yield row("no mask, as they train", ours(everywhere), (value, gradient), same=("gradient",), why=beyond)
    yield row("no mask, less the pairs beyond the border", ours(everywhere), outside)


def outside_of_the_map(rgb: Tensor) -> Tensor:
    """Return the constant that the zeros around the map add to their loss: Σ exp(−½‖f_i − 0‖²) per pixel."""
    size = rgb.shape[-1]
    place = torch.arange(size, dtype=torch.float32)
    steps = torch.arange(-RADIUS, RADIUS + 1)
    inside = ((place[:, None] + steps >= 0) & (place[:, None] + steps < size)).sum(1)
    missing = (2 * RADIUS + 1) ** 2 - inside[:, None] * inside[None]
    squares = (rgb / SIGMA_RGB).double().square().sum(1) + (place**2 + place[:, None] ** 2) / SIGMA_PX**2
    return (missing * torch.exp(-0.5 * squares)).sum() / squares.numel()


def exact_filter(images: Any, values: Any, out: Any, n: int, k: int, h: int, w: int, sigma_rgb: float, sigma_xy: float) -> None:
    """Filter as rloss's ``bilateralfilter_batch`` does, with every pair of pixels instead of the lattice."""
    colours = torch.from_numpy(images).double().view(n, 3, h * w) / sigma_rgb
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    place = torch.stack([x, y]).double().view(1, 2, h * w).expand(n, -1, -1) / sigma_xy
    points = torch.cat([colours, place], 1).transpose(1, 2)
    kernel = torch.exp(-0.5 * torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist").square())
    out[:] = (torch.from_numpy(values).double().view(n, k, h * w) @ kernel).float().numpy().reshape(out.shape)


@contextmanager
def exactly(path: str) -> Iterator[None]:
    """Put the exact filter in the place of a peer's lattice."""
    module: Any = peers.load(path)
    lattice = module.bilateralfilter_batch
    module.bilateralfilter_batch = exact_filter
    try:
        yield
    finally:
        module.bilateralfilter_batch = lattice


def slope_error(loss: Callable[[Tensor], Tensor], probs: Tensor, gradient: Tensor) -> float:
    """Return how far a gradient is from its loss's central differences, along 8 random directions, relative to those."""
    rng = torch.Generator().manual_seed(0)
    predicted, seen = [], []
    with torch.no_grad():
        for _ in range(8):
            way = 0.02 * (torch.rand(probs.shape, generator=rng) - 0.3)
            seen.append(loss(probs + way).double().sum() - loss(probs - way).double().sum())
            predicted.append(2 * (gradient * way).double().sum())
    return relative_distance(torch.stack(predicted), torch.stack(seen))


def all_pairs(rgb: Tensor) -> Tensor:
    """Return the kernel A of one image in float64."""
    height, width = rgb.shape[-2:]
    unit = torch.eye(height * width, dtype=torch.float32).numpy().ravel()
    out = unit * 0
    pixels, sigma_rgb = (255 * rgb).numpy().ravel(), 255 * DENSE["sigma_rgb"]
    exact_filter(pixels, unit, out, 1, height * width, height, width, sigma_rgb, DENSE["sigma_px"])
    return torch.from_numpy(out).double().view(height * width, -1)


def dense_crf(size: int) -> Iterator[dict[str, Any]]:
    """Compare with rloss's DenseCRF loss, by the logits, on one image."""
    probs, rgb = scene(1, 4, size)
    logits = probs.log().requires_grad_()
    everywhere = torch.ones(1, size, size, dtype=torch.bool)
    some = torch.rand(1, size, size, generator=torch.Generator().manual_seed(0)) > 0.2
    kernel = all_pairs(rgb)

    def ours(valid: Tensor) -> tuple[Tensor, Tensor]:
        m = valid.flatten().double()
        mass = m @ kernel @ m  # ours is a share of it, theirs lacks it
        value, gradient = with_gradient(DenseCRFLoss(method="exact", **DENSE)(logits, rgb=rgb, valid=valid), logits)
        return (value - 1) * mass, gradient * mass

    def theirs(valid: Tensor) -> tuple[Tensor, Tensor]:
        return with_gradient(peers.dense_crf(logits.softmax(1), rgb, **DENSE, mask=valid.float()), logits)

    with exactly(peers.DENSE_CRF):
        for name, valid in {"everywhere": everywhere, "padding left out": some}.items():
            yield line(f"DenseCRF, rloss's loss on the exact filter, {name}", ours(valid), theirs(valid))
    scale = "their lattice is scaled for pixels that lie apart; the table of approximations has more"
    yield line("DenseCRF, rloss's loss as it is", theirs(everywhere), ours(everywhere), same=(), why=scale)
    leaf = probs.clone().requires_grad_()
    _, gradient = with_gradient(peers.dense_crf(leaf, rgb, **DENSE), leaf)
    slope = slope_error(lambda p: peers.dense_crf(p, rgb, **DENSE), probs, gradient)
    lopsided = "they take their lattice to be symmetric, which it is not quite"
    yield {"what": "DenseCRF, rloss's gradient against differences of its own value", "gradient": slope, "why": lopsided}


def cut(probs: Tensor, kernel: Tensor, valid: Tensor) -> Tensor:
    """Return K − Σ_k s_kᵀA s_k / dᵀs_k of one image."""
    m = valid.flatten().to(kernel.dtype)
    s = probs[0].flatten(1) * m
    return len(s) - ((s @ kernel * s).sum(1) / (s @ (kernel @ m))).sum()


def normalized_cut(size: int) -> Iterator[dict[str, Any]]:
    """Compare with the definition, and with the one port there is, class by class: it pools the classes into one ratio."""
    probs, rgb = scene(1, 4, size)
    logits = probs.double().log().requires_grad_()
    everywhere = torch.ones(1, size, size, dtype=torch.bool)
    some = torch.rand(1, size, size, generator=torch.Generator().manual_seed(0)) > 0.2
    kernel = all_pairs(rgb)
    loss = NormalizedCutLoss(method="exact", smallest=0.0, **DENSE)

    def ours(valid: Tensor) -> tuple[Tensor, Tensor]:
        return with_gradient(loss(logits, rgb=rgb.double(), valid=valid), logits)

    for name, valid in {"everywhere": everywhere, "padding left out": some}.items():
        defined = with_gradient(cut(logits.softmax(1), kernel, valid), logits)
        yield line(f"Normalized cut, the definition in float64, {name}", ours(valid), defined)
    if not peers.has(peers.NORMALIZED_CUT):
        return

    def port(p: Tensor) -> Tensor:
        return p.shape[1] + torch.stack([peers.normalized_cut(p[:, k : k + 1], rgb, **DENSE).sum() for k in range(4)]).sum()

    wrong = "its backward pass multiplies s·As element by element where the sum belongs"
    leaf = probs.clone().requires_grad_()
    with exactly(peers.NORMALIZED_CUT):
        theirs = with_gradient(port(logits.float().softmax(1)), logits)
        yield line("Normalized cut, the port on the exact filter", ours(everywhere), theirs, same=("value",), why=wrong)
        _, gradient = with_gradient(port(leaf), leaf)
        slope = slope_error(port, probs, gradient)
    yield {"what": "Normalized cut, the port's gradient against differences of its own value", "gradient": slope, "why": wrong}
    _, gradient = with_gradient(cut(leaf.double(), kernel, everywhere), leaf)
    slope = slope_error(lambda p: cut(p.double(), kernel, everywhere), probs, gradient)
    step = "nothing but the length of the differences"
    yield {"what": "Normalized cut, the definition's gradient against differences", "gradient": slope, "why": step}


def run(*, threads: int, rounds: int = 1, seconds: float = 0.0, size: int = 48) -> dict[str, Any]:
    """Return all rows; without a peer those with it are left out.

    Raises:
        ArithmeticError: two definitions that coincide do not agree.
    """
    rows: list[dict[str, Any]] = []
    if peers.has(peers.GATED_CRF):
        rows += gated_crf(size, torch.float32)
        rows += gated_crf(size, torch.float64)
    if peers.has(peers.DENSE_CRF):
        rows += dense_crf(size)
    rows += normalized_cut(size)
    for row in rows:
        print(f"{row['what']:76s} " + "  ".join(f"{k} {row[k]:.1e}" for k in ("value", "gradient") if k in row))
    for row in rows:
        for name, bound in row.get("bound", {}).items():
            record.demand({"ours": {name: row[name]}}, bound, row["what"])
    return {"tolerance": TOLERANCE, "rows": rows}


if __name__ == "__main__":
    record.main("agree", run)
