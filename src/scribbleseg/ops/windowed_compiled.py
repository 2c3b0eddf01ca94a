"""The compiled CPU backend of the windowed energy: ``kernels/src/windowed.cpp`` of scribbleseg-kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from scribbleseg.ops.backends import compiled

#: Order of the relaxations in the C++ enumeration.
NUMBERS = {"bilinear": 0, "quadratic": 1, "log_quadratic": 2, "collision": 3}


def energy_compiled(
    probs: Tensor,
    guide: Tensor,
    source: Tensor | None,
    destination: Tensor | None,
    radius: int,
    dilation: int,
    sigma_px: float,
    relaxation: str,
    want_probs: bool,
    want_guide: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the energy and its gradients; float32 or float64, on ``torch.get_num_threads()`` threads."""
    module = compiled("_windowed")
    assert module is not None
    probs, guide = probs.contiguous(), guide.contiguous()
    same = source is destination or (
        source is not None and destination is not None and source.data_ptr() == destination.data_ptr()
    )
    source = None if source is None else source.contiguous()
    destination = source if same or destination is None else destination.contiguous()
    grad_probs = torch.empty_like(probs) if want_probs else None
    grad_guide = torch.empty_like(guide) if want_guide else None
    value = 0.0
    if probs.numel():
        threads = torch.get_num_threads()
        value = module.energy(
            probs,
            guide,
            source,
            destination,
            grad_probs,
            grad_guide,
            radius,
            dilation,
            sigma_px,
            NUMBERS[relaxation],
            threads,
        )
    return (
        probs.new_tensor(value),
        probs.new_empty(0) if grad_probs is None else grad_probs,
        probs.new_empty(0) if grad_guide is None else grad_guide,
    )
