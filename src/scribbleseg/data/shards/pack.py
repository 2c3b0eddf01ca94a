"""From a plain folder to shards: every file byte for byte, the files of a stem one after the other."""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import IO, Any, NamedTuple

import yaml

from scribbleseg.atomic import atomic_folder, write_text
from scribbleseg.data.folder import Dataset, leaves_the_folder, open_dataset
from scribbleseg.data.listing import split_slice
from scribbleseg.data.readers import FOLDERS, IN_SHARDS, READERS
from scribbleseg.data.shards.keys import member_name, path_of
from scribbleseg.errors import ConfigError, DataError, StorageError, nearest

#: Kinds of files, and what stands between stem and suffix in a shard.
KEYS = {"images": "image", "scribbles": "scribble", "strokes": "strokes", "masks": "mask"}

#: Shard that gets the images in no list.
OTHER = "other"


class _File(NamedTuple):
    kind: str
    split: str
    stem: str
    path: Path
    member: str


@dataclass(frozen=True)
class Packed:
    """What was packed: numbers of images, files and shards, bytes, and files that no reader knows and that stayed behind."""

    images: int
    files: int
    shards: int
    bytes: int
    left: int


def shard_dataset(
    root: Path | str,
    out: Path | str,
    *,
    size_mb: int = 500,
    splits: Sequence[str] = (),
    progress: Callable[[int, int], None] = lambda done, all_: None,
) -> Packed:
    """Pack a data set into tar files that the same commands read, and that WebDataset reads too.

    ``out`` gets ``SPLIT-000000.tar`` and so on, ``dataset.yaml``, the lists and ``shards.index``. A stem of several splits is
    packed once, with the first; images in no list are in ``other-*.tar``. The same folder gives the same bytes. ``out``
    appears at the end, whole, and after its headers were read back; interrupted, it does not appear.

    Args:
        root: folder of the data set.
        out: folder to write; it must not exist.
        size_mb: a shard is closed once it has so many megabytes. A stem's files are in one shard.
        splits: whose images are packed; all images of the data set if there is none.
        progress: told how many names are done, of how many; an image and its labels have one.

    Raises:
        DataError: the data set, or a file of it, cannot be packed: another format than ``IN_SHARDS``, or unreadable.
        ConfigError: an unknown split.
        StorageError: ``out`` exists or cannot be written.
    """
    dataset, out = open_dataset(root), Path(out)
    if dataset.shards is not None:
        raise DataError(root, "a plain folder", "a data set in shards", "shard the folder that it was made of")
    if out.exists() or out.is_symlink():
        raise StorageError(out, "a new folder", "one that exists", "choose another name; nothing is ever overwritten")
    for split in splits:
        if split not in dataset.spec.splits:
            raise ConfigError("--split", "a split of the data set", f"'{split}'", nearest(split, dataset.spec.splits))
    wanted = tuple(splits) or tuple(dataset.spec.splits)
    lists = {split: dataset.listed(split) for split in wanted}
    files, left = _files(dataset, lists, everything=not splits)
    with atomic_folder(out) as folder:
        number = _write(folder, files, size_mb * 10**6, progress)
        spec = _spec(dataset, wanted)
        for split, name in spec["splits"].items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((dataset.root / dataset.spec.splits[split]).read_bytes())
        write_text(folder / "dataset.yaml", yaml.safe_dump(spec, sort_keys=False, allow_unicode=True))
        shards = open_dataset(folder).shards
        assert shards is not None
        assert len(shards) == len(files), "every file was written and is found again"
        total = sum(path.stat().st_size for path in shards.paths)
    return Packed(sum(file.kind == "images" for file in files), len(files), number, total, left)


def _files(dataset: Dataset, lists: dict[str, tuple[str, ...]], *, everything: bool) -> tuple[list[_File], int]:
    """Return all files in the order in which they are packed, and the number of those that are left."""
    split_of: dict[str, str] = {}
    for split, lines in lists.items():
        for line in lines:
            stack = split_slice(line)
            for stem in (line, stack[0]) if stack else (line,):
                split_of.setdefault(stem, split)
    order = {split: n for n, split in enumerate((*lists, OTHER))}
    found: dict[Path, _File] = {}
    left = 0
    for kind, folder, key in _folders(dataset):
        for path, stem, suffix in _of_folder(folder, kind):
            stack = split_slice(stem)
            split = split_of.get(stem) or (split_of.get(stack[0], "") if stack else "")
            if not suffix:
                left += 1
            elif split or everything:
                found.setdefault(path, _File(kind, split or OTHER, stem, path, _member(path, stem, key, suffix)))
    if not found:
        raise DataError(dataset.folder("images"), "images to pack", "none", "check the folders and lists in dataset.yaml")
    return sorted(found.values(), key=lambda file: (order[file.split], file.stem, file.member)), left


def _folders(dataset: Dataset) -> Iterator[tuple[str, Path, str]]:
    """Yield kind, folder and key; a folder of two kinds has the key of the first."""
    keys = _keys(dataset)
    for kind, key in keys.items():
        folder = dataset.folder(kind)
        assert isinstance(folder, Path)
        if list(keys.values()).index(key) == list(keys).index(kind):
            yield kind, folder, key


