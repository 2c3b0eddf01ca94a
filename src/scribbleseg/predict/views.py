"""Looking at a picture more than once: mirrored, and at other sizes; the probabilities are averaged."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from scribbleseg.errors import ConfigError, nearest

#: Which axes each look at a window turns round.
FLIPS: dict[str, tuple[tuple[int, ...], ...]] = {
    "none": ((),),
    "horizontal": ((), (-1,)),
    "vertical": ((), (-2,)),
    "both": ((), (-1,), (-2,), (-2, -1)),
}

#: Sizes beyond these show a network what it has never seen, and more looks than this take forever.
SMALLEST, LARGEST, MOST = 0.25, 4.0, 16

Run = Callable[[Float[Tensor, "B 3 H W"]], Float[Tensor, "B C H W"]]


@dataclass(frozen=True)
class Views:
    """How often a window is looked at, and how.

    Attributes:
        flips: a name of ``FLIPS``: ``horizontal`` adds the mirror image, ``both`` all four ways.
        scales: sizes that each window is brought to, as multiples of its own.

    Raises:
        ConfigError: no such flips, or scales that make no sense.
    """

    flips: str = "none"
    scales: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if self.flips not in FLIPS:
            raise ConfigError("--flips", f"one of {', '.join(FLIPS)}", f"'{self.flips}'", nearest(self.flips, FLIPS))
        sound = all(math.isfinite(s) and SMALLEST <= s <= LARGEST for s in self.scales)
        if not sound or not 1 <= len(set(self.scales)) == len(self.scales) <= MOST:
            got = ", ".join(f"{s:g}" for s in self.scales) or "none"
            do = "give some around 1, as 0.75,1,1.25"
            raise ConfigError("--scales", f"1 to {MOST} different sizes from {SMALLEST:g} to {LARGEST:g}", got, do)

    @property
    def number(self) -> int:
        """How often the network runs for a window."""
        return len(FLIPS[self.flips]) * len(self.scales)


#: As it is, once.
ONCE = Views()


def averaged(run: Run, views: Views) -> Run:
    """Return a function that gives the mean of what ``run`` says about all views of a window.

        p(x) = 1/N Σ_s Σ_f f⁻¹ s⁻¹ p(s f x)

    Each window is turned and resized by itself, so large pictures are seen as small ones are, and memory stays that of one
    window. With ``horizontal`` the mirror image of a picture that fits the window gets the mirrored probabilities.

    Cost: ``views.number`` runs, each times the square of its scale.
    """
    if views == ONCE:
        return run

    def look(windows: Tensor) -> Tensor:
        size = windows.shape[-2:]
        total: Tensor | None = None
        for scale in views.scales:
            other = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
            seen = windows if other == tuple(size) else _resized(windows, other, antialias=scale < 1)
            for axes in FLIPS[views.flips]:
                probs = run(seen.flip(axes)).float().flip(axes) if axes else run(seen).float()
                probs = probs if other == tuple(size) else _resized(probs, (size[0], size[1]))
                total = probs if total is None else total + probs
        assert total is not None
        return total / views.number

    return look


def _resized(values: Tensor, size: tuple[int, int], antialias: bool = False) -> Tensor:
    return F.interpolate(values, size, mode="bilinear", align_corners=False, antialias=antialias)


def parse_scales(text: str) -> tuple[float, ...]:
    """Return the numbers of ``0.75,1,1.25``.

    Raises:
        ConfigError: one is none.
    """
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise ConfigError("--scales", "numbers, as 0.75,1,1.25", f"'{text[:60]}'", "separate them by commas") from None
