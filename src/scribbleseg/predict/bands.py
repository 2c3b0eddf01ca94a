"""Reading and predicting a picture band by band, so that one of any size fits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from scribbleseg.data.images import Image, Window
from scribbleseg.data.intensity import Ranges, rgb_of
from scribbleseg.errors import DataError
from scribbleseg.models.folder import TrainedModel
from scribbleseg.predict.views import ONCE, Views, averaged
from scribbleseg.predict.windows import hill, refined_probabilities, weight_of, weighted_sum, window_starts

#: A picture of more pixels is read and predicted band by band.
LARGE_PIXELS = 2**25


class Piece(NamedTuple):
    """What is read at a time.

    Attributes:
        number: of the slice.
        top: first row.
        rgb: float32 (h, W, 3) in [0, 1]; pieces overlap as windows do.
    """

    number: int
    top: int
    rgb: np.ndarray


class Band(NamedTuple):
    """What is predicted at a time; the bands of a picture follow one another without overlap.

    Attributes:
        number: of the slice.
        top: first row.
        rgb: float32 (h, W, 3) in [0, 1].
        labels: the most probable class, uint8 (h, W).
        probs: float32 (C, h, W), on the CPU; None where nobody asked.
    """

    number: int
    top: int
    rgb: np.ndarray
    labels: np.ndarray
    probs: np.ndarray | None


def in_bands(model: TrainedModel, image: Image, limit: int) -> bool:
    """Say whether a picture is read and predicted band by band: if it has more pixels than ``limit``.

    A network that wants pictures of one size gets them whole.
    """
    return image.shape[0] * image.shape[1] > limit and not model.longest_px


def pieces(
    model: TrainedModel, image: Image, number: int, ranges: Ranges | None = None, limit: int | None = None
) -> Iterator[Piece]:
    """Yield the pieces of a picture: the whole of it, or rows of windows of a large one."""
    limit = LARGE_PIXELS if limit is None else limit
    if not in_bands(model, image, limit):
        yield Piece(number, 0, rgb_of(image, model.reading, index=number, ranges=ranges))
        return
    height, width, _ = image.shape
    high = min(height, model.window_px)
    for top in window_starts(height, model.window_px):
        yield Piece(number, top, rgb_of(image, model.reading, Window(top, 0, high, width), number, ranges))


def predicted(
    model: TrainedModel,
    height: int,
    read: Iterable[Piece],
    *,
    refine: str | None = None,
    views: Views = ONCE,
    keep: bool = False,
) -> Iterator[Band]:
    """Yield the bands of one picture from its :func:`pieces`.

    Args:
        model: the network.
        height: of the picture.
        read: its pieces.
        refine: a name of :data:`scribbleseg.refine.REFINEMENTS`, for a picture in one piece.
        views: see :class:`~scribbleseg.predict.views.Views`.
        keep: whether bands have probabilities.

    Cost: memory for the windows' height times the picture's width, in every class.
    """
    bands = _Bands(model, height, views)
    for piece in read:
        if len(piece.rgb) == height:
            yield band_of(piece, refined_probabilities(model, piece.rgb, refine, views), keep)
        else:
            assert refine is None
            yield bands.add(piece, keep)


def band_of(piece: Piece, probs: Tensor, keep: bool) -> Band:
    """Return the band of a piece and what the network says of its first rows."""
    labels = probs.argmax(0).to(torch.uint8).cpu().numpy()
    kept = probs.float().cpu().numpy() if keep else None
    return Band(piece.number, piece.top, piece.rgb[: len(labels)], labels, kept)


class _Bands:
    """Adds rows of windows; a band is done as soon as no further window reaches it."""

    def __init__(self, model: TrainedModel, height: int, views: Views) -> None:
        self._model, self._height, self._views = model, height, views
        tops = window_starts(height, model.window_px)
        self._following = dict(zip(tops, [*tops[1:], height], strict=True))
        self._total: Tensor | None = None
        self._mass = torch.zeros(0)

    @torch.inference_mode()
    def add(self, piece: Piece, keep: bool) -> Band:
        """Predict a row of windows, and return the rows that are done by it."""
        network, window = self._model.segmenter, self._model.window_px
        high, width, _ = piece.rgb.shape
        run = averaged(network.probabilities, self._views)
        image = torch.from_numpy(piece.rgb.transpose(2, 0, 1))[None]  # stays on the CPU, for its sum may be large
        lefts = window_starts(width, window)
        if self._total is None:
            self._total, self._mass = torch.zeros(1, len(self._model.names), high, width), torch.zeros(high)
            self._across = torch.zeros(width)
            for x in lefts:
                self._across[x : x + window] += hill(min(window, width))
        total = self._total

        def on_device(windows: Tensor) -> Tensor:
            return run(windows.to(network.mean.device)).float().cpu()

        weighted_sum(on_device, image, [(0, x) for x in lefts], weight_of(image, window), total)
        self._mass += hill(high)
        done = self._following[piece.top] - piece.top
        probs = total[0, :, :done] / torch.outer(self._mass[:done], self._across)
        left = high - done
        for plane in (self._mass, *total[0]):  # plane by plane: a second copy of all would double the memory
            plane[:left] = plane[done:].clone()
            plane[left:] = 0
        return band_of(piece, probs, keep)


def predicted_bands(
    model: TrainedModel,
    image: Image,
    number: int,
    ranges: Ranges | None = None,
    refine: str | None = None,
    views: Views = ONCE,
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield the first row, the colours and the classes of one band of a picture after the other.

    A picture of up to ``LARGE_PIXELS`` is one band. A larger one is read and predicted in rows of windows, the same
    windows that :func:`~scribbleseg.predict.windows.probabilities` lays over it; so a pixel's class does not depend on it.

    Cost: memory for the windows' height times the picture's width, besides what its format reads at once.
    """
    if refine is not None:
        refuse_to_refine(model, image)
    read = pieces(model, image, number, ranges)
    for band in predicted(model, image.shape[0], read, refine=refine, views=views):
        yield band.top, band.rgb, band.labels


def refuse_to_refine(model: TrainedModel, image: Image) -> None:
    """Say that a picture is too large to be refined, if it is.

    Raises:
        DataError: it is.
    """
    if in_bands(model, image, LARGE_PIXELS):
        got = f"{image.shape[1]} × {image.shape[0]}"
        raise DataError(image.path, f"at most {LARGE_PIXELS} pixels to refine", got, "predict it without --refine")


def predict_large(
    model: TrainedModel,
    image: Image,
    number: int,
    ranges: Ranges | None = None,
    refine: str | None = None,
    views: Views = ONCE,
) -> np.ndarray:
    """Return the most probable class of every pixel, uint8 (H, W), of a picture that is read and predicted band by band."""
    mask = np.empty(image.shape[:2], np.uint8)
    for top, _, rows in predicted_bands(model, image, number, ranges, refine, views):
        mask[top : top + len(rows)] = rows
    return mask
