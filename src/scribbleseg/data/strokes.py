"""Shorter, fewer and wrong strokes: the field's tests of how much a method depends on the hand that drew.

A stroke is an 8-connected component of one class in a label map. Where two strokes of one class cross they are one; where a
later stroke of another class cuts an earlier one in two, the pieces are two.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components, dijkstra

from scribbleseg.config import DataConfig, StrokesConfig
from scribbleseg.data.folder import Dataset
from scribbleseg.errors import ConfigError
from scribbleseg.records import UNLABELLED, Stroke


def with_strokes(dataset: Dataset, config: DataConfig) -> Dataset:
    """Return the data set whose scribbles are read as ``strokes`` wants them. What an image gets depends on its stem alone.

    Raises:
        ConfigError: strokes are to be changed where none are read, or drawn again where there are no vectors.
    """
    wanted = config.strokes
    if not wanted.changes_any:
        return dataset
    if config.labels == "masks":
        numbers = {"width_px": wanted.width_px, "length": wanted.length, "drop": wanted.drop, "wrong": wanted.wrong}
        got = "labels: masks, and " + ", ".join(f"{name} {number:g}" for name, number in numbers.items())
        do = "take data.strokes out, or train on --labels scribbles"
        raise ConfigError("data.strokes", "labels that are made of strokes: scribbles or random_walker", got, do)
    if wanted.width_px:
        if dataset.spec.strokes is None:
            do = "name the folder in dataset.yaml, or take data.strokes.width_px out"
            raise ConfigError("data.strokes.width_px", "a data set with a `strokes` folder of vectors", "none named", do)
        dataset = replace(dataset, width_px=wanted.width_px)
        if (wanted.length, wanted.drop, wanted.wrong) == (1, 0, 0):
            return dataset
    return replace(dataset, redraw=partial(redraw, config=wanted, num_classes=len(dataset.names)))


def redraw(labels: np.ndarray, stem: str, *, config: StrokesConfig, num_classes: int) -> np.ndarray:
    """Shorten, drop and mislabel the strokes of an image.

    Each acts on the strokes as they were drawn, with random numbers of its own that (``config.seed``, stem) decides: which
    strokes are lost does not depend on how long they are, and those lost at a small share are lost at a larger one.
    """
    kept = shorten(labels, config.length) != UNLABELLED
    if config.drop:
        kept &= drop(labels, config.drop, generator_for(config.seed, stem, 1)) != UNLABELLED
    if config.wrong:
        labels = mislabel(labels, config.wrong, generator_for(config.seed, stem, 2), num_classes)
    return np.where(kept, labels, np.uint8(UNLABELLED))


def generator_for(seed: int, stem: str, purpose: int) -> np.random.Generator:
    """Return random numbers that (seed, stem, purpose) decides: 1 which strokes are lost, 2 which are wrong, 3 simulation."""
    return np.random.default_rng(np.random.SeedSequence([seed, zlib.crc32(stem.encode()), purpose]))


def strokes_of(labels: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Return class id and pixels of each stroke, in the order of their first pixels.

    Args:
        labels: (H, W), class ids and 255.

    Returns:
        The pixels are ascending indices into the flattened map.
    """
    pixels, stroke, _ = graph_of(labels)
    if not len(pixels):
        return []
    members = np.split(pixels[np.argsort(stroke, kind="stable")], np.cumsum(np.bincount(stroke))[:-1])
    return [(int(labels.flat[own[0]]), own) for own in members]


def shorten(labels: np.ndarray, share: float) -> np.ndarray:
    """Keep the middle of each stroke, measured along it, at its full width.

    The ends of a stroke are the two pixels farthest apart; its middle is the pixel whose longer way to either of them is
    the shortest. The ``share`` of its pixels nearest the middle is kept: of a stroke of length L and even width the part
    from L/2·(1 − share) to L/2·(1 + share). A closed loop keeps one arc, branches end at one distance from the middle, and
    what is left at a small share is part of what is left at a larger one.

    No stroke gets shorter than it is wide: at 0 a dot is left, the field's click, as wide as the stroke there, to an odd
    number of pixels. A single pixel would be lost in most images that are shrunk for training.

    Args:
        labels: uint8 (H, W), class ids and 255.
        share: of each stroke, from 0 to 1; 1 returns the labels as they are.

    Cost: four searches over the labelled pixels: 1–2 ms for every thousand of them on one core. 500 × 375 pixels with four
    strokes, 2000 pixels of them, take 3.4 ms; reading that image and its labels takes 7.

    Reference: Lin et al., *ScribbleSup*, CVPR 2016, where the polylines as drawn are shortened. PacingPseudo eats raster
    strokes from their ends and opens a loop at its first pixel; DMSPS halves their bounding box.
    """
    if share >= 1 or (labels == UNLABELLED).all():
        return labels
    pixels, stroke, graph = graph_of(labels)
    size = np.bincount(stroke)
    first = np.cumsum(size) - size

    def away(start: np.ndarray) -> np.ndarray:
        """Return the distance of each pixel from the one of ``start`` in its stroke."""
        return np.asarray(dijkstra(graph, indices=start, min_only=True))

    def order(*keys: np.ndarray) -> np.ndarray:
        """Sort by stroke, then by the keys."""
        return np.lexsort((*reversed(keys), stroke))

    from_one = away(order(-away(order()[first]))[first])
    longer = np.maximum(from_one, away(order(-from_one)[first]))
    depth = _depth(graph)
    central = longer <= longer[order(longer)[first]][stroke] + 1
    middle = order(~central, -depth, longer)[first]
    distance = away(middle)
    number = np.maximum(1, np.ceil(share * size)).astype(int)
    reach = np.maximum(distance[order(distance)[first + number - 1]], depth[middle] - 0.5)
    return _without(labels, pixels[distance > reach[stroke]])


