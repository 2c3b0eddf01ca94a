"""Adding up what images have added."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from scribbleseg.metrics import counts
from scribbleseg.metrics.bootstrap import Replicates
from scribbleseg.metrics.image import BORDER_PX, ImageScores
from scribbleseg.records import DistanceSums, Scores


def gather(names: tuple[str, ...], images: Iterable[ImageScores]) -> Scores:
    """Return the scores of images, which depend on their order in the last bits of a sum alone.

    Cost: 0.1 ms an image; beside its row of numbers (0.3 kB) memory does not grow with them.
    """
    num_classes = len(names)
    confusion = np.zeros((num_classes, num_classes), np.int64)
    border, boundary = np.zeros_like(confusion), np.zeros((2, num_classes), np.int64)
    px, mm, all_mm = np.zeros((num_classes, 4)), np.zeros((num_classes, 4)), True
    reliability: np.ndarray | None = None
    replicates = Replicates(num_classes)
    rows: list[dict[str, Any]] = []
    volumes: dict[str, np.ndarray] = {}
    for image in images:
        confusion += image.confusion
        border += image.border
        boundary += image.boundary
        px += image.px
        all_mm &= image.mm is not None
        mm += 0 if image.mm is None else image.mm
        if image.reliability is not None:
            reliability = image.reliability + (0 if reliability is None else reliability)
        rows.append(image.row)
        replicates.add(image.stem if image.volume is None else image.volume, image.confusion)
        if image.volume is not None:
            volumes[image.volume] = volumes.get(image.volume, 0) + image.confusion
    per_volume = ({"volume": v} | dict(zip(names, counts.dice(c).tolist(), strict=True)) for v, c in volumes.items())
    return Scores(
        names=names,
        confusion=confusion,
        border_confusion=border,
        border_px=BORDER_PX,
        boundary=boundary,
        distances=DistanceSums("mm", mm) if all_mm and mm.any() else DistanceSums("px", px),
        reliability=reliability if reliability is not None and reliability[0].any() else None,
        replicates=replicates.confusion,
        per_image=tuple(rows),
        per_volume=tuple(per_volume),
    )
