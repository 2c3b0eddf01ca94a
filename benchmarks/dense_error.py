"""How far the approximations of the dense kernel are from the exact one: energy, gradient by the values, gradient by the guide.

    python benchmarks/dense_error.py --images FOLDER_OF_PHOTOGRAPHS

Without photographs, smooth random pictures stand in for them. Where rloss's module ``bilateralfilter`` can be imported, its
lattice is measured beside ours. Writes benchmarks/results/dense_error.json and prints what scribbleseg.ops.dense says.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from scribbleseg.ops.dense import dense_forms
from scribbleseg.provenance import provenance

RESULTS = Path(__file__).parent / "results" / "dense_error.json"
NUM_CLASSES = 21
PICKS = (0, 7, 20, 33, 50)  # places in the sorted folder


def smooth(channels: int, size: int, cells: int, seed: int) -> Tensor:
    """Return a smooth random map with features of about size / cells pixels."""
    coarse = torch.randn(1, channels, cells, cells, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, (size, size), mode="bicubic", align_corners=True)


def pictures(folder: Path | None, size: int) -> Iterator[Tensor]:
    """Yield (1, 3, size, size) colours in [0, 1]."""
    paths = sorted(folder.iterdir()) if folder else []
    for n in PICKS:
        if paths:
            image = Image.open(paths[n % len(paths)]).convert("RGB")
            side = min(image.size)
            image = image.crop((0, 0, side, side)).resize((size, size), Image.Resampling.BILINEAR)
            yield torch.from_numpy(np.asarray(image) / np.float32(255)).permute(2, 0, 1)[None]
        else:
            patches = smooth(8, size, 8, n).argmax(1)
            colour = torch.rand(8, 3, generator=torch.Generator().manual_seed(n))
            texture = 0.05 * torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(n))
            yield (colour[patches].movedim(-1, 1) + 0.1 * smooth(3, size, 4, n + 1) + texture).clamp(0, 1)


def place_and_colour(rgb: Tensor, sigma_px: float, sigma_rgb: float) -> Tensor:
    """Return the guide of position and colour."""
    y, x = torch.meshgrid(*(torch.arange(side, dtype=rgb.dtype) for side in rgb.shape[-2:]), indexing="ij")
    return torch.cat([torch.stack([x, y])[None] / sigma_px, rgb / sigma_rgb], 1)


def deep(channels: int, size: int, seed: int) -> Tensor:
    """Return unit-length features: smooth fields with some noise."""
    noise = torch.randn(1, channels, size, size, generator=torch.Generator().manual_seed(seed))
    return F.normalize(smooth(channels, size, 6, 100 + seed) + 0.1 * noise, dim=1)


#: Name, side, guide from (rgb, seed), whether rloss can do it (its sigmas: px, rgb of 255).
CASES: list[tuple[str, int, Callable[[Tensor, int], Tensor], tuple[float, float] | None]] = [
    *(
        (f"rgb 15/255, px {px}", side, lambda rgb, seed, px=px: place_and_colour(rgb, px, 15 / 255), (px, 15.0))
        for side, widths in ((64, (100.0, 50.0, 40.0, 10.0)), (256, (100.0, 50.0, 10.0)))
        for px in widths
    ),
    *((f"{d} deep, 0.4", 64, lambda rgb, seed, d=d: deep(d, 64, seed) / 0.4, None) for d in (16, 32)),
    *(
        (
            f"{d} deep, 0.4; rgb 0.3, px 25",
            64,
            lambda rgb, seed, d=d: torch.cat([place_and_colour(rgb, 25, 0.3), deep(d, 64, seed) / 0.4], 1),
            None,
        )
        for d in (16, 32)
    ),
]


def measure(probs: Tensor, guide: Tensor, want_guide: bool, **how: Any) -> tuple[float, Tensor, Tensor | None, float]:
    """Return energy, its gradients and the seconds that value and gradient by the values took."""
    p, g = probs.clone().requires_grad_(), guide.clone()
    times = []
    for _ in range(1 if how["method"] == "exact" else 5):
        p.grad = None
        start = time.perf_counter()
        forms = dense_forms(p, g, **how)
        energy = forms.total.sum() - forms.association.sum()
        energy.backward()
        times.append(time.perf_counter() - start)
    grad_guide = None
    if want_guide:
        g.requires_grad_()
        forms = dense_forms(probs, g, **how)
        (grad_guide,) = torch.autograd.grad(forms.total.sum() - forms.association.sum(), g)
    assert p.grad is not None
    return float(energy.detach()), p.grad, grad_guide, statistics.median(times)


def rloss(probs: Tensor, rgb: Tensor, sigmas: tuple[float, float]) -> tuple[float, Tensor, float] | None:
    """Return the same of rloss's lattice, with 1ᵀA1 by it too; None where it is not installed."""
    try:
        module = importlib.import_module("bilateralfilter")
    except ImportError:
        return None
    values = torch.cat([probs, torch.ones_like(probs[:, :1])], 1)
    out, size = np.zeros(values.numel(), np.float32), probs.shape[-1]
    picture, v = (255 * rgb).flatten().numpy(), values.flatten().numpy()
    start = time.perf_counter()
    module.bilateralfilter_batch(picture, v, out, 1, values.shape[1], size, size, sigmas[1], sigmas[0])
    seconds = time.perf_counter() - start
    filtered = torch.from_numpy(out).view(values.shape)
    energy = float(filtered[:, -1].double().sum() - (values * filtered)[:, :-1].double().sum())
    return energy, -2 * filtered[:, :-1], seconds


