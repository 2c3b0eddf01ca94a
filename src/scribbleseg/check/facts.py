"""What is known of a data set once every file was looked at: its lists, its folders, a record an image, sums a split."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np

from scribbleseg.check.scan import Fault, Labels, Record
from scribbleseg.data.folder import Dataset, leaves_the_folder
from scribbleseg.data.listing import split_slice
from scribbleseg.data.readers import FOLDERS, READERS
from scribbleseg.data.shards.files import File, Member
from scribbleseg.errors import DataError
from scribbleseg.records import UNLABELLED


@dataclass(frozen=True)
class SplitList:
    """A split's list.

    Attributes:
        stems: that can be looked for, each once, in order.
        repeated: stems that stand in it more than once, with how often.
        outside: names that lead out of the image folder.
        fault: why it cannot be read.
    """

    stems: tuple[str, ...] = ()
    repeated: tuple[tuple[str, int], ...] = ()
    outside: tuple[str, ...] = ()
    fault: DataError | None = None


@dataclass(frozen=True)
class Listing:
    """What lies in a folder: suffixes of files of ours by stem, and how many others there are by suffix."""

    files: Mapping[str, str]
    others: Mapping[str, int]
    fault: str | None = None


@dataclass(frozen=True)
class Tally:
    """Sums over the images of a split; arrays have an entry a class id, 256 of them.

    Attributes:
        num_images: in its list.
        num_scribbles, num_masks: usable files of each.
        scribble_pixels, mask_pixels: pixels by value, 255 where nobody drew or the truth is unknown.
        strokes: number of strokes by class.
        drawn_in: number of images in which the class is drawn.
        known, wrong: stroke pixels whose class the masks know, and those with another class.
    """

    num_images: int
    num_scribbles: int
    num_masks: int
    scribble_pixels: np.ndarray
    mask_pixels: np.ndarray
    strokes: np.ndarray
    drawn_in: np.ndarray
    known: int
    wrong: int

    @property
    def labelled(self) -> float:
        """Share of the pixels that are labelled."""
        total = int(self.scribble_pixels.sum())
        return 1 - int(self.scribble_pixels[UNLABELLED]) / total if total else 0.0


@dataclass(frozen=True)
class Facts:
    """All that the rules may look at."""

    dataset: Dataset
    lists: Mapping[str, SplitList]
    folders: Mapping[str, Listing]
    records: Mapping[str, Record] = field(default_factory=dict)
    quick: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Class names by id."""
        return self.dataset.names

    @cached_property
    def training(self) -> tuple[str, ...]:
        """The split that training reads; where it is not called `train`, every split that may be meant."""
        if "train" in self.lists:
            return ("train",)
        called = tuple(name for name in self.lists if name.lower().startswith("train"))
        others = tuple(name for name in self.lists if not name.lower().startswith(("val", "test")))
        return called or others or tuple(self.lists)

    @cached_property
    def needed(self) -> frozenset[tuple[str, str]]:
        """Split and kind of the files without which training does not start, or stops."""
        pairs = {(split, kind) for split in self.training for kind in ("images", "scribbles")}
        if "val" in self.lists and "val" not in self.training and self.dataset.has_masks():
            pairs |= {("val", "images"), ("val", "masks")}
        return frozenset(pairs)

    @cached_property
    def tallies(self) -> Mapping[str, Tally]:
        """The sums of each split."""
        unlabelled = self.dataset.spec.unlabelled
        return {split: tally((self.records[s] for s in own.stems), unlabelled) for split, own in self.lists.items()}

    def of(self, *splits: str) -> Iterable[Record]:
        """Yield the records of some splits, each image once, in the order of their lists."""
        stems = dict.fromkeys(stem for split in splits for stem in self.lists[split].stems)
        return (self.records[stem] for stem in stems)

    def place(self, kind: str, stem: str) -> str:
        """Return where a file lies, below the data set's folder; without suffix where there is none."""
        folder, files = str(getattr(self.dataset.spec, kind)), self.folders[kind].files
        stack = split_slice(stem)
        if stem not in files and stack is not None and stack[0] in files:
            return f"{folder}/{stack[0]}{files[stack[0]]}, slice {stack[1]}"
        if kind == "scribbles" and stem not in files and "strokes" in self.folders:
            return self.place("strokes", stem)
        return f"{folder}/{stem}{files.get(stem, '')}"


