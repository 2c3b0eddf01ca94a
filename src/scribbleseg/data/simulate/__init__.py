"""Strokes simulated from dense masks: a style is a function from a region to lines, one file each.

A new style is a file here and a line in ``STYLES``; what every style shares (which regions, no wrong pixel, the same strokes
whatever the order) is in :mod:`scribbleseg.data.simulate.image`.
"""

from scribbleseg.data.simulate.border import border
from scribbleseg.data.simulate.curve import curve
from scribbleseg.data.simulate.geodesic import geodesic
from scribbleseg.data.simulate.person import person
from scribbleseg.data.simulate.points import points
from scribbleseg.data.simulate.region import Style
from scribbleseg.data.simulate.skeleton import skeleton
from scribbleseg.data.simulate.straight import straight
from scribbleseg.data.simulate.walk import walk

STYLES: dict[str, Style] = {
    "border": border,
    "curve": curve,
    "geodesic": geodesic,
    "person": person,
    "points": points,
    "skeleton": skeleton,
    "straight": straight,
    "walk": walk,
}

__all__ = ["STYLES"]