def _keys(dataset: Dataset) -> dict[str, str]:
    keys: dict[str, str] = {}
    of_folder: dict[Path, str] = {}
    for kind, key in KEYS.items():
        if getattr(dataset.spec, kind) is not None:
            folder = dataset.folder(kind)
            assert isinstance(folder, Path)
            keys[kind] = of_folder.setdefault(folder.resolve(), key)
    return keys


def _of_folder(folder: Path, kind: str) -> Iterator[tuple[Path, str, str]]:
    """Yield path, stem and suffix of the files in a folder and those below; no suffix where no reader knows it."""
    suffixes = (".json",) if kind == "strokes" else IN_SHARDS
    for where, inner, names in os.walk(folder):
        stores = [name for name in inner if name.lower().endswith(FOLDERS)]
        inner[:] = sorted(name for name in inner if not name.startswith(".") and name not in stores)
        for name in sorted(name for name in (*names, *stores) if not name.startswith(".")):
            path = Path(where, name)
            suffix = next((name[-len(s) :] for s in suffixes if name.lower().endswith(s)), "")
            if not suffix and kind != "strokes" and name.lower().endswith(tuple(READERS)):
                do = "leave it a plain folder: volumes are few files, and large ones; or export slices as PNG or TIFF"
                raise DataError(path, f"files that end in {', '.join(IN_SHARDS)}", f"'{name}'", do)
            yield path, path.relative_to(folder).as_posix().removesuffix(suffix), suffix


def _member(path: Path, stem: str, key: str, suffix: str) -> str:
    """Return a file's name in its shard, if it can be told from that."""
    name = member_name(stem, key, suffix)
    back = path_of(name, {f"{key}{suffix}".lower(): ("", suffix)})
    if back != f"/{stem}{suffix}" or not name.isprintable() or "\\" in name or leaves_the_folder(stem):
        raise DataError(path, "a name of letters that can be printed", repr(stem)[:120], "rename the image and its labels")
    return name


def _write(folder: Path, files: Sequence[_File], size: int, progress: Callable[[int, int], None]) -> int:
    """Write the shards and return their number."""
    total, done, number, names = len({file.stem for file in files}), 0, 0, set[str]()
    for split, members in groupby(files, attrgetter("split")):
        title = re.sub(r"[^\w-]+", "_", split)
        while title in names:
            title += "_"
        names.add(title)
        stems = [list(group) for _, group in groupby(members, attrgetter("stem"))]
        first, part = 0, 0
        while first < len(stems):
            path = folder / f"{title}-{part:06d}.tar"
            with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
                while first < len(stems) and (tar.offset < size or not tar.offset):
                    for file in stems[first]:
                        _add(tar, file)
                    first, done = first + 1, done + 1
                    progress(done, total)
            part, number = part + 1, number + 1
    return number


def _add(tar: tarfile.TarFile, file: _File) -> None:
    """Write a file, without what differs from one machine to the next."""
    info = tarfile.TarInfo(file.member)
    try:
        stream = file.path.open("rb")
    except OSError as error:
        raise _unread(file.path, error) from None
    with stream:
        info.size, info.mode = os.fstat(stream.fileno()).st_size, 0o644
        tar.addfile(info, _Whole(stream, file.path))  # type: ignore[arg-type]


class _Whole:
    """Reads a file of a data set; what goes wrong is told of that file, not of the one that is written."""

    def __init__(self, stream: IO[bytes], path: Path) -> None:
        self.stream, self.path = stream, path

    def read(self, size: int) -> bytes:
        try:
            found = self.stream.read(size)
        except OSError as error:
            raise _unread(self.path, error) from None
        if len(found) < size:
            raise DataError(self.path, "a file that stays as it is", "one that got shorter", "run again when nobody writes it")
        return found


def _unread(path: Path, error: OSError) -> DataError:
    return DataError(path, "a readable file", error.strerror or str(error), "check the file and who may read it")


def _spec(dataset: Dataset, splits: Sequence[str]) -> dict[str, Any]:
    """Return the ``dataset.yaml`` of the shards: folders and lists keep their names if they are below the data set's."""
    spec, keys = dataset.spec, _keys(dataset)
    lists = {split: spec.splits[split] for split in splits}
    for split, name in lists.items():
        if leaves_the_folder(name):
            lists[split] = re.sub(r"[^\w-]+", "_", split) + ".txt"
    folders = {kind: str(getattr(spec, kind)) for kind in keys}
    folders = {kind: kind if leaves_the_folder(name) else Path(name).as_posix() for kind, name in folders.items()}
    if len(set(folders.values())) != len(set(keys.values())):
        folders = {kind: next(k for k in keys if keys[k] == key) for kind, key in keys.items()}
    tree = spec.model_dump(mode="json", exclude_unset=True) | {"names": dict(sorted(spec.names.items()))}
    changed = {kind: key for kind, key in keys.items() if key != KEYS[kind]}
    return tree | folders | {"splits": lists, "shards": {"files": "*.tar"} | changed}
