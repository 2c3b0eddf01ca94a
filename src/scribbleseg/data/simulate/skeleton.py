"""A way along the middle of the region, shifted and turned a little."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.sparse.csgraph import dijkstra

from scribbleseg.data.simulate.region import Region, centre_of, scikit_image, smoothed
from scribbleseg.data.strokes import graph_of
from scribbleseg.records import UNLABELLED

#: Regions of more pixels are eroded before, and larger ones than the second are shifted and turned after.
ERODED_FROM, MOVED_FROM = 900, 1000


def skeleton(region: Region, rng: np.random.Generator, width_px: float) -> list[np.ndarray]:
    """Draw one way through the skeleton of the eroded region, from one of its ends to another, the farther the likelier.

    Reference: HiLab-git/WSL4MIS, ``scribbles_generator.py``: 4 to 10 erosions above 900 px, a walk that turns at random at
    forks, a shift of up to 6 px and a turn of up to 15° above 1000 px. There the background is given its whole skeleton with
    all branches, which no hand draws; here it is drawn as any other class.
    """
    inside = region.inside
    if region.area > ERODED_FROM:
        for times in range(int(rng.integers(4, 11)), 0, -1):
            eroded = ndimage.binary_erosion(inside, np.ones((3, 3)), times)
            if eroded.any():
                inside = eroded
                break
    middle = scikit_image("morphology").skeletonize(inside, method="lee") > 0
    pixels, component, graph = graph_of(np.where(middle, 0, UNLABELLED).astype(np.uint8))
    if not len(pixels):
        return [centre_of(np.array([region.place(rng)]))]
    largest = np.flatnonzero(component == np.bincount(component).argmax())
    neighbours = np.diff(graph.indptr)[largest]
    ends = largest[neighbours == 1] if (neighbours == 1).any() else largest[:1]
    distance, before = dijkstra(graph, indices=int(rng.choice(ends)), return_predecessors=True)
    goals = ends if len(ends) > 1 else largest
    reach = distance[goals] ** 2
    at = int(rng.choice(goals, p=reach / reach.sum())) if reach.sum() > 0 else int(goals[0])
    way = []
    while at >= 0:
        way.append(at)
        at = int(before[at])
    line = smoothed(centre_of(np.stack(np.divmod(pixels[way], inside.shape[1]), axis=1)), 3.0)
    if region.area > MOVED_FROM:
        line = moved(line, rng.uniform(-6, 6, 2), rng.uniform(-0.268, 0.268))
    return [line]


def moved(line: np.ndarray, shift: np.ndarray, slope: float) -> np.ndarray:
    """Return a line shifted (px) and turned around its middle by the angle of a slope."""
    cos = 1 / np.sqrt(1 + slope * slope)
    turn = cos * np.array([[1, slope], [-slope, 1]])
    middle = line.mean(axis=0)
    return (line - middle) @ turn + middle + shift
