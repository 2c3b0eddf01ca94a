"""More images to look at while a method is made: ``python -m benchmarks.method_split DATA/voc-animals OUT/voc-animals``.

The 80 of voc-animals' ``val`` cannot tell methods apart (single classes move by 0.1 between runs), and ``test`` is read once a
row. So every fifth training image joins ``val`` and is trained on no more. Images and labels stay where they are.
"""

from __future__ import annotations

import sys
from pathlib import Path

from recipes.lists import write_lists
from scribbleseg.data.folder import open_dataset

#: Of so many training images one is looked at.
EVERY = 5


def write_split(source: Path, out: Path) -> None:
    """Write a data set whose folders are those of ``source``; it has no ``test``."""
    dataset = open_dataset(source)
    stems = dataset.stems("train")
    train = sorted(stem for n, stem in enumerate(stems) if n % EVERY)
    val = sorted([*stems[::EVERY], *dataset.stems("val")])
    write_lists(dataset, out, f"{dataset.spec.name}, to make methods on", {"train": train, "val": val})


if __name__ == "__main__":
    write_split(Path(sys.argv[1]), Path(sys.argv[2]))
