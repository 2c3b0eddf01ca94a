"""Files inside tar files, which readers ask what they would ask a path."""

from __future__ import annotations

import errno
import io
import os
import tarfile
from array import array
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeAlias

from scribbleseg.errors import DataError

#: Shards that a process holds open, however many there are; the one that was not used for longest is closed.
OPEN_SHARDS = 16

#: A tar file is a row of blocks of so many bytes; one of them, a header, stands before each file.
BLOCK = 512

#: Bytes of a file that are fetched at a time: most pictures whole, of a large one little more than its header.
_FETCHED = 2**18

_MEND = "copy the shard again, or delete shards.index, which is then made anew"


class Place(NamedTuple):
    """Where a file's bytes are: which shard, from which byte, how many."""

    shard: int
    offset: int
    size: int


class _OpenShard:
    """A shard's descriptor. Reads say where: processes that inherit it, and threads, do not disturb each other."""

    def __init__(self, path: Path) -> None:
        self.path, self.descriptor = path, os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))

    def read(self, offset: int, size: int) -> bytes:
        return os.pread(self.descriptor, size, offset)

    def __del__(self) -> None:  # not before the last file of it that is being read is let go
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


class Shards:
    """The files of a data set in shards, by the folder and name that they would have in a plain one.

    Cost: about 200 bytes of memory a file; a look-up does not touch the disk, reading a file of up to 256 KiB asks it twice.
    """

    def __init__(self, root: Path, paths: tuple[Path, ...], again: tuple[Callable[..., Shards], tuple[Any, ...]]) -> None:
        """Begin without any file.

        Args:
            root: folder of the data set.
            paths: of the shards.
            again: what another process calls, and with which arguments, to get the same; the files are not sent.
        """
        self.root, self.paths, self._again = root, paths, again
        self._folders: dict[str, dict[str, int]] = {}
        self._places = array("q")  # three numbers a file
        self._open = lru_cache(maxsize=OPEN_SHARDS)(_OpenShard)

    def __reduce__(self) -> tuple[Callable[..., Shards], tuple[Any, ...]]:
        return self._again

    def __len__(self) -> int:
        return len(self._places) // len(Place._fields)

    def add(self, name: str, place: Place) -> bool:
        """Note where a file is; False if there is one of that name already."""
        folder, _, base = name.rpartition("/")
        if folder not in self._folders:
            for above in (PurePosixPath(folder), *PurePosixPath(folder).parents):
                self._folders.setdefault(above.as_posix(), {})
        row = len(self)
        if self._folders[folder].setdefault(base, row) != row:
            return False
        self._places.extend(place)
        return True

    def folder(self, name: str) -> Member:
        """Return a folder of files, whether or not there are any."""
        return Member(self, PurePosixPath(name))

    def place(self, path: PurePosixPath) -> Place | None:
        """Return where a file is, or None where there is none of that name."""
        row = self._folders.get(path.parent.as_posix(), {}).get(path.name)
        return None if row is None else Place(*self._places[3 * row : 3 * row + 3])

    def names(self, folder: PurePosixPath) -> Collection[str] | None:
        """Return the names in a folder, or None where there is no such folder."""
        return self._folders.get(folder.as_posix())

    def below(self, folder: PurePosixPath) -> Iterator[tuple[str, list[str]]]:
        """Yield the place of every folder in and below one, and the names in it, both sorted."""
        inside = (PurePosixPath(name) for name in self._folders)
        for path in sorted(path for path in inside if path.is_relative_to(folder)):
            yield path.relative_to(folder).as_posix(), sorted(self._folders[path.as_posix()])

    def opened(self, path: PurePosixPath, place: Place) -> io.BufferedReader:
        """Return a file's bytes as a file object.

        Raises:
            DataError: what stands in the shard is not what the index says.
        """
        shard = self._open(self.paths[place.shard])
        fault = _fault(shard.read(place.offset - BLOCK, BLOCK), path, place.size)
        if fault is not None:
            expected = f"'{path}', {place.size} bytes from byte {place.offset}, as the shards' index says"
            raise DataError(shard.path, expected, fault, _MEND)
        return io.BufferedReader(_Part(shard, place), max(1, min(place.size, _FETCHED)))


def _fault(header: bytes, path: PurePosixPath, size: int) -> str | None:
    """Return what is wrong with the header before a file. Long or foreign names are not in it, but before it."""
    try:
        found = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        return f"no header of a file there ({error})"
    if found.size != size:
        return f"a file of {found.size} bytes"
    stem = path.name.partition(".")[0].partition("%")[0]
    if path.as_posix().isascii() and len(path.as_posix()) < 80 and stem not in found.name:
        return f"the file {found.name!r:.120}"
    return None


class _Part(io.RawIOBase):
    """Part of a shard, as a file of its own."""

    def __init__(self, shard: _OpenShard, place: Place) -> None:
        self._shard, self._place, self._at = shard, place, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._place.size}[whence]
        if at < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._at = at
        return at

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self._place.size - self._at)
        if wanted <= 0:
            return 0
        found = self._shard.read(self._place.offset + self._at, wanted)
        if not found:
            got = f"nothing from byte {self._place.offset + self._at}"
            raise DataError(self._shard.path, "a shard as long as it was", got, "copy the shard again; it was cut short")
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)


@dataclass(frozen=True)
class Member:
    """A file or folder in shards; what it can be asked, a path can be asked too.

    Attributes:
        shards: that hold it.
        path: below the data set's folder, if that were a plain one.
    """

    shards: Shards
    path: PurePosixPath

    def __truediv__(self, name: str) -> Member:
        return Member(self.shards, self.path / name)

    def __str__(self) -> str:
        place = self.shards.place(self.path)
        where = str(self.shards.root / self.path)
        return where if place is None else f"{where} (in {self.shards.paths[place.shard].name})"

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.name

    @property
    def suffix(self) -> str:
        """The end of its name, from the last dot."""
        return self.path.suffix

    @property
    def stem(self) -> str:
        """Its name without that."""
        return self.path.stem

    @property
    def parent(self) -> Member:
        """The folder it is in."""
        return Member(self.shards, self.path.parent)

    def names(self) -> Collection[str]:
        """Return the names of the files in this folder."""
        return self.shards.names(self.path) or ()

    def walk(self) -> Iterator[tuple[str, list[str]]]:
        """Yield the folders in and below this one, as paths below it, and the names in each."""
        return self.shards.below(self.path)

    def exists(self) -> bool:
        """Say whether there is such a file or folder."""
        return self.is_file() or self.is_dir()

    def is_file(self) -> bool:
        """Say whether there is such a file."""
        return self.shards.place(self.path) is not None

    def is_dir(self) -> bool:
        """Say whether there is such a folder."""
        return self.shards.names(self.path) is not None

    def stat(self) -> SimpleNamespace:
        """Return ``st_size``, in bytes, and ``st_mtime_ns``, which is 0: shards do not change while they are open."""
        return SimpleNamespace(st_size=self._place().size, st_mtime_ns=0)

    def open(self, mode: str = "rb") -> io.BufferedReader:
        """Open the file to read its bytes."""
        assert mode == "rb", "shards are read only"
        return self.shards.opened(self.path, self._place())

    def read_bytes(self) -> bytes:
        """Return all its bytes."""
        with self.open() as file:
            return file.read()

    def _place(self) -> Place:
        place = self.shards.place(self.path)
        if place is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self))
        return place


#: What a reader is given.
File: TypeAlias = Path | Member
