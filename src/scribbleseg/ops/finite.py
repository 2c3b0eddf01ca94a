"""The check that an op makes on request: are all inputs finite?"""

from __future__ import annotations

import torch
from torch import Tensor

from scribbleseg.errors import DataError


def check_finite(op: str, **inputs: Tensor | None) -> None:
    """Look at every value of floating-point inputs.

    Raises:
        DataError: a NaN or an infinity; the message names the input, how many there are and where the first one is.
    """
    for name, x in inputs.items():
        if x is None or not x.is_floating_point():
            continue
        bad = ~torch.isfinite(x)
        if bool(bad.any()):
            first = bad.nonzero()[0].tolist()
            got = f"{int(bad.sum())} values that are not, the first ({float(x[tuple(first)])}) at {first}"
            raise DataError(f"{op}, {name}", "finite values", got, "look at the layer or the image they come from")
