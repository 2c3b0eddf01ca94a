"""Memory that runs out: told from other errors, and what is done before a thing is tried with less."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable

#: What allocators say; the last two are oneDNN's words, seen where a limit on memory was met in a convolution.
_WORDS = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "std::bad_alloc",
    "could not create a primitive",
    "could not create a memory",
)


def shortage(work: Callable[[], object]) -> str | None:
    """Do something and return None; where memory runs out, why. Nothing of what had been computed is held any longer then."""
    try:
        work()
    except (MemoryError, RuntimeError) as error:
        if not is_shortage(error):
            raise
        return (str(error) or type(error).__name__).splitlines()[0]
    return None


def is_shortage(error: BaseException) -> bool:
    """Say whether an error means that memory ran out: Python's, the CPU allocator's and a device's alike."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(word in text for word in _WORDS))


def begin_again(where: str, reason: str, now: str) -> None:
    """Give back what nobody holds, and say that it goes on with less.

    Args:
        where: it ran out.
        reason: as the error has it.
        now: what is done from here on.
    """
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    print(f"\nscribbleseg: {where}: memory ran out ({reason[:200]}): {now}", file=sys.stderr, flush=True)
