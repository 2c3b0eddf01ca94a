"""Finding the file of a stem, with one look at the folder for many stems."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from scribbleseg.data.readers import FOLDERS, READERS, is_image
from scribbleseg.data.shards.files import File, Member
from scribbleseg.errors import DataError

#: ``scan@007`` is slice 7, from 0, of the stack ``scan``; ``scan@*`` in a split list is all of them.
_SLICE = re.compile(r"(.+)@(\d{1,6}|\*)\Z")


class Source(NamedTuple):
    """Where the picture of a stem is: a file, and which slice of it (None where it is one picture)."""

    path: File
    number: int | None


def slice_stem(stack: str, index: int) -> str:
    """Return the stem of a slice: at least three digits, so that names sort as slices do."""
    return f"{stack}@{index:03d}"


def split_slice(stem: str) -> tuple[str, str] | None:
    """Return stack and slice (digits, or ``*``) of a stem, or None where it names no slice."""
    match = _SLICE.match(stem)
    return (match[1], match[2]) if match else None


class Listing:
    """The names in folders, kept until a folder changes.

    Cost: the first look at a folder reads all its names (0.1 s for 100,000, 10 MB); a further one asks when it changed.
    """

    def __init__(self) -> None:
        self._names: dict[Path, tuple[int, frozenset[str]]] = {}

    def __reduce__(self) -> tuple[type[Listing], tuple[()]]:
        """Send no names to another process, which looks itself when it needs to."""
        return type(self), ()

    def find(self, folder: File, stem: str) -> Source:
        """Return the picture of a stem: the file of that very name, or else the slice it names of a stack.

        Raises:
            DataError: none, or more than one.
        """
        for fresh in (False, True):  # a second look, lest a file that was written this instant is missed
            for path, index in _candidates(folder, stem):
                found = self._of_stem(path, fresh)
                if len(found) == 1:
                    return Source(found[0], index)
                if found:
                    raise _wrong(folder, stem, ", ".join(p.name for p in found))
        raise _wrong(folder, stem, "no such file")

    def has(self, folder: File, stem: str) -> bool:
        """Say whether a folder has any picture of a stem."""
        looks = ((path, fresh) for fresh in (False, True) for path, _ in _candidates(folder, stem))
        return any(self._of_stem(path, fresh) for path, fresh in looks)

    def _of_stem(self, path: File, fresh: bool) -> list[File]:
        names, stem = self._of_folder(path.parent, fresh), path.name
        files = [f"{stem}{w}" for suffix in READERS for w in (suffix, suffix.upper())]
        found: list[File] = [path.parent / name for name in files if name in names]
        return found or ([path] if f"{stem}/" in names else [])

    def _of_folder(self, folder: File, fresh: bool) -> Collection[str]:
        if isinstance(folder, Member):
            return folder.names()
        try:
            changed = folder.stat().st_mtime_ns
            if not fresh and folder in self._names and self._names[folder][0] == changed:
                return self._names[folder][1]
            with os.scandir(folder) as entries:
                names = frozenset(_name(entry) for entry in entries)
        except (OSError, ValueError):  # no such folder, or a name no disk can have
            return frozenset()
        self._names[folder] = changed, names
        return names


def pictures_below(folder: Path, leave_out: Callable[[Path], bool] = lambda path: False) -> list[Path]:
    """Return the pictures of a folder and of all folders in it, sorted.

    Hidden files and folders are left out, and folders that are links are not looked into: they may lead in a circle.

    Args:
        folder: where to look.
        leave_out: says of a folder whether it is not looked into.
    """
    found, waiting = [], [folder]
    while waiting:
        place = waiting.pop()
        try:
            with os.scandir(place) as entries:
                inside = [(place / e.name, e.is_dir(), e.is_symlink()) for e in entries if not e.name.startswith(".")]
        except OSError:
            continue
        for path, is_folder, is_link in inside:
            if is_folder and leave_out(path):
                continue
            if is_image(path):
                found.append(path)
            elif is_folder and not is_link:
                waiting.append(path)
    return sorted(found)


def _candidates(folder: File, stem: str) -> Iterator[tuple[File, int | None]]:
    if not Path(stem).name:  # the folder itself, which may look like a series
        return
    yield folder / stem, None
    named = split_slice(stem)
    if named is not None and named[1] != "*":
        index = int(named[1])
        yield folder / slice_stem(named[0], index), None
        yield folder / named[0], index


def _name(entry: os.DirEntry[str]) -> str:
    """Return the name, with a slash behind it where it is a folder that no reader takes for a file."""
    return f"{entry.name}/" if entry.is_dir() and not entry.name.lower().endswith(FOLDERS) else entry.name


def _wrong(folder: File, stem: str, got: str) -> DataError:
    if stem.lower().endswith(tuple(READERS)):
        got += "; split lists hold names without suffix"
    return DataError(folder / stem, f"one file ending in {', '.join(READERS)}", got, "add it, or mend the split list")
