"""The processes that share a batch, for what a loss cannot say of its own part alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float, Float64, Shaped
from torch import Tensor


@dataclass(frozen=True)
class Ranks:
    """One process among those that share a batch; the only one, if nothing is said.

    Every method is a collective: all ranks call it, in the same order. Each rank holds the rows of the batch that follow those
    of the ranks before it; they need not be as many everywhere.

    Attributes:
        number: of processes.
        rank: of this one.
        generator: of the draws that all ranks make alike, on the CPU; torch's default one if None.
    """

    number: int = 1
    rank: int = 0
    generator: torch.Generator | None = None

    def sum(self, x: Float[Tensor, ...]) -> Float[Tensor, ...]:
        """Return the sum over ranks, the same on each. Differentiable."""
        return x if self.number == 1 else _Sum.apply(x)  # type: ignore[no-untyped-call]

    def cat(self, x: Shaped[Tensor, "N ..."]) -> Shaped[Tensor, "M ..."]:
        """Return the rows of all ranks, in the order of ranks. Differentiable."""
        if self.number == 1:
            return x
        sizes = self._sizes(len(x))
        return _Cat.apply(x, sizes, self.rank)  # type: ignore[no-untyped-call]

    def uniform(self, rows: int, columns: int) -> Float64[Tensor, "rows columns"]:
        """Return numbers in [0, 1) for this rank's rows: those that one process alone would draw for them. On the CPU."""
        sizes = [rows] if self.number == 1 else self._sizes(rows)
        first = sum(sizes[: self.rank])
        return torch.rand(sum(sizes), columns, dtype=torch.float64, generator=self.generator)[first : first + rows]

    def _sizes(self, mine: int) -> list[int]:
        sizes: list[Any] = [None] * self.number
        dist.all_gather_object(sizes, mine)
        return [int(size) for size in sizes]


#: A process that has the whole batch.
ALONE = Ranks()


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _reduced(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _reduced(grad)


class _Cat(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, sizes: list[int], rank: int) -> Tensor:
        ctx.sizes, ctx.rank = sizes, rank
        longest = max(sizes)
        padded = torch.cat([x.detach(), x.new_zeros(longest - len(x), *x.shape[1:])]).contiguous()
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        first = sum(ctx.sizes[: ctx.rank])
        return _reduced(grad)[first : first + ctx.sizes[ctx.rank]], None, None


def _reduced(x: Tensor) -> Tensor:
    total = x.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total
