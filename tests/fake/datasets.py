"""Makers of tiny data sets in the layout of ``scribbleseg.data.folder``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import yaml
from PIL import Image


def write_image(path: Path, array: np.ndarray) -> Path:
    """Write an array in the format its suffix names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() in (".tif", ".tiff"):
        tifffile.imwrite(path, array, photometric="rgb" if array.ndim == 3 else "minisblack")
    else:
        Image.fromarray(array).save(path)
    return path


def class_map(size: tuple[int, int], num_classes: int, rng: np.random.Generator) -> np.ndarray:
    """Return a label map: slanted bands, every class at least once."""
    height, width = size
    y, x = np.mgrid[:height, :width]
    slope = rng.uniform(-0.3, 0.3)
    place = (x + slope * (y - height / 2)) / width
    return np.clip((place * num_classes).astype(int), 0, num_classes - 1).astype(np.uint8)


def picture_of(mask: np.ndarray, num_classes: int, rng: np.random.Generator) -> np.ndarray:
    """Return an RGB picture in which every class has a colour of its own, with some noise."""
    colours = np.stack([np.roll(np.linspace(30, 220, 3), k) * (0.5 + 0.5 * (k + 1) / num_classes) for k in range(num_classes)])
    return np.clip(colours[mask] + rng.normal(0, 8, (*mask.shape, 3)), 0, 255).astype(np.uint8)


def strokes_of(mask: np.ndarray, unlabelled: int = 255) -> np.ndarray:
    """Return a horizontal stroke in the middle of every class."""
    scribbles = np.full(mask.shape, unlabelled, np.uint8)
    row = mask.shape[0] // 2
    for c in np.unique(mask[row]):
        columns = np.flatnonzero(mask[row] == c)
        columns = columns[len(columns) // 4 : len(columns) - len(columns) // 4]
        scribbles[row : row + 2, columns] = c
    return scribbles


def split_stems(stems: list[str]) -> dict[str, list[str]]:
    """Return half of the stems as train, a quarter each as val and test; fewer than three stand in every split."""
    if len(stems) < 3:
        return {"train": stems, "val": stems, "test": stems}
    quarter = max(1, len(stems) // 4)
    return {"train": stems[: -2 * quarter], "val": stems[-2 * quarter : -quarter], "test": stems[-quarter:]}


def make_dataset(
    root: Path,
    num_images: int = 4,
    size: tuple[int, int] = (48, 64),
    num_classes: int = 3,
    seed: int = 0,
    suffix: str = ".png",
    with_masks: bool = True,
    unlabelled: int = 255,
    num_volumes: int = 0,
    spec: dict[str, Any] | None = None,
) -> Path:
    """Write a data set and return its folder.

    Args:
        size: (height, width) of the images.
        suffix: of the images; label files are PNG.
        unlabelled: the value in the scribbles where nobody drew.
        num_volumes: if not 0, stems are ``volumeVV_NNN`` and ``volume`` is in the yaml.
        spec: changes to ``dataset.yaml``; a key of None leaves it out.
    """
    rng = np.random.default_rng(seed)
    stems = [f"volume{n % num_volumes:02d}_{n:03d}" if num_volumes else f"image_{n:03d}" for n in range(num_images)]
    for stem in stems:
        mask = class_map(size, num_classes, rng)
        write_image(root / "images" / f"{stem}{suffix}", picture_of(mask, num_classes, rng))
        write_image(root / "scribbles" / f"{stem}.png", strokes_of(mask, unlabelled))
        if with_masks:
            write_image(root / "masks" / f"{stem}.png", mask)
    names = ["background", "leaf", "stone", "water", "sand", "sky", "road", "roof"]
    tree: dict[str, Any] = {
        "name": "fake",
        "names": {k: names[k] if k < len(names) else f"class{k}" for k in range(num_classes)},
        "unlabelled": unlabelled,
        "splits": {},
    }
    if with_masks:
        tree["masks"] = "masks"
    if num_volumes:
        tree["volume"] = r"(volume\d+)_"
    for split, members in split_stems(stems).items():
        tree["splits"][split] = f"splits/{split}.txt"
        write_lines(root / "splits" / f"{split}.txt", members)
    tree = {key: value for key, value in (tree | (spec or {})).items() if value is not None}
    (root / "dataset.yaml").write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return root


def write_lines(path: Path, lines: list[str]) -> None:
    """Write a split list."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
