"""Which file is where: read from ``shards.index`` beside ``dataset.yaml``, or made by one look at all headers."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO, Any

from scribbleseg.atomic import atomic_path
from scribbleseg.data.shards.files import BLOCK, Place, Shards
from scribbleseg.data.shards.headers import Entry, entries
from scribbleseg.data.shards.keys import Naming, path_of
from scribbleseg.errors import DataError, StorageError
from scribbleseg.trees import from_json

INDEX = "shards.index"

#: More files are refused: their places alone would fill two gigabytes.
MAX_FILES = 10_000_000


def open_shards(root: Path, patterns: tuple[str, ...], naming: Naming) -> Shards:
    """Open the shards of a data set; where they have no index, or one of other shards, it is made and kept if it can be.

    Args:
        root: folder of the data set.
        patterns: of the shards' paths.
        naming: extension, folder and suffix of what may be in them, images first.

    Raises:
        DataError: no shards, a damaged shard or index, a file twice, or no image that ``naming`` knows.

    Cost: with an index 7 µs a file, without it 35 µs and the reading of all headers; see :class:`Shards` for memory.
    """
    sizes = _found(root, patterns)
    again = (_reopened, (root, patterns, naming, _stamp(root, sizes)))
    shards = Shards(root, tuple(root / name for name in sizes), again)
    known = {extension: (folder, suffix) for extension, folder, suffix in naming}
    others: Counter[str] = Counter()
    for number, members in enumerate(_members(root, sizes)):
        for entry in members:
            name = path_of(entry.name, known)
            if name is None:
                others[entry.name.rpartition("/")[2].partition(".")[2][:40]] += 1
            elif not shards.add(name, Place(number, entry.offset, entry.size)):
                do = "write the shards again with every file once"
                raise DataError(shards.paths[number], "every file once", f"'{entry.name[:120]}' a second time", do)
            if len(shards) > MAX_FILES:
                raise DataError(root, f"at most {MAX_FILES} files", "more", "split the data set")
    images = naming[0][1]  # the first kind's folder
    if shards.names(PurePosixPath(images)) is None:
        expected = f"images that end in {', '.join(extension for extension, folder, _ in naming if folder == images)}"
        got = ", ".join(f"{number} × {ending}" for ending, number in others.most_common(5)) or "none"
        do = "say under `shards` what the ends of the names are, as `images: jpg`"
        raise DataError(root / "dataset.yaml", expected, got, do)
    return shards


@lru_cache(maxsize=4)
def _reopened(root: Path, patterns: tuple[str, ...], naming: Naming, stamp: str) -> Shards:
    """Open the shards in another process, once for all that is sent to it. The stamp tells when they are others."""
    return open_shards(root, patterns, naming)


def _found(root: Path, patterns: Iterable[str]) -> dict[str, int]:
    """Return the shards, by their paths below the data set's folder or their absolute ones, and how many bytes each has."""
    names: set[str] = set()
    for pattern in patterns:
        anchor = Path(pattern).anchor
        with contextlib.suppress(ValueError, OSError):  # no pattern: nothing has such a name
            found = (Path(anchor) if anchor else root).glob(pattern.removeprefix(anchor))
            names |= {(path if anchor else path.relative_to(root)).as_posix() for path in found if path.is_file()}
    if not names:
        do = "check `shards: files` in it: patterns below its folder"
        raise DataError(root / "dataset.yaml", f"tar files named {', '.join(patterns)}", "none", do)
    return {name: (root / name).stat().st_size for name in sorted(names)}


def _stamp(root: Path, sizes: dict[str, int]) -> str:
    times = [(name, size, (root / name).stat().st_mtime_ns) for name, size in sizes.items()]
    return hashlib.sha256(repr(times).encode()).hexdigest()


def _members(root: Path, sizes: dict[str, int]) -> Iterator[Iterable[Entry]]:
    """Yield the files of each shard: from the index if it is of these shards, else from their headers."""
    path = root / INDEX
    if not _is_of(path, sizes):
        try:
            _write(path, root, sizes)
        except StorageError:  # where it cannot be kept it is made each time
            yield from (_scanned(root / name) for name in sizes)
            return
    yield from _read(path, sizes)


def _scanned(path: Path) -> list[Entry]:
    try:
        return list(entries(path))
    except OSError as error:
        raise DataError(path, "a readable tar file", str(error), "check who may read it") from None


def _write(path: Path, root: Path, sizes: dict[str, int]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for tree in (_head(sizes), *({"shard": name, "files": _scanned(root / name)} for name in sizes)):
            file.write(json.dumps(tree, ensure_ascii=False, separators=(",", ":")) + "\n")


def _head(sizes: dict[str, int]) -> dict[str, Any]:
    return {"version": 1, "shards": [list(item) for item in sizes.items()]}


def _is_of(path: Path, sizes: dict[str, int]) -> bool:
    """Say whether there is an index, and of these shards.

    Raises:
        DataError: the file is no index.
    """
    if not path.is_file():
        return False
    if path.stat().st_size > sum(sizes.values()) + 2**20:
        raise _no_index(path, 1, "more bytes than the shards have")
    with _lines(path) as lines:
        return next(lines, None) == _head(sizes)


def _read(path: Path, sizes: dict[str, int]) -> Iterator[Iterator[Entry]]:
    with _lines(path) as lines:
        next(lines, None)
        for number, (name, size) in enumerate(sizes.items(), 2):
            line = next(lines, None)
            files = line.get("files") if isinstance(line, dict) and line.get("shard") == name else None
            if not isinstance(files, list):
                raise _no_index(path, number, f"no list of the files in {name}")
            yield (_entry(path, number, row, size) for row in files)


@contextlib.contextmanager
def _lines(path: Path) -> Iterator[Iterator[Any]]:
    """Yield the lines of a file of JSON, one in memory at a time."""

    def parsed(file: IO[str]) -> Iterator[Any]:
        for number, line in enumerate(file, 1):
            try:
                yield from_json(line)
            except ValueError as error:
                raise _no_index(path, number, str(error)[:200]) from None

    try:
        with path.open(encoding="utf-8") as file:
            yield parsed(file)
    except (OSError, UnicodeDecodeError) as error:
        raise _no_index(path, 1, str(error)[:200]) from None


def _entry(path: Path, line: int, row: Any, size: int) -> Entry:
    """Return a row of the index, if it can be true."""
    if isinstance(row, list) and [type(value) for value in row] == [str, int, int]:
        entry = Entry(*row)
        inside = BLOCK <= entry.offset <= entry.offset + max(entry.size, 0) <= size and entry.offset % BLOCK == 0
        if inside and entry.size >= 0:
            return entry
    raise _no_index(path, line, f"{row!s:.200}, which is in no shard of {size} bytes")


def _no_index(path: Path, line: int, got: str) -> DataError:
    return DataError(f"{path}, line {line}", "the places of the files in the shards", got, "delete it: it is then made anew")