def gap(x: Tensor | None, true: Tensor | None) -> float:
    """Return ‖x − true‖ / ‖true‖."""
    return math.nan if x is None or true is None else float((x - true).double().norm() / true.double().norm())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder of photographs")
    parser.add_argument("--landmarks", type=int, nargs="+", default=[64, 128, 256, 512])
    arguments = parser.parse_args()
    rows = []
    for name, side, make, sigmas in CASES:
        for seed, rgb in enumerate(pictures(arguments.images, side)):
            probs, guide = (3 * smooth(NUM_CLASSES, side, 8, seed)).softmax(1), make(rgb, seed)
            small = side <= 64
            true = measure(probs, guide, small, method="exact")
            found: dict[str, Any] = {}
            for m in arguments.landmarks:
                found[f"low_rank {m}"] = measure(probs, guide, small, method="low_rank", num_landmarks=m)
            if guide.shape[1] <= 8:
                found["lattice"] = measure(probs, guide, small, method="lattice")
            peer = rloss(probs, rgb, sigmas) if sigmas else None
            if peer:
                found["rloss"] = (peer[0], peer[1], None, peer[2])
            for method, (energy, by_values, by_guide, seconds) in found.items():
                rows.append(
                    {"case": name, "side": side, "picture": seed, "method": method, "energy": energy / true[0] - 1}
                    | {"gradient": gap(by_values, true[1]), "guide_gradient": gap(by_guide, true[2]), "seconds": seconds}
                )
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    record = {"provenance": provenance(), "photographs": arguments.images is not None, "rows": rows}
    RESULTS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print("worst of the pictures; of the times (value and gradient by the values) the median")
    print(f"{'case':36}{'side':>5} {'method':14}{'energy':>9}{'gradient':>10}{'by guide':>10}{'ms':>8}")
    for key in dict.fromkeys((r["case"], r["side"], r["method"]) for r in rows):
        mine = [r for r in rows if (r["case"], r["side"], r["method"]) == key]
        worst = [max((r[what] for r in mine), key=abs) for what in ("energy", "gradient", "guide_gradient")]
        ms = 1e3 * statistics.median(r["seconds"] for r in mine)
        print(f"{key[0]:36}{key[1]:5} {key[2]:14}{worst[0]:9.4f}{worst[1]:10.4f}{worst[2]:10.4f}{ms:8.1f}")


if __name__ == "__main__":
    main()
