"""The folder of a project: a plain data set; one is made of a folder of pictures that is none."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import yaml

from scribbleseg.atomic import storage_error, write_text
from scribbleseg.data.folder import Dataset, leaves_the_folder, open_dataset
from scribbleseg.data.images import open_image
from scribbleseg.data.listing import pictures_below, slice_stem
from scribbleseg.data.readers import pillow, reader_of
from scribbleseg.data.readers.image import stem_of
from scribbleseg.errors import DataError

#: Name of the folder that holds what the page keeps beside the data set.
STATE = ".scribbleseg"

#: Folders of labels, beside the pictures.
LABELS = ("scribbles", "strokes", "masks")

#: Parts of stems are files' names with suffixes added: no disk takes more bytes; nor longer ways to a file than this.
_MAX_BYTES, _MAX_LENGTH = 200, 1000


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
        if dataset.shards is not None:
            raise DataError(root, "a data set of plain files", "one in shards", "draw on the folder that it was made of")
        _must_stay_inside(dataset)
        return dataset, (root / STATE / "own_lists").exists()
    found = pictures_below(root, _ours(root))
    if not found:
        raise DataError(root, "pictures in the folder or in folders inside it", "none", "name the folder that holds them")
    images = "images" if all(path.is_relative_to(root / "images") for path in found) else "."
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

    Pictures in folders inside the folder are named with them: ``2024/a``. What the page and a prediction write is none.

    Cost: one look at each folder. Of files that may be stacks the header is read: 1–2 ms each; pictures are not opened.
    """
    folder = dataset.root / dataset.spec.images
    found: list[str] = []
    left_out: list[str] = []
    for path in pictures_below(folder, _ours(dataset.root, dataset)):
        stem = (path.parent / stem_of(path)).relative_to(folder).as_posix()
        if not _can_be_listed(stem):
            left_out.append(ascii(path.relative_to(folder).as_posix())[1:-1])
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


def _ours(root: Path, dataset: Dataset | None = None) -> Callable[[Path], bool]:
    """Return what says of a folder that its pictures were written by us: labels, of data sets inside too, or predictions."""
    spec = dataset.spec if dataset is not None else None
    named = [spec.scribbles, spec.strokes, spec.masks] if spec is not None else []
    known = {(root / name).resolve() for name in (*LABELS, *named) if name is not None}

    def ours(folder: Path) -> bool:
        labels = folder.name in LABELS and (folder.parent / "dataset.yaml").is_file()
        return labels or folder.resolve() in known or (folder / "overlays").is_dir()

    return ours


def _can_be_listed(stem: str) -> bool:
    *folders, _ = parts = stem.split("/")
    fits = all(0 < len(part.encode(errors="replace")) <= _MAX_BYTES for part in parts) and len(stem) <= _MAX_LENGTH
    clear = not any(folder.lower().endswith((".json", ".png")) for folder in folders)  # or they would be in a label file's way
    plain = stem.isprintable() and stem == stem.strip() and not leaves_the_folder(stem) and not stem.endswith("@*")
    return fits and clear and plain


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
