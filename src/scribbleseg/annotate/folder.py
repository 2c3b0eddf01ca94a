"""The folder of a project: a plain data set; one is made of a folder of pictures that is none."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import yaml

from scribbleseg.atomic import storage_error, write_text
from scribbleseg.data.folder import Dataset, leaves_the_folder, open_dataset
from scribbleseg.data.images import open_image
from scribbleseg.data.listing import slice_stem
from scribbleseg.data.readers import is_image, pillow, reader_of
from scribbleseg.data.readers.image import stem_of
from scribbleseg.errors import DataError

#: Name of the folder that holds what the page keeps beside the data set.
STATE = ".scribbleseg"

#: Names of stems are files' names with suffixes added: no disk takes more bytes.
_MAX_BYTES = 200


def prepare(root: Path) -> tuple[Dataset, bool]:
    """Open a folder as a data set; write ``dataset.yaml`` and an empty list where there is none.

    Returns:
        The data set, and whether its lists are the page's own.

    Raises:
        DataError: no such folder, no pictures, or a broken ``dataset.yaml``.
        StorageError: the folder cannot be written.
    """
    if not root.is_dir():
        got = "a file" if root.exists() else "no such folder"
        raise DataError(root, "a folder of pictures or a data set", got, "check the path")
    _must_be_writable(root)
    if (root / "dataset.yaml").exists():
        dataset = open_dataset(root)
        _must_stay_inside(dataset)
        return dataset, (root / STATE / "own_lists").exists()
    images = next((name for name in (".", "images") if _pictures(root / name)), None)
    if images is None:
        raise DataError(root, "pictures in the folder or in its folder 'images'", "none", "name the folder that holds them")
    name = "".join(c for c in root.resolve().name if c.isprintable()) or "project"
    tree = {"name": name, "names": {0: "background", 1: "object"}, "images": images, "scribbles": "scribbles"}
    tree |= {"strokes": "strokes", "splits": {"train": "train.txt"}}
    write_text(root / STATE / "own_lists", "The lists of this data set are written by the page.\n")
    if not (root / "train.txt").exists():
        write_text(root / "train.txt", "")
    write_text(root / "dataset.yaml", yaml.safe_dump(tree, sort_keys=False, allow_unicode=True))
    return open_dataset(root), True


def stems_of(dataset: Dataset, say: Callable[[str], None]) -> list[str]:
    """Return the stems of all pictures, sorted, and of all lists; what cannot be a stem is told and left out.

    Cost: one look at the folder. Of files that may be stacks the header is read: 1–2 ms each; pictures are not opened.
    """
    folder = dataset.root / dataset.spec.images
    found: list[str] = []
    left_out: list[str] = []
    for path in _pictures(folder):
        stem = stem_of(path)
        if not _can_be_listed(stem):
            left_out.append(ascii(path.name)[1:-1])
        elif reader_of(path) is pillow.opened:
            found.append(stem)
        else:
            found += _slices(dataset, path, stem, left_out)
    twice = {stem for stem, number in Counter(found).items() if number > 1}
    stems = [stem for stem in found if stem not in twice]
    left_out += [f"{stem} (several files)" for stem in sorted(twice)]
    known = set(stems)
    for split in dataset.spec.splits:
        if not dataset.listed(split):
            continue
        for stem in dataset.stems(split):
            if stem not in known and _can_be_listed(stem) and dataset.listing.has(folder, stem):
                stems.append(stem)
                known.add(stem)
    if left_out:
        more = f" and {len(left_out) - 5} more" if len(left_out) > 5 else ""
        say(f"left out, no name that a list can hold or not readable: {', '.join(left_out[:5])}{more}")
    return sorted(stems)


def _slices(dataset: Dataset, path: Path, stem: str, left_out: list[str]) -> list[str]:
    try:
        with open_image(path, dataset.spec.reading) as image:
            number = image.num_slices
    except DataError:
        left_out.append(path.name)
        return []
    return [stem] if number == 1 else [slice_stem(stem, k) for k in range(number)]


def _pictures(folder: Path) -> list[Path]:
    """Return the pictures of a folder, without what the page itself writes."""
    try:
        with os.scandir(folder) as entries:
            names = [Path(folder) / e.name for e in entries if not e.name.startswith(".") and not _is_ours(e)]
    except OSError:
        return []
    return sorted(path for path in names if is_image(path))


def _is_ours(entry: os.DirEntry[str]) -> bool:
    return entry.name in ("scribbles", "strokes", "masks") and entry.is_dir()


def _can_be_listed(stem: str) -> bool:
    fits = 0 < len(stem.encode(errors="replace")) <= _MAX_BYTES
    return fits and stem.isprintable() and stem == stem.strip() and not leaves_the_folder(stem) and not stem.endswith("@*")


def _must_be_writable(root: Path) -> None:
    try:
        (root / STATE).mkdir(exist_ok=True)
        for folder in (root, root / STATE):
            with tempfile.NamedTemporaryFile(prefix="writing-", suffix=".part", dir=folder):
                pass
    except OSError as error:
        raise storage_error(error, root) from None


def _must_stay_inside(dataset: Dataset) -> None:
    spec, root = dataset.spec, dataset.root.resolve()
    for key, name in (("scribbles", spec.scribbles), ("strokes", spec.strokes), *spec.splits.items()):
        if name is not None and not (root / name).resolve().is_relative_to(root):
            do = "keep what the page writes inside the data set's folder"
            raise DataError(dataset.root / "dataset.yaml", f"`{key}` inside the folder", f"'{name}'", do)


def write_names(root: Path, names: tuple[str, ...], strokes: str) -> None:
    """Write class names and the strokes' folder into ``dataset.yaml``; the file as it came is kept beside the state."""
    path = root / "dataset.yaml"
    text = path.read_text(encoding="utf-8")
    tree = yaml.safe_load(text)
    if tree.get("names") == dict(enumerate(names)) and tree.get("strokes") == strokes:
        return
    if not (root / STATE / "dataset.yaml.original").exists():
        write_text(root / STATE / "dataset.yaml.original", text)
    tree |= {"names": dict(enumerate(names)), "strokes": strokes}
    write_text(path, yaml.safe_dump(tree, sort_keys=False, allow_unicode=True))
