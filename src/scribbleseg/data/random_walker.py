"""Dense labels made from strokes: which class a random walker that starts at a pixel meets first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from scribbleseg.config import RandomWalkerConfig
from scribbleseg.data.folder import Dataset
from scribbleseg.data.images import write_png
from scribbleseg.data.loader import load_sample
from scribbleseg.data.transforms import resize_longest
from scribbleseg.extras import library
from scribbleseg.records import UNLABELLED


def require_walker() -> Any:
    """Return scikit-image's segmentation module.

    Raises:
        ConfigError: scikit-image is not installed.
    """
    return library(
        "skimage.segmentation",
        "data.labels: random_walker",
        "which computes these labels",
        "walker",
        instead="train on --labels scribbles",
    )


def random_walker(rgb: np.ndarray, scribbles: np.ndarray, *, beta: float = 100.0, min_probability: float = 0.0) -> np.ndarray:
    """Return dense labels, uint8 (H, W): at each pixel the class whose strokes a random walker meets first, most likely.

        L_U x_c = −Bᵀ m_c for each class c drawn,   w_ij = exp(−β Σ_k (I_ik − I_jk)² / (10 s √K)) + 1e-10

    over the 4-neighbourhood; L is the graph's Laplacian, split into drawn pixels and the rest (U), m_c is 1 on the strokes
    of c, I has K channels and a standard deviation of s over all its values: β has no colour unit, and a picture without
    any contrast is walked evenly. Strokes keep their class. An image with strokes of one class or none has nothing to
    decide, and keeps what was drawn: a class that nobody drew is never a label.

    Args:
        rgb: float (H, W, 3). Three equal channels count as one.
        scribbles: (H, W), class ids and 255.
        beta: how much a difference in colour hinders the walker.
        min_probability: a pixel whose likeliest class is less likely stays 255.

    Cost: one sparse factorisation: 0.5 s at 256 × 216, 1–2 s at 500 × 333, more than in proportion above. The iterative
    solver (mode ``cg_j``) took as long or longer, and at its usual tolerance gave 5 % of a photo's pixels another class.

    Reference: Grady, *Random walks for image segmentation*, IEEE TPAMI 28(11), 2006; weights as scikit-image has them.
    WSL4MIS makes all of a slice background where a class is not drawn, and first stretches the intensities by 2/1.7,
    which makes its β of 100 one of 118 here.
    """
    drawn = np.unique(scribbles[scribbles != UNLABELLED])
    if len(drawn) < 2 or not (scribbles == UNLABELLED).any():
        return scribbles.astype(np.uint8)
    seeds = np.where(scribbles == UNLABELLED, 0, np.searchsorted(drawn, scribbles) + 1)
    image = rgb.astype(np.float64)
    if (image == image[..., :1]).all():
        image = image[..., :1]
    if image.std() == 0:  # the weights divide by it: any picture will do where β is 0
        image, beta = np.linspace(0, 1, scribbles.size).reshape(*scribbles.shape, 1), 0.0
    probs = require_walker().random_walker(image, seeds, beta=beta, mode="bf", return_full_prob=True, channel_axis=-1)
    labels = drawn[probs.argmax(0)].astype(np.uint8)
    labels[probs.max(0) < min_probability] = UNLABELLED
    return labels


def with_random_walker(
    dataset: Dataset,
    stems: Iterable[str],
    config: RandomWalkerConfig,
    longest_px: int,
    folder: Path,
    *,
    keep: bool,
) -> Dataset:
    """Write the labels of every stem, and return the data set that knows them as ``random_walker``.

    Args:
        stems: images with scribbles; no mask is read.
        longest_px: the walk is on images of this longer side, as training is; 0 for their own. The files have the
            image's own size.
        folder: gets ``STEM.png``, each whole or not at all.
        keep: leave the files that are there alone.
    """
    for stem in stems:
        path = folder / f"{stem}.png"
        if keep and path.is_file():
            continue
        sample = load_sample(dataset, stem, "scribbles")
        scribbles = sample.labels.numpy()
        sample = resize_longest(sample, longest_px)
        rgb = sample.rgb.permute(1, 2, 0).numpy()
        labels = random_walker(rgb, sample.labels.numpy(), beta=config.beta, min_probability=config.min_probability)
        if labels.shape != scribbles.shape:
            resized = F.interpolate(torch.from_numpy(labels)[None, None].float(), scribbles.shape, mode="nearest-exact")
            labels = np.where(scribbles == UNLABELLED, resized[0, 0].numpy(), scribbles).astype(np.uint8)
        write_png(path, labels)
    return replace(dataset, walked=folder.resolve())  # not below the data set, as its other folders are
