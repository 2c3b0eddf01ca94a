"""More images to look at while a method is made: ``python -m benchmarks.method_split DATA/voc-animals OUT/voc-animals``.

The 80 of voc-animals' ``val`` cannot tell methods apart (single classes move by 0.1 between runs), and ``test`` is read once a
row. So every fifth training image joins ``val`` and is trained on no more. Images and labels stay where they are.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import yaml

from scribbleseg.data.folder import open_dataset

#: Of so many training images one is looked at.
EVERY = 5


def write_split(source: Path, out: Path) -> None:
    """Write a data set whose folders are those of ``source``; it has no ``test``."""
    dataset = open_dataset(source)
    stems = dataset.stems("train")
    lists = {"train": [s for n, s in enumerate(stems) if n % EVERY], "val": [*stems[::EVERY], *dataset.stems("val")]}
    out.mkdir(parents=True)
    for split, chosen in lists.items():
        (out / f"{split}.txt").write_text("".join(f"{s}\n" for s in sorted(chosen)), encoding="utf-8")
    spec = dataset.spec.model_dump(exclude_none=True) | {"name": f"{dataset.spec.name}, to make methods on"}
    for key in ("images", "scribbles", "masks"):
        spec[key] = os.path.relpath(source.resolve() / spec[key], out.resolve())
    spec["splits"] = {split: f"{split}.txt" for split in lists}
    (out / "dataset.yaml").write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")


if __name__ == "__main__":
    write_split(Path(sys.argv[1]), Path(sys.argv[2]))