def read_lists(dataset: Dataset) -> dict[str, SplitList]:
    """Read every split's list, and keep what can be used of it."""
    found = {}
    for split in dataset.spec.splits:
        try:
            lines = dataset.listed(split)
        except DataError as error:
            found[split] = SplitList(fault=error)
            continue
        outside = tuple(dict.fromkeys(line for line in lines if leaves_the_folder(line)))
        inside = (line for line in lines if not leaves_the_folder(line))
        numbers = Counter(sys.intern(stem) for line in inside for stem in _slices(dataset, line))
        repeated = tuple((stem, number) for stem, number in numbers.items() if number > 1)
        found[split] = SplitList(tuple(numbers), repeated, outside)
    return found


def _slices(dataset: Dataset, line: str) -> tuple[str, ...]:
    """Return the stems that a line stands for; the line itself where its stack cannot be read."""
    try:
        return dataset.slices(line)
    except DataError:
        return (line,)


def list_folders(dataset: Dataset) -> dict[str, Listing]:
    """List the folders of images, scribbles, strokes and masks that ``dataset.yaml`` names."""
    spec = dataset.spec
    kinds = [kind for kind in ("images", "scribbles", "strokes", "masks") if getattr(spec, kind) is not None]
    return {kind: list_folder(dataset.folder(kind), (".json",) if kind == "strokes" else tuple(READERS)) for kind in kinds}


def list_folder(folder: File, suffixes: tuple[str, ...]) -> Listing:
    """List what ends in one of some suffixes in a folder and those below it. Names that begin with a dot are left out."""
    files: dict[str, str] = {}
    others: Counter[str] = Counter()
    faults: list[OSError] = []
    if not folder.is_dir():
        return Listing(files, others, "a file, not a folder" if folder.exists() else "no such folder")
    for below, names in folder.walk() if isinstance(folder, Member) else _walk(folder, faults):
        for name in names:
            path = PurePosixPath(below, name)
            suffix = next((path.name[-len(s) :] for s in suffixes if name.lower().endswith(s)), None)
            if suffix is not None:
                files[sys.intern(path.as_posix().removesuffix(suffix))] = sys.intern(suffix)
            else:
                others[path.suffix.lower() or path.name] += 1
    return Listing(files, others, faults[0].strerror if faults else None)


def _walk(folder: Path, faults: list[OSError]) -> Iterator[tuple[str, list[str]]]:
    """Yield the folders in and below one, as paths below it, and what may be a file in each."""
    for where, inner, names in os.walk(folder, onerror=faults.append):
        stores = [name for name in inner if name.lower().endswith(FOLDERS)]
        inner[:] = sorted(name for name in inner if not name.startswith(".") and name not in stores)
        yield Path(where).relative_to(folder).as_posix(), sorted(n for n in (*names, *stores) if not n.startswith("."))


def tally(records: Iterable[Record], unlabelled: int) -> Tally:
    """Add up the records of a split."""
    sums = {name: np.zeros(256, np.int64) for name in ("scribbles", "masks", "strokes", "drawn_in")}
    numbers: Counter[str] = Counter()
    for record in records:
        numbers.update(images=1, known=record.known, wrong=record.wrong)
        for kind in ("scribbles", "masks"):
            labels: Labels | Fault | None = getattr(record, kind)
            if not isinstance(labels, Labels):
                continue
            numbers[kind] += 1
            for value, pixels in labels.pixels:
                sums[kind][UNLABELLED if value == unlabelled else value] += pixels
            for class_id, strokes in labels.strokes:
                sums["strokes"][class_id] += strokes
                sums["drawn_in"][class_id] += 1
    return Tally(
        numbers["images"],
        numbers["scribbles"],
        numbers["masks"],
        sums["scribbles"],
        sums["masks"],
        sums["strokes"],
        sums["drawn_in"],
        numbers["known"],
        numbers["wrong"],
    )
