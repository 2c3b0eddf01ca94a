"""Libraries that only an extra of ours brings: imported where they are needed, or one message says what to install."""

from __future__ import annotations

import importlib
from typing import Any

from scribbleseg.errors import ConfigError, ScribblesegError

#: What a library is called where its module has another name.
_CALLED = {"skimage": "scikit-image"}


def library(
    module: str,
    where: object,
    what: str,
    extra: str,
    *,
    instead: str = "",
    error: type[ScribblesegError] = ConfigError,
) -> Any:
    """Return a module of a library that an extra brings.

    Args:
        module: to import, as ``skimage.segmentation``.
        where: the file, setting or command that needs it.
        what: it does there, as ``which reads NIfTI``.
        extra: of ours that brings it.
        instead: what can be done without it.
        error: kind of error; a ``DataError`` where one file among many is concerned.

    Raises:
        ConfigError: it is not installed (or what ``error`` says).
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        do = f'pip install "scribbleseg[{extra}]"' + (f", or {instead}" if instead else "")
        raise error(where, f"the library {_CALLED.get(package, package)}, {what}", "not installed", do) from None
