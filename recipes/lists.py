"""A data set that is another one's files with lists of its own."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

from scribbleseg.data.folder import Dataset


def write_lists(dataset: Dataset, folder: Path, name: str, lists: Mapping[str, Iterable[str]]) -> None:
    """Write a data set of that name whose splits are ``lists`` of stems; images and labels stay where they are."""
    folder.mkdir(parents=True)
    for split, stems in lists.items():
        (folder / f"{split}.txt").write_text("".join(f"{stem}\n" for stem in stems), encoding="utf-8")
    spec = dataset.spec.model_dump(exclude_none=True) | {"name": name}
    for key in ("images", "scribbles", "masks"):
        spec[key] = os.path.relpath(dataset.root.resolve() / spec[key], folder.resolve())
    spec["splits"] = {split: f"{split}.txt" for split in lists}
    (folder / "dataset.yaml").write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
