"""Which device a network runs on."""

from __future__ import annotations

import torch

from scribbleseg.errors import ConfigError


def pick_device(name: str) -> torch.device:
    """Return the named device, or the best one here for ``auto``.

    Raises:
        ConfigError: no such device, or not on this machine.
    """
    if name != "auto":
        try:
            device = torch.device(name)
            torch.empty(1, device=device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(
                "--device", "auto, or a device of this machine", f"{name}: {reason}", "see `scribbleseg doctor`"
            ) from None
        return device
    return torch.device("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")
