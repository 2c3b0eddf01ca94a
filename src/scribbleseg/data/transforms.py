"""Joint augmentation: Sample → Sample, each draw from the generator that is passed in.

A transform is a partial of a function of this module, so that worker processes can be sent one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from scribbleseg.config import DataConfig
from scribbleseg.records import UNLABELLED, Sample

Transform = Callable[[Sample, Generator], Sample]


def uniform(generator: Generator, low: float, high: float) -> float:
    """Draw one number."""
    return low + (high - low) * float(torch.rand((), generator=generator))


def integer(generator: Generator, below: int) -> int:
    """Draw one integer from 0 to ``below`` − 1."""
    return int(torch.randint(max(1, below), (), generator=generator))


def resize(sample: Sample, factor: float) -> Sample:
    """Zoom by a factor: pictures bilinear (antialiased), labels by their nearest pixel."""
    height, width = sample.labels.shape
    size = (max(1, round(height * factor)), max(1, round(width * factor)))

    def smooth(x: Tensor) -> Tensor:
        return F.interpolate(x[None], size, mode="bilinear", align_corners=False, antialias=factor < 1)[0].clamp_(0, 1)

    def nearest(x: Tensor) -> Tensor:
        return F.interpolate(x[None, None].float(), size, mode="nearest-exact")[0, 0].to(x.dtype)

    whole = bool(sample.valid.all())
    return _mapped(
        sample, smooth, labels=nearest(sample.labels), valid=sample.valid.new_ones(size) if whole else nearest(sample.valid)
    )


def _mapped(sample: Sample, change: Callable[[Tensor], Tensor], *, labels: Tensor, valid: Tensor) -> Sample:
    """Change the pictures, once where they are the same tensor."""
    image = change(sample.image)
    rgb = image if sample.rgb is sample.image else change(sample.rgb)
    return replace(sample, image=image, rgb=rgb, labels=labels, valid=valid)


def resize_longest(sample: Sample, longest_px: int) -> Sample:
    """Zoom so that the longer side has this length; 0 leaves the sample alone."""
    longest = max(sample.labels.shape)
    return sample if longest_px in (0, longest) else resize(sample, longest_px / longest)


def random_scale(low: float, high: float) -> Transform:
    """Zoom by a factor drawn evenly in the logarithm."""
    return partial(_scale, low, high)


def _scale(low: float, high: float, sample: Sample, generator: Generator) -> Sample:
    return resize(sample, low * (high / low) ** uniform(generator, 0.0, 1.0))


def random_flip(chance: float) -> Transform:
    """Mirror left and right."""
    return partial(_flip, chance)


def _flip(chance: float, sample: Sample, generator: Generator) -> Sample:
    if uniform(generator, 0.0, 1.0) >= chance:
        return sample
    return _mapped(sample, lambda x: x.flip(-1), labels=sample.labels.flip(-1), valid=sample.valid.flip(-1))


def pad(sample: Sample, height: int, width: int) -> Sample:
    """Pad below and to the right to at least this size; padding is mid-grey, unlabelled and not valid."""
    below, right = max(0, height - sample.labels.shape[0]), max(0, width - sample.labels.shape[1])
    if not below and not right:
        return sample
    margin = (0, right, 0, below)
    return replace(
        sample,
        image=F.pad(sample.image, margin, value=0.5),
        rgb=F.pad(sample.rgb, margin, value=0.5),
        labels=F.pad(sample.labels, margin, value=UNLABELLED),
        valid=F.pad(sample.valid, margin, value=False),
    )


def crop(sample: Sample, top: int, left: int, size: int) -> Sample:
    """Cut a square out; a copy, so that the whole picture can be let go before its batch is full."""

    def cut(x: Tensor) -> Tensor:
        return x[..., top : top + size, left : left + size].contiguous()

    return _mapped(sample, cut, labels=cut(sample.labels), valid=cut(sample.valid))


def random_crop(size: int, tries: int = 10) -> Transform:
    """Cut a square that keeps some labelled pixels.

    Up to ``tries`` places are drawn; if none has a labelled pixel the square is put around one. An image without any
    keeps the last place drawn.
    """
    return partial(_crop, size, tries)


def _crop(size: int, tries: int, sample: Sample, generator: Generator) -> Sample:
    sample = pad(sample, size, size)
    top, left = place(sample.labels, size, tries, generator)
    return crop(sample, top, left, size)


def place(labels: Tensor, size: int, tries: int, generator: Generator) -> tuple[int, int]:
    """Return top and left of a square with labelled pixels, if there are any."""
    height, width = labels.shape
    for _ in range(tries):
        top, left = integer(generator, height - size + 1), integer(generator, width - size + 1)
        if bool((labels[top : top + size, left : left + size] != UNLABELLED).any()):
            return top, left
    drawn = torch.nonzero(labels != UNLABELLED)
    if len(drawn):
        y, x = drawn[integer(generator, len(drawn))].tolist()
        top = min(max(0, y - integer(generator, size)), height - size)
        left = min(max(0, x - integer(generator, size)), width - size)
    return top, left


def colour_jitter(strength: float) -> Transform:
    """Vary brightness, contrast and saturation of ``image``; ``rgb`` keeps the true colours."""
    return partial(_jitter, strength)


def _jitter(strength: float, sample: Sample, generator: Generator) -> Sample:
    image = sample.image * uniform(generator, 1 - strength, 1 + strength)
    mean = image.mean()
    image.sub_(mean).mul_(uniform(generator, 1 - strength, 1 + strength)).add_(mean)
    grey = image.mean(0, keepdim=True)
    image.sub_(grey).mul_(uniform(generator, 1 - strength, 1 + strength)).add_(grey)
    return replace(sample, image=image.clamp_(0, 1))


def random_view(scale: tuple[float, float], chance: float, size: int, tries: int = 10) -> Transform:
    """Zoom, mirror and cut as :func:`random_scale`, :func:`random_flip` and :func:`random_crop` do one after the other.

    The draws and the outcome are theirs, bit for bit. Only labels are zoomed whole, to find the place; of the pictures only
    what lies above and to the left of the square's far corner, and only the square is mirrored.
    """
    return partial(_view, scale, chance, size, tries)


def _view(scale: tuple[float, float], chance: float, size: int, tries: int, sample: Sample, generator: Generator) -> Sample:
    factor = scale[0] * (scale[1] / scale[0]) ** uniform(generator, 0.0, 1.0)
    mirrored = uniform(generator, 0.0, 1.0) < chance
    height, width = (max(1, round(side * factor)) for side in sample.labels.shape)

    def whole(x: Tensor) -> Tensor:
        zoomed = F.interpolate(x[None, None].float(), (height, width), mode="nearest-exact")[0, 0].to(torch.uint8)
        return zoomed.flip(-1) if mirrored else zoomed

    labels = whole(sample.labels)
    margin = (0, max(0, size - width), 0, max(0, size - height))
    padded = F.pad(labels, margin, value=UNLABELLED)
    top, left = place(padded, size, tries, generator)
    bottom, right = min(top + size, height), min(left + size, width)
    first, last = (width - right, width - left) if mirrored else (left, right)
    border = (0, size - (right - left), 0, size - (bottom - top))

    def cut(x: Tensor) -> Tensor:
        part = _zoomed_corner(x, (height, width), bottom, last, antialias=factor < 1)[:, top:, first:].clamp_(0, 1)
        return F.pad(part.flip(-1) if mirrored else part, border, value=0.5).contiguous()

    known = sample.valid.new_ones(bottom - top, right - left)
    if not bool(sample.valid.all()):
        known = whole(sample.valid)[top:bottom, left:right].bool()
    square = padded[top : top + size, left : left + size].to(sample.labels.dtype)
    return _mapped(sample, cut, labels=square, valid=F.pad(known, border, value=False))


def _zoomed_corner(x: Tensor, size: tuple[int, int], bottom: int, right: int, *, antialias: bool) -> Tensor:
    """Return the first rows and columns of a picture zoomed to a size: the same numbers as if all of it had been computed.

    Torch computes each pixel from its own place and the scale alone, where it is told the scale. That is a double whose inverse
    it rounds to single precision; where that is not the quotient that it takes of two sizes, all is computed. One row or column
    more is computed where the part has as many as the picture, which it then copies whatever the scale, or a single one.
    Enlarging is three times as fast, and the same, where the colours of a pixel lie side by side.
    """
    old = (x.shape[-2], x.shape[-1])
    scales = [new / before for new, before in zip(size, old, strict=True)]
    same = all(np.float32(1 / s) == np.float32(b) / np.float32(n) for s, b, n in zip(scales, old, size, strict=True))
    parts = zip((bottom, right), old, size, strict=True)
    wanted = [min(part + 1, new) if part in (1, before) else part for part, before, new in parts] if same else list(size)
    if antialias:
        zoomed: Tensor = torch.ops.aten._upsample_bilinear2d_aa(x[None], wanted, False, *(scales if same else (None, None)))
    else:
        x = x[None].contiguous(memory_format=torch.channels_last)
        zoomed = torch.ops.aten.upsample_bilinear2d(x, wanted, False, *(scales if same else (None, None)))
    return zoomed[0, :, :bottom, :right]


def training_transforms(config: DataConfig) -> list[Transform]:
    """Return the augmentation of a run: zoom, mirror, crop, colour."""
    return [random_view(config.scale, config.flip, config.crop_px), colour_jitter(config.colour)]
