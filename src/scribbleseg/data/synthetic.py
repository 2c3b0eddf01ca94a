"""A small data set made on the spot: textured objects that colour alone cannot tell apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml
from scipy import ndimage

from scribbleseg.atomic import write_text
from scribbleseg.data.images import write_png
from scribbleseg.data.simulate.hurried import simulate_scribbles

NAMES = ("ground", "stripes", "checks", "spots")


def make_image(rng: np.random.Generator, size: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """Make one picture and its exact mask.

    Three to five blobs lie on a cloudy ground. Every region, ground included, gets two colours drawn from one common
    distribution; only its texture (clouds, stripes, checks, spots) says what it is. Shading and noise lie over all.

    Returns:
        uint8 (H, W, 3) and class ids uint8 (H, W).
    """
    y, x = np.mgrid[:size, :size].astype(float)
    picture = _paint(rng, 0, y, x)
    mask = np.zeros((size, size), dtype=np.uint8)
    for _ in range(int(rng.integers(3, 6))):
        class_id = int(rng.integers(1, len(NAMES)))
        inside = _blob(rng, y, x)
        picture[inside] = _paint(rng, class_id, y, x)[inside]
        mask[inside] = class_id
    shade = 1 + 0.25 * _clouds(rng, size, size / 3)[..., None]
    noisy = picture * shade + rng.normal(0, 0.03, picture.shape)
    return (255 * np.clip(noisy, 0, 1)).round().astype(np.uint8), mask


def _blob(rng: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A wobbly disc."""
    size = len(y)
    centre_y, centre_x = rng.uniform(0.12, 0.88, 2) * size
    radius = rng.uniform(0.12, 0.24) * size
    angle = np.arctan2(y - centre_y, x - centre_x)
    wobble = sum(rng.uniform(-0.18, 0.18) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 4))
    return np.asarray(np.hypot(y - centre_y, x - centre_x) < radius * (1 + wobble))


def _clouds(rng: np.random.Generator, size: int, grain: float) -> np.ndarray:
    """Smooth noise with zero mean and unit spread."""
    noise = ndimage.gaussian_filter(rng.normal(size=(size, size)), grain / 2, mode="wrap")
    return np.asarray((noise - noise.mean()) / noise.std())


def _paint(rng: np.random.Generator, class_id: int, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Fill the plane with a texture in two random colours of one hue."""
    turn, period = rng.uniform(0, np.pi), rng.uniform(6.0, 8.0)
    u, v = x * np.cos(turn) + y * np.sin(turn), -x * np.sin(turn) + y * np.cos(turn)
    phase = rng.uniform(0, 2 * np.pi, 2)
    a, b = np.sin(2 * np.pi * u / period + phase[0]), np.sin(2 * np.pi * v / period + phase[1])
    if class_id == 0:
        level = np.clip(0.5 + 0.35 * _clouds(rng, len(y), 5.0), 0, 1)
    elif class_id == 1:
        level = (a > 0).astype(float)
    elif class_id == 2:
        level = (a * b > 0).astype(float)
    else:
        level = (a + b > 0.9).astype(float)
    level = ndimage.gaussian_filter(level, 0.6)[..., None]
    base = rng.uniform(0.2, 0.8, 3)
    other = np.clip(base + rng.choice([-1, 1]) * rng.uniform(0.25, 0.45), 0, 1)
    return base * (1 - level) + other * level


def make_dataset(root: Path, *, seed: int = 0, sizes: dict[str, int] | None = None, size: int = 96) -> Path:
    """Write a data set folder of such pictures with masks and simulated scribbles.

    Args:
        root: new folder.
        seed: same seed, same files.
        sizes: number of images per split.
        size: height and width in pixels.
    """
    sizes = sizes or {"train": 60, "val": 12, "test": 40}
    for split_number, (split, count) in enumerate(sizes.items()):
        stems = []
        for n in range(count):
            rng = np.random.default_rng([seed, split_number, n])
            picture, mask = make_image(rng, size)
            stem = f"{split}_{n:03d}"
            write_png(root / "images" / f"{stem}.png", picture)
            write_png(root / "masks" / f"{stem}.png", mask)
            write_png(root / "scribbles" / f"{stem}.png", simulate_scribbles(mask, rng))
            stems.append(stem)
        write_text(root / f"{split}.txt", "\n".join(stems) + "\n")
    spec = {
        "name": "textures",
        "names": dict(enumerate(NAMES)),
        "images": "images",
        "scribbles": "scribbles",
        "masks": "masks",
        "unlabelled": 255,
        "splits": {split: f"{split}.txt" for split in sizes},
    }
    write_text(root / "dataset.yaml", yaml.safe_dump(spec, sort_keys=False))
    return root
