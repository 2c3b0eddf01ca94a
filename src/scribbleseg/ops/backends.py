"""Ways to compute one op: the same numbers on other hardware, picked from an ordered table."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import torch

from scribbleseg.errors import ConfigError, nearest


@dataclass(frozen=True)
class Backend:
    """One way to compute an op. ``why_not`` returns a reason for not using it on a device, or None."""

    run: Callable[..., Any]
    why_not: Callable[[torch.device], str | None]


def choose(op: str, backends: Mapping[str, Backend], name: str | None, device: torch.device) -> str:
    """Return the name of the backend to use: the one asked for, or the first that runs on the device.

    Raises:
        ConfigError: an unknown name, or one that cannot run here; the message says why.
    """
    if name is None:
        return next(known for known, backend in backends.items() if backend.why_not(device) is None)
    if name not in backends:
        raise ConfigError(op, "a known backend", name, nearest(name, backends))
    reason = backends[name].why_not(device)
    if reason is not None and not reason.startswith(BY_NAME_ONLY):
        raise ConfigError(op, f"a backend that runs on {device}", f"'{name}': {reason}", "choose another, or leave it out")
    return name


#: How a reason begins that keeps a backend from being picked, but not from being asked for.
BY_NAME_ONLY = "by name only"


def reference_only(device: torch.device) -> str | None:
    """Say why a definition is never picked by itself."""
    return f"{BY_NAME_ONLY}: the definition, O(P²)"


@cache
def compiled(name: str) -> ModuleType | None:
    """Return a module of the optional distribution ``scribbleseg-kernels``, or None where it is not installed."""
    try:
        return importlib.import_module(f"scribbleseg_kernels.{name}")
    except ImportError:
        return None


def why_not_compiled(name: str) -> Callable[[torch.device], str | None]:
    """Return the ``why_not`` of a compiled CPU kernel."""

    def why_not(device: torch.device) -> str | None:
        if device.type != "cpu":
            return f"runs on the CPU, not on {device.type}"
        return None if compiled(name) is not None else "scribbleseg-kernels is not installed: pip install ./kernels"

    return why_not


def why_not_triton(device: torch.device) -> str | None:
    """Say why the Triton kernels cannot run on a device. Triton's interpreter runs them anywhere, slowly, for tests."""
    try:
        from triton import knobs
    except ImportError:
        return "triton is not installed: it comes with the CUDA build of PyTorch"
    if device.type == "cuda":
        return None
    return f"{BY_NAME_ONLY}: interpreted, for tests" if knobs.runtime.interpret else f"runs on CUDA, not on {device.type}"
