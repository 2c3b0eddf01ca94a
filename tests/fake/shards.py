"""A data set with every kind of file that shards can hold, and names that are hard to keep."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import tifffile
import yaml

from tests.fake.datasets import class_map, picture_of, strokes_of, write_image, write_lines

#: Images of the training split.
STEMS = ("plain", "two.dots", "50%2E", "folder/below", "räume_Ж", "long_" + 25 * "name_", "lines")

SIZE = (48, 64)


def make_varied(root: Path) -> Path:
    """Write PNG, JPEG, WebP and TIFF; a stack with masks slice by slice; strokes as lines; files that nobody lists or reads."""
    rng = np.random.default_rng(0)
    for stem, suffix in zip(STEMS, (".png", ".jpg", ".webp", ".tif", ".JPG", ".png", ".tiff"), strict=True):
        mask = class_map(SIZE, 3, rng)
        write_image(root / "images" / f"{stem}{suffix}", picture_of(mask, 3, rng))
        write_image(root / "masks" / f"{stem}.png", mask)
        if stem != "lines":
            write_image(root / "scribbles" / f"{stem}.png", strokes_of(mask))
    strokes = [{"class": k, "width_px": 3, "points": [[10 + 20 * k, 5], [12 + 20 * k, 40]]} for k in range(3)]
    (root / "strokes").mkdir()
    (root / "strokes" / "lines.json").write_text(json.dumps({"version": 1, "size": SIZE[::-1], "strokes": strokes}))
    masks = np.stack([class_map(SIZE, 3, rng) for _ in range(2)])
    pages = np.stack([picture_of(mask, 3, rng)[..., 0] for mask in masks])
    tifffile.imwrite(root / "images" / "scan.tif", pages, photometric="minisblack")
    tifffile.imwrite(root / "scribbles" / "scan.tif", np.stack([strokes_of(m) for m in masks]), photometric="minisblack")
    for number, mask in enumerate(masks):
        write_image(root / "masks" / f"scan@{number:03d}.png", mask)
    write_image(root / "images" / "forgotten.png", picture_of(masks[0], 3, rng))
    (root / "images" / "notes.txt").write_text("nothing to read here")
    write_lines(root / "lists" / "train.txt", list(STEMS))
    (root / "val.txt").write_bytes(b"\xef\xbb\xbfscan@*\r\n\r\n")
    splits = {"train": "lists/train.txt", "val": "val.txt", "test": "val.txt"}
    names = {0: "background", 1: "leaf", 2: "stone"}
    spec = {"name": "varied", "names": names, "strokes": "strokes", "masks": "masks", "splits": splits}
    (root / "dataset.yaml").write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
    return root
