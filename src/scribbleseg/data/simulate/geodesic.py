"""Two to four places joined by the cheapest paths that keep away from the border."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from scribbleseg.data.simulate.region import Region, centre_of, scikit_image, smoothed

#: Keeps clear of the border: a step through a pixel at distance d from it costs 1 + (BORDER_COST / d)².
BORDER_COST = 8.0

#: In a larger region a stroke stays within a window of this side, px.
WINDOW_PX = 160

#: How uneven the ground is, so that ways bend as a hand does instead of following the grid: log-costs' spread, and grain in px.
UNEVEN, GRAIN_PX = 0.4, 14.0


def geodesic(region: Region, rng: np.random.Generator, width_px: float) -> list[np.ndarray]:
    """Draw one line through two to four places, each likelier far from the border, along paths that avoid it.

    As the protocol *geodesic-1*, with which the project's own comparisons were made; here the places are visited in turn, the
    nearest first, the ground is uneven and the grid's corners are smoothed away: else the ways run straight or at 45°.
    """
    first = region.place(rng)
    near = np.zeros(region.inside.shape)
    half = WINDOW_PX // 2
    near[max(first[0] - half, 0) : first[0] + half, max(first[1] - half, 0) : first[1] + half] = 1
    places = [region.place(rng, near) for _ in range(int(rng.integers(1, 4)))]
    return [smoothed(path_through(region, first, places, rng), 7.0)]


def path_through(region: Region, first: tuple[int, int], places: list[tuple[int, int]], rng: np.random.Generator) -> np.ndarray:
    """Return the points of the cheapest path from a pixel through others of its region, the nearest next."""
    cost = np.full(region.inside.shape, -1.0)
    ground = ndimage.gaussian_filter(rng.normal(size=cost.shape), GRAIN_PX)
    ground *= UNEVEN * 2 * np.sqrt(np.pi) * GRAIN_PX  # to a spread of UNEVEN
    cost[region.inside] = np.exp(ground[region.inside]) * (1 + (BORDER_COST / region.depth[region.inside]) ** 2)
    at, left, pixels = first, list(places), [first]
    while left:
        at_, left_ = np.array(at), np.array(left)
        nearest = int(np.argmin(np.hypot(*(left_ - at_).T)))
        goal = left.pop(nearest)
        search = scikit_image("graph").MCP_Geometric(cost)
        search.find_costs([at], [goal])
        pixels += search.traceback(goal)[1:]
        at = goal
    return centre_of(np.array(pixels))
