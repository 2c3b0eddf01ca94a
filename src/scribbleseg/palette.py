"""Class colours that people with any colour vision can tell apart, and pictures made with them."""

from __future__ import annotations

import numpy as np

from scribbleseg.records import UNLABELLED

#: Okabe and Ito's colours, the first for class 0 a quiet grey (mostly background). From class 8 on, hues by golden angle.
_OKABE_ITO = (
    (153, 153, 153),
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)


def class_colours(num_classes: int) -> np.ndarray:
    """Return uint8 (C, 3)."""
    colours = [np.array(c) for c in _OKABE_ITO[:num_classes]]
    for k in range(len(colours), num_classes):
        hue = (k * 0.618034) % 1.0
        wheel = np.abs((hue * 6 + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1
        colours.append(255 * (0.25 + 0.65 * np.clip(wheel, 0, 1)))
    return np.array(colours).round().astype(np.uint8)


def hex_colours(num_classes: int) -> list[str]:
    """Return the colours as ``#rrggbb``."""
    return ["#{:02x}{:02x}{:02x}".format(*map(int, c)) for c in class_colours(num_classes)]


def blend(rgb: np.ndarray, labels: np.ndarray, opacity: float = 0.55) -> np.ndarray:
    """Lay class colours over a picture.

    Args:
        rgb: float (H, W, 3) in [0, 1].
        labels: class ids (H, W); 255 shows the picture.
        opacity: of the colours.

    Returns:
        uint8 (H, W, 3).
    """
    known = labels != UNLABELLED
    table = class_colours(int(labels[known].max(initial=0)) + 1) / 255.0
    colour = table[np.where(known, labels, 0)]
    share = np.where(known, opacity, 0.0)[..., None]
    return (255 * (rgb * (1 - share) + colour * share)).round().clip(0, 255).astype(np.uint8)
