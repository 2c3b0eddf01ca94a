"""A data set whose masks a tiny model half agrees with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from tests.fake.models import NAMES, make_model, make_pictures, picture


def make_labelled(root: Path, number: int = 22) -> Path:
    """Write ``model`` and ``data``: pictures of two sizes, slices of three volumes, masks with unknown pixels."""
    make_model(root / "model", window_px=48)
    make_pictures(root / "data" / "images", number)
    (root / "data" / "masks").mkdir()
    stems = sorted(path.stem for path in (root / "data" / "images").iterdir())
    for n, stem in enumerate(stems):
        with Image.open(root / "data" / "images" / f"{stem}.png") as image:
            size = image.size[::-1]
        mask = (picture(n, size)[..., 0] // 86).astype(np.uint8)
        mask[:3] = 255
        Image.fromarray(mask).save(root / "data" / "masks" / f"{stem}.png")
    (root / "data" / "test.txt").write_text("".join(f"{stem}\n" for stem in reversed(stems)))  # in an order of its own
    spec = {"name": "labelled", "names": dict(enumerate(NAMES)), "masks": "masks", "splits": {"test": "test.txt"}}
    (root / "data" / "dataset.yaml").write_text(yaml.safe_dump(spec | {"volume": r"(picture_\d)\d"}))
    return root
