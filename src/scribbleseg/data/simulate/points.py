"""One click in every region."""

from __future__ import annotations

import numpy as np

from scribbleseg.data.simulate.region import Region, centre_of


def points(region: Region, rng: np.random.Generator, width_px: float) -> list[np.ndarray]:
    """Draw a dot, likelier far from the border.

    Reference: the clicks of Bearman et al., *What's the Point*, ECCV 2016. Readers of those files draw them 1 px wide, or 6: a
    silent difference; here they are as wide as the brush.
    """
    return [centre_of(np.array([region.place(rng)]))]
