"""A folder of index PNGs (or TIFFs): the value of a pixel is its class, and one value means "not annotated". Which?"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
from PIL import Image

from scribbleseg.data.formats.contents import About, Add, Annotated, Format, Options, Source, become, each
from scribbleseg.data.formats.labels import check_ids, to_ours
from scribbleseg.data.formats.pictures import beside_pictures, find_picture, near, write_labels
from scribbleseg.data.formats.safety import files_in
from scribbleseg.data.images import read_index
from scribbleseg.errors import DataError
from scribbleseg.records import UNLABELLED

#: Folders that labels usually lie in, those for scribbles first.
FOLDERS = ("scribbles", "scribble", "sparse_label", "labels", "label", "annotations", "SegmentationClass", "masks", "gt")
SPLITS = ("train", "val", "test")


class IndexPng(Format):
    """Read and write index PNGs. Between 0 and 255 it does not guess."""

    title = "index PNG folder"
    unlabelled = "255 where it occurs beside two other values; else you must say: `--unlabelled 0` or `--unlabelled 255`"
    holds = "PNG, TIFF or BMP, grey or palette; names from names.txt or classes.txt"
    writes = "labels/STEM.png with 255, images/, names.txt"
    source = "https://docs.ultralytics.com/datasets/semantic/"
    fallback = True

    def recognise(self, path: Path) -> str | None:
        """See the base class."""
        if not path.is_dir() or (path / "dataset.yaml").is_file() or (path / "dataset.json").is_file():
            return None
        name, mode = first_readable(label_folder(path))
        return f"a folder of label pictures with one channel, as {name}" if mode in ("L", "P", "1", "I;16", "I") else None

    def read(self, path: Path, options: Options) -> Source:
        """See the base class. Without names every file is read once before, to count the classes."""
        folder = label_folder(path)
        files = {str(p.relative_to(folder).with_suffix("")): p for p in label_files(folder)}
        if not files:
            raise DataError(path, "a folder of label pictures", "none in it", "name the folder that holds the PNGs")
        names = options.names or listed_names(path, folder)
        paths = list(files.values())
        sample = paths if names is None else [paths[k] for k in np.linspace(0, len(paths) - 1, min(64, len(paths))).astype(int)]
        counts = count_values(sample)
        unlabelled, why = (options.value, "you said so") if options.value is not None else decide(folder, counts)
        if names is None:
            ids = [v - (v > unlabelled) for v in np.flatnonzero(counts).tolist() if v != unlabelled]
            if not ids or (len(ids) < max(ids) // 4):
                got = f"only the values {', '.join(map(str, np.flatnonzero(counts)[:8]))}"
                raise DataError(folder, "class ids from 0", got, "check --unlabelled, or name every class: --names a,b,c")
            names = tuple(f"class{k}" for k in range(max(ids) + 1))
        folders = near(folder, options.images)

        def load(stem: str) -> Annotated:
            labels = to_ours(files[stem], read_index(files[stem]), unlabelled)
            check_ids(files[stem], labels, names)
            split = stem.split("/")[0]
            picture = find_picture(stem, folders, but=files[stem])
            return Annotated(stem, labels, picture, splits=(split if split in SPLITS else "train",))

        moved = f"; ids above it move down by one, {become(names)}" if unlabelled < len(names) else ""
        return Source(names, f"{unlabelled} means not annotated ({why}){moved}", each(files, load))

    def writer(self, out: Path, about: About) -> AbstractContextManager[Add]:
        """See the base class."""
        return beside_pictures(out, about, lambda image: write_labels(out / "labels" / f"{image.stem}.png", image.labels))


def decide(folder: Path, counts: np.ndarray) -> tuple[int, str]:
    """Return the value that means "not annotated" and the evidence, from how often each value occurs.

    Raises:
        DataError: nothing speaks for one value alone.
    """
    values = np.flatnonzero(counts)
    if counts[UNLABELLED] and len(values) > 2:
        return UNLABELLED, f"it occurs beside the ids {', '.join(map(str, values[:-1][:8]))}"
    share = counts[0] / counts.sum()
    got = f"the values {', '.join(map(str, values[:8]))}; {share:.0%} of the pixels are 0"
    do = (
        "if nobody drew where it is 0 (ilastik, napari): --unlabelled 0, and 1 becomes the first class; "
        "if 0 is a class of its own: --unlabelled 255"
    )
    raise DataError(folder, "something that tells which value means 'not annotated'", got, do)


def count_values(paths: Sequence[Path]) -> np.ndarray:
    """Return how often each value occurs, int64 (256,). A file that cannot be read counts when it is converted."""
    counts = np.zeros(256, dtype=np.int64)
    for path in paths:
        with contextlib.suppress(DataError):
            counts += np.bincount(read_index(path).ravel(), minlength=256)
    if not counts.any():
        read_index(paths[0])  # tells what is wrong
    return counts


def label_folder(path: Path) -> Path:
    """Return the folder that the labels lie in: the one given, or a usual one inside it."""
    if path.is_dir() and files_in(path, ".png", ".tif", ".tiff", ".bmp"):
        return path
    return next((path / name for name in FOLDERS if (path / name).is_dir()), path)


def label_files(folder: Path) -> list[Path]:
    """Return the label pictures of a folder and those below it, pictures of the images left out."""
    files = files_in(folder, ".png", ".tif", ".tiff", ".bmp", ".jpg", ".jpeg", deep=True)
    return [p for p in files if p.relative_to(folder).parts[0] not in ("images", "JPEGImages")]


def first_readable(folder: Path) -> tuple[str, str]:
    """Return name and Pillow's mode of the first label picture whose header is sound; two empty strings where none is."""
    for path in label_files(folder)[:8] if folder.is_dir() else ():
        with contextlib.suppress(OSError, ValueError, SyntaxError, Image.DecompressionBombError), Image.open(path) as picture:
            return path.name, picture.mode
    return "", ""


def listed_names(*folders: Path) -> tuple[str, ...] | None:
    """Return the class names that a ``names.txt`` or ``classes.txt`` lists, one a line, or None."""
    for folder in folders:
        for name in ("names.txt", "classes.txt"):
            if (folder / name).is_file():
                with contextlib.suppress(OSError, UnicodeDecodeError):
                    lines = (folder / name).read_text(encoding="utf-8-sig").splitlines()
                    return tuple(line.strip() for line in lines if line.strip()) or None
    return None
