"""The instant classifier: a few thousand pixels under strokes, and all pixels of an image a second later."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional as F

from scribbleseg.annotate.features import NUM_FILTERS, Features
from scribbleseg.errors import ScribblesegError

#: Cells taken of a stroke, and of all strokes of a class together.
PER_STROKE, PER_CLASS = 150, 4000

#: Trees of the forest, and how many directions of the backbone's maps they are given.
TREES, DIRECTIONS = 60, 32

#: Strength of the linear classifier's ridge: small beside that of a few strokes, large beside that of a pixel.
RIDGE = 0.03

#: The probabilities are smoothed along the picture's own edges: half a window in cells, and a contrast² that counts as an edge.
SMOOTH_CELLS, EDGE = 6, 1e-3


@dataclass(frozen=True, eq=False)
class Samples:
    """What one stroke teaches: (N, D) features of cells, and its class id."""

    label: int
    features: np.ndarray


class Classifier(Protocol):
    """Learns from features and classes; says the probabilities of ``classes`` for every cell, float32 (h, w, K)."""

    classes: np.ndarray

    def probabilities(self, features: Features) -> np.ndarray:
        """Return the probabilities of an image's cells."""

    def at(self, features: np.ndarray) -> np.ndarray:
        """Return the probabilities (N, K) of single cells."""


def fit(samples: list[Samples], *, kind: str = "auto", seed: int = 0) -> Classifier | None:
    """Learn from strokes, every class as if it had as many pixels as any other; None with fewer than two classes.

    Args:
        samples: of the strokes.
        kind: ``linear`` or ``forest``; ``auto`` takes what was better in docs/explanation/live_learning.md: ``linear`` where
            there are maps of a backbone, else ``forest`` if scikit-learn is installed.
        seed: of the forest.
    """
    x, y, weight = _gathered(samples, np.random.default_rng(seed))
    classes = np.unique(y)
    if len(classes) < 2:
        return None
    if kind == "auto":
        kind = "linear" if x.shape[1] > NUM_FILTERS or not has_forest() else "forest"
    return Forest(x, y, weight, seed) if kind == "forest" else Linear(x, y, weight)


def has_forest() -> bool:
    """Say whether scikit-learn is installed."""
    try:
        import sklearn.ensemble  # noqa: F401
    except ImportError:
        return False
    return True


