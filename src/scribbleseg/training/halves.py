"""A batch that memory does not suffice for, half by half, with the losses of the whole."""

from __future__ import annotations

import contextlib
import dataclasses
import traceback
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from scribbleseg.records import Output


def in_halves(network: nn.Module, image: Tensor, *words: Any) -> Output:
    """Return what a network says of a batch, of which it keeps only what it says: backward, each half is computed once more.

    The losses see the whole batch's output, so their sums, counts and pairs of pixels are those of the whole batch. The same
    numbers to rounding, but for batch normalisation, whose statistics are those of a half, and for dropout's draws.

    Cost: one forward pass more; memory of half a batch in the network, of the whole in the losses.
    """

    def contexts() -> tuple[contextlib.AbstractContextManager[Any], contextlib.AbstractContextManager[Any]]:
        return contextlib.nullcontext(), _settled(network)

    try:
        outputs = [checkpoint(network, part, *words, use_reentrant=False, context_fn=contexts) for part in image.chunk(2)]
    except BaseException as error:
        traceback.clear_frames(error.__traceback__)  # until they are gone, torch 2.12 leaves its hooks on, whatever runs then
        raise
    columns: dict[str, list[Any]] = {
        field.name: [getattr(output, field.name) for output in outputs] for field in dataclasses.fields(Output)
    }
    joined: dict[str, Any] = {name: None if parts[0] is None else torch.cat(parts) for name, parts in columns.items()}
    return Output(**joined)


@contextlib.contextmanager
def _settled(network: nn.Module) -> Iterator[None]:
    """Keep running statistics as they are: the second pass over the same half would count it twice."""
    layers = [layer for layer in network.modules() if isinstance(layer, _BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
