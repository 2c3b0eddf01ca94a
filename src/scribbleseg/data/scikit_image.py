"""Scikit-image, which some extras bring."""

from __future__ import annotations

import importlib
from types import ModuleType

from scribbleseg.errors import ConfigError


def require(part: str, *, where: str, what: str, extra: str, instead: str) -> ModuleType:
    """Return a module of scikit-image.

    Args:
        part: the module, as ``segmentation``.
        where: the setting that needs it.
        what: it computes.
        extra: of ours that brings it.
        instead: what can be done without it.

    Raises:
        ConfigError: scikit-image is not installed.
    """
    try:
        return importlib.import_module(f"skimage.{part}")
    except ImportError:
        do = f"pip install 'scribbleseg[{extra}]', or {instead}"
        raise ConfigError(where, f"scikit-image, which computes {what}", "not installed", do) from None