def _gathered(samples: list[Samples], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features, classes and weights of at most ``PER_CLASS`` cells a class."""
    parts, labels = [], []
    for label in sorted({each.label for each in samples}):
        own = np.concatenate([each.features for each in samples if each.label == label])
        own = own if len(own) <= PER_CLASS else own[rng.choice(len(own), PER_CLASS, replace=False)]
        parts.append(own)
        labels.append(np.full(len(own), label))
    if not parts:
        return np.zeros((0, 0), np.float32), np.zeros(0, int), np.zeros(0, np.float32)
    y = np.concatenate(labels)
    number = np.bincount(y)
    return np.concatenate(parts), y, (len(y) / (len(parts) * number[y])).astype(np.float32)


class Linear:
    """Softmax regression on all features.

    Linear, so what it makes of the maps is computed on their coarse grid and then brought to the fine one: all of a picture's
    pixels cost as much as a small matrix product.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> None:
        self.classes = np.unique(y)
        self.mean, self.spread = x.mean(axis=0), x.std(axis=0) + 1e-3
        features = torch.from_numpy((x - self.mean) / self.spread)
        target, share = torch.from_numpy(np.searchsorted(self.classes, y)), torch.from_numpy(weight)
        matrix = torch.zeros(len(self.classes), x.shape[1], requires_grad=True)
        bias = torch.zeros(len(self.classes), requires_grad=True)
        optimizer = torch.optim.LBFGS([matrix, bias], max_iter=60, line_search_fn="strong_wolfe")

        def loss() -> Any:
            optimizer.zero_grad()
            value = (F.cross_entropy(features @ matrix.T + bias, target, reduction="none") * share).mean()
            value = value + RIDGE / 2 * (matrix**2).sum()
            value.backward()  # type: ignore[no-untyped-call,unused-ignore]
            return value

        optimizer.step(loss)  # type: ignore[no-untyped-call,unused-ignore]
        self.matrix, self.bias = matrix.detach().numpy(), bias.detach().numpy()

    def probabilities(self, features: Features) -> np.ndarray:
        """Return the probabilities of an image's cells."""
        k = NUM_FILTERS
        fine = np.asarray(features.filters.reshape(-1, k), np.float32)
        scores = torch.from_numpy(((fine - self.mean[:k]) / self.spread[:k]) @ self.matrix[:, :k].T + self.bias)
        scores = scores.reshape(*features.grid, -1)
        if len(features.maps):
            maps = (np.asarray(features.maps, np.float32) - self.mean[k:, None, None]) / self.spread[k:, None, None]
            scores = scores + _grown(np.einsum("kd,duv->kuv", self.matrix[:, k:], maps), features.grid)
        return scores.softmax(-1).numpy()

    def at(self, features: np.ndarray) -> np.ndarray:
        """Return the probabilities (N, K) of single cells."""
        scores = ((features - self.mean) / self.spread) @ self.matrix.T + self.bias
        return torch.from_numpy(scores).softmax(-1).numpy()


class Forest:
    """Extremely randomised trees on the filters, and on the main directions of the maps where there are any."""

    def __init__(self, x: np.ndarray, y: np.ndarray, weight: np.ndarray, seed: int = 0) -> None:
        try:
            from sklearn.ensemble import ExtraTreesClassifier
        except ImportError:
            raise ScribblesegError(
                "the forest", "scikit-learn", "not installed", 'pip install "scribbleseg[annotate]", or take kind="linear"'
            ) from None
        k = NUM_FILTERS
        self.mean = x[:, k:].mean(axis=0)
        self.directions = _directions(x[:, k:] - self.mean)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.forest = ExtraTreesClassifier(TREES, min_samples_leaf=2, n_jobs=1, random_state=seed)
            self.forest.fit(self._reduced(x), y, sample_weight=weight)
        self.classes = self.forest.classes_

    def _reduced(self, x: np.ndarray) -> np.ndarray:
        return np.concatenate([x[:, :NUM_FILTERS], (x[:, NUM_FILTERS:] - self.mean) @ self.directions], axis=1)

    def probabilities(self, features: Features) -> np.ndarray:
        """Return the probabilities of an image's cells; every second row and column is computed."""
        fine = np.asarray(features.filters[::2, ::2], np.float32)
        size = fine.shape[:2]
        x = fine.reshape(-1, NUM_FILTERS)
        if len(features.maps):
            maps = np.asarray(features.maps, np.float32) - self.mean[:, None, None]
            grown = _grown(np.einsum("dk,duv->kuv", self.directions, maps), size)
            x = np.concatenate([x, grown.reshape(-1, self.directions.shape[1]).numpy()], axis=1)
        found = self.forest.predict_proba(x).reshape(*size, -1).astype(np.float32)
        return _grown(found.transpose(2, 0, 1), features.grid).numpy()

    def at(self, features: np.ndarray) -> np.ndarray:
        """Return the probabilities (N, K) of single cells."""
        return np.asarray(self.forest.predict_proba(self._reduced(features)), np.float32)


def _directions(x: np.ndarray) -> np.ndarray:
    """Return the main directions of centred features, (D, k)."""
    if not x.shape[1]:
        return np.zeros((0, 0), np.float32)
    few = x[:: max(1, len(x) // 2000)]
    return np.asarray(np.linalg.svd(few, full_matrices=False)[2][:DIRECTIONS].T)


def _grown(maps: np.ndarray, size: tuple[int, ...]) -> torch.Tensor:
    """Bring maps (K, u, v) to a size: (h, w, K)."""
    whole = torch.from_numpy(np.ascontiguousarray(maps, dtype=np.float32))[None]
    return F.interpolate(whole, size, mode="bilinear", align_corners=False)[0].permute(1, 2, 0)


def smoothed(probs: np.ndarray, guide: np.ndarray) -> np.ndarray:
    """Smooth probabilities (h, w, K) along the edges of a grey picture (h, w), and bring each cell's to a sum of 1.

    Reference: He, Sun, Tang, *Guided Image Filtering*, TPAMI 2013, equations 5 to 8.
    """
    side = 2 * SMOOTH_CELLS + 1
    guide = guide.astype(np.float32)

    def mean(plane: np.ndarray) -> np.ndarray:
        return np.asarray(ndimage.uniform_filter(plane, side, mode="nearest"))

    middle = mean(guide)
    variance = mean(guide * guide) - middle * middle
    out = np.empty_like(probs)
    for k in range(probs.shape[-1]):
        average = mean(probs[..., k])
        slope = (mean(probs[..., k] * guide) - average * middle) / (variance + EDGE)
        out[..., k] = mean(slope) * guide + mean(average - slope * middle)
    out = np.clip(out, 1e-6, None)
    return out / out.sum(axis=-1, keepdims=True)


def labels_and_doubt(probs: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return class ids, doubt and certainty, uint8 (h, w).

    Doubt is 255 where the two likeliest classes are equally likely, 0 where one is sure; certainty is 255 times the
    probability of the likeliest.
    """
    best = np.sort(probs, axis=-1)[..., -2:]
    doubt, sure = (
        np.round(255 * share).clip(0, 255).astype(np.uint8) for share in (1 - best[..., 1] + best[..., 0], best[..., 1])
    )
    return classes[probs.argmax(axis=-1)].astype(np.uint8), doubt, sure
