"""What a background training reads: the project's labels as they are now, without the strokes that are to judge it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from scribbleseg.annotate.background import HELD_OUT
from scribbleseg.annotate.holdout import choose
from scribbleseg.annotate.owned import Owned
from scribbleseg.atomic import write_text
from scribbleseg.data.folder import Dataset
from scribbleseg.data.images import write_png
from scribbleseg.errors import DataError
from scribbleseg.records import UNLABELLED


def write_snapshot(
    folder: Path,
    dataset: Dataset,
    strokes: Mapping[str, tuple[tuple[int, int], list[Owned]]],
    rng: np.random.Generator,
) -> Path:
    """Write a data set for one training, and beside it which strokes it does not see; return its folder.

    The pictures stay where they are: nothing here writes to them, and the data set names their folder. The labels are drawn
    anew, so that what happens to the project meanwhile does not matter.

    Args:
        folder: of the training.
        dataset: the project's.
        strokes: by stem: (height, width), and the strokes with the pixels that they still have.
        rng: chooses what is held out.

    Raises:
        DataError: strokes of fewer than two classes.
    """
    held = choose([(f"{stem}/{each.key}", each.label) for stem, (_, own) in strokes.items() for each in own], rng)
    root, seen, taught = folder / "snapshot", [], 0
    present: set[int] = set()
    for stem, (size, own) in strokes.items():
        labels = np.full(size, UNLABELLED, np.uint8)
        kept = [each for each in own if f"{stem}/{each.key}" not in held]
        for each in kept:
            labels.reshape(-1)[each.pixels] = each.label
            present.add(each.label)
        if kept:
            write_png(root / "scribbles" / f"{stem}.png", labels)
            seen.append(stem)
            taught += len(kept)
    if len(present) < 2:
        got = ", ".join(dataset.names[k] for k in sorted(present)) or "none"
        raise DataError("the strokes", "strokes of at least two classes", got, "draw another class, background too")
    spec: dict[str, Any] = dataset.spec.model_dump(mode="json", exclude_unset=True)
    for key in ("masks", "strokes", "unlabelled"):
        spec.pop(key, None)
    arrays = {key: name for key, name in dataset.spec.arrays.items() if key == "images"}
    spec |= {
        "names": dict(sorted(dataset.spec.names.items())),
        "images": os.path.relpath((dataset.root / dataset.spec.images).resolve(), root.resolve()),
        "scribbles": "scribbles",
        "splits": {"train": "train.txt"},
        "arrays": arrays,
    }
    write_text(root / "train.txt", "\n".join(seen) + "\n")
    write_text(root / "dataset.yaml", yaml.safe_dump(spec, sort_keys=False, allow_unicode=True))
    note = {"keys": sorted(held), "stems": seen, "strokes": taught, "names": list(dataset.names)}
    write_text(folder / HELD_OUT, json.dumps(note, indent=1) + "\n")
    return root