def drop(labels: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Take each stroke away with probability ``share``; an image may be left with none.

    A probability, not an exact share of each image: a tenth of four strokes would always be none, and an exact share of a
    data set would make an image depend on the others.
    """
    strokes = strokes_of(labels)
    lost = _lost(len(strokes), share, rng)
    return _without(labels, *(pixels for (_, pixels), gone in zip(strokes, lost, strict=True) if gone))


def mislabel(labels: np.ndarray, share: float, rng: np.random.Generator, num_classes: int) -> np.ndarray:
    """Give each stroke, with probability ``share``, a wrong class: that of the brush which was used elsewhere in the image.

    It is one of the other classes that are drawn there, each as likely; where none is, any other of ``num_classes``.
    """
    strokes = strokes_of(labels)
    result = labels.copy()
    for (_, pixels), told in zip(strokes, _mistaken([c for c, _ in strokes], share, rng, num_classes), strict=True):
        result.flat[pixels] = told
    return result


def redraw_strokes(strokes: Sequence[Stroke], stem: str, *, config: StrokesConfig, num_classes: int) -> list[Stroke]:
    """Do to strokes that are known as lines what :func:`redraw` does to labels.

    Here a stroke is what one movement of the hand drew, not what hangs together: crossing strokes are two, and each keeps the
    middle of its own way, from L/2·(1 − share) to L/2·(1 + share). At a length of 0 a dot is left.
    """
    lost = _lost(len(strokes), config.drop, generator_for(config.seed, stem, 1))
    told = _mistaken([s.label for s in strokes], config.wrong, generator_for(config.seed, stem, 2), num_classes)
    return [
        replace(stroke, label=label, points=middle_of(stroke.points, config.length))
        for stroke, label, gone in zip(strokes, told, lost, strict=True)
        if not gone
    ]


def middle_of(points: np.ndarray, share: float) -> np.ndarray:
    """Return the middle part of a line, (N, 2), by its length."""
    if share >= 1 or len(points) < 2:
        return points
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    ends = along[-1] / 2 * np.array([1 - share, 1 + share])
    cut = np.stack([np.interp(ends, along, points[:, axis]) for axis in (0, 1)], axis=1)
    between = points[(along > ends[0]) & (along < ends[1])]
    return np.concatenate([cut[:1], between, cut[1:]]) if share > 0 else cut[:1]


def _lost(number: int, share: float, rng: np.random.Generator) -> np.ndarray:
    return rng.random(number) < share


def _mistaken(classes: Sequence[int], share: float, rng: np.random.Generator, num_classes: int) -> list[int]:
    """Return the classes that strokes get: see :func:`mislabel`."""
    drawn, told = set(classes), []
    for class_id, (chance, choice) in zip(classes, rng.random((len(classes), 2)), strict=True):
        others = sorted((drawn if len(drawn) > 1 else set(range(num_classes))) - {class_id})
        told.append(others[int(choice * len(others))] if chance < share else class_id)
    return told


def _without(labels: np.ndarray, *pixels: np.ndarray) -> np.ndarray:
    result = labels.copy()
    for gone in pixels:
        result.flat[gone] = UNLABELLED
    return result


def graph_of(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, csr_array]:
    """Return the labelled pixels, the stroke of each, and the lengths (px) of the steps to the neighbours in its stroke."""
    width = labels.shape[1]
    wide = width + 2
    padded = np.pad(labels, 1, constant_values=UNLABELLED).ravel()
    places = np.flatnonzero(padded != UNLABELLED)
    number = np.zeros(padded.size, np.int32)
    number[places] = np.arange(len(places))
    ends, lengths = [], []
    for step, length in ((1, 1.0), (wide, 1.0), (wide - 1, 2**0.5), (wide + 1, 2**0.5)):
        tail = np.flatnonzero(padded[places + step] == padded[places]).astype(np.int32)  # SciPy's graphs of old take no other
        head = number[places[tail] + step]
        ends += [np.stack([tail, head]), np.stack([head, tail])]
        lengths.append(np.full(2 * len(tail), length))
    graph = coo_array((np.concatenate(lengths), np.concatenate(ends, axis=1)), shape=(len(places), len(places))).tocsr()
    stroke = connected_components(graph, directed=False)[1]
    y, x = np.divmod(places, wide)
    return (y - 1) * width + x - 1, stroke, graph


def _depth(graph: csr_array) -> np.ndarray:
    """Return how many steps it takes from each pixel to the nearest that is not of its stroke."""
    steps = csr_array((np.ones(graph.nnz), graph.indices, graph.indptr), shape=graph.shape)
    depth = inside = np.ones(graph.shape[0])
    while inside.any():
        inside = (steps @ inside == 8) * inside
        depth = depth + inside
    return depth
