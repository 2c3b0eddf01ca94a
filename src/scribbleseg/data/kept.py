"""Samples kept in memory, so that a picture is read and shrunk once and not each time it is shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from scribbleseg.records import Sample


class KeptSamples:
    """Samples by the name of their image, as many as there is room for.

    Those that come first stay. Each epoch shows all images in a new order: to make room for one by leaving out what was shown
    longest ago would gain nothing.

    Args:
        room: bytes.
    """

    def __init__(self, room: int) -> None:
        self.room = room
        self._kept: dict[str, Sample] = {}

    def get(self, stem: str, read: Callable[[], Sample]) -> Sample:
        """Return an image's sample, read if it is not kept. It is others' too: what changes it makes a new one."""
        kept = self._kept.get(stem)
        if kept is not None:
            return replace(kept, labels=kept.labels.long())
        sample = read()
        small = replace(sample, labels=sample.labels.to(torch.int16))  # a quarter of the memory; class ids end at 255
        if (size := _bytes(small)) <= self.room:
            self.room -= size
            self._kept[stem] = small
        return sample


def _bytes(sample: Sample) -> int:
    """Return the memory of a sample whose two pictures are one tensor, as they are before their colours are varied."""
    return sum(part.numel() * part.element_size() for part in (sample.image, sample.labels, sample.valid))
