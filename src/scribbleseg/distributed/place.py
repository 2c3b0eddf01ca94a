"""A folder on a disk or in an object store: the few things that a run over many machines does with one."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from scribbleseg.atomic import CANNOT_WRITE, storage_error
from scribbleseg.errors import ConfigError, StorageError
from scribbleseg.extras import library

T = TypeVar("T")

_COPIED = 2**22

#: Seconds between tries of a read or write that an object store or a network disk has refused.
PAUSES_S = (0.5, 2.0, 8.0)


class Found(NamedTuple):
    """A file in a place: its name below it, bytes, and time of the last change in nanoseconds."""

    name: str
    size: int
    changed_ns: int


def _filesystem(url: str) -> tuple[Any, str]:
    """Return pyarrow's file system and the path in it; of protocols that pyarrow does not know, fsspec's."""
    fs: Any = library("pyarrow.fs", url, "which reads disks and object stores", "ray")
    if "://" not in url:
        return fs.LocalFileSystem(), str(Path(url).absolute())
    try:
        return fs.FileSystem.from_uri(url)
    except (OSError, ValueError, NotImplementedError) as error:
        fsspec: Any = library("fsspec", url, "which knows further protocols", "ray")
        try:
            found, path = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as other:
            expected = "a folder, or the address of an object store: s3://…, gs://…, abfs://…, hdfs://…"
            raise ConfigError(url, expected, " ".join(f"{error}; {other}".split())[:200], "check the address") from None
        return fs.PyFileSystem(fs.FSSpecHandler(found)), path


class Place:
    """A folder, by its path or address.

    On a disk a file appears by being renamed, in an object store by its one put: whole or not at all, in both.

    Args:
        url: path, or address as ``s3://bucket/folder``; options as pyarrow's ``?region=…&endpoint_override=…``.
        writing: name of a folder below it in which files wait for their names, on a disk.
    """

    def __init__(self, url: str, writing: str = ".writing") -> None:
        self.url, self._writing = url, writing
        self._fs, root = _filesystem(url)
        self._root = root.rstrip("/") or "/"
        self.local: Path | None = Path(self._root) if self._fs.type_name == "local" else None

    def __str__(self) -> str:
        return self.url.partition("?")[0]

    def below(self, name: str, writing: str = ".writing") -> Place:
        """Return a folder in it."""
        address, mark, options = self.url.partition("?")
        return Place(f"{address.rstrip('/')}/{name}{mark}{options}", writing)

    def make(self) -> None:
        """Make the folder, on a disk; in an object store there are none.

        Raises:
            StorageError: it cannot be made.
        """
        if self.local is not None:
            with _told(self.local):
                self.local.mkdir(parents=True, exist_ok=True)

    def path(self, name: str) -> str:
        """Return what the file system calls a file of ours, or one that is named by its whole address."""
        if "://" in name:
            here = self.url.partition("://")[0] if "://" in self.url else "file"
            scheme, _, rest = name.partition("://")
            if scheme != here:
                raise ConfigError(name, f"a file in the store of {self}", f"one of {scheme}://", "list them by themselves")
            return rest
        if name.startswith("/") and self.local is not None:
            return name
        return f"{self._root}/{name}" if name else self._root

    def kind(self, name: str = "") -> str:
        """Return ``file``, ``folder`` or ``nothing``."""
        info = _again(lambda: self._fs.get_file_info(self.path(name)))
        return {"File": "file", "Directory": "folder"}.get(info.type.name, "nothing")

    def size(self, name: str) -> int:
        """Return a file's bytes."""
        return int(_again(lambda: self._fs.get_file_info(self.path(name))).size or 0)

    def names(self, folder: str) -> list[str]:
        """Return the names of the files in a folder, sorted; none where it is not there."""
        return sorted(info.base_name for info in self._infos(folder) if info.type.name == "File")

    def walk(self, folder: str = "") -> Iterator[Found]:
        """Yield the files in and below a folder, folder by folder, sorted; hidden ones are left out.

        Cost: memory for the names of one folder, and of those that stand beside it.
        """
        infos = [info for info in self._infos(folder) if not info.base_name.startswith(".")]
        before = f"{folder}/" if folder else ""
        for info in sorted((i for i in infos if i.type.name == "File"), key=lambda i: i.base_name):
            yield Found(f"{before}{info.base_name}", int(info.size or 0), int(info.mtime_ns or 0))
        for name in sorted(i.base_name for i in infos if i.type.name == "Directory"):
            yield from self.walk(f"{before}{name}")

    def _infos(self, folder: str) -> list[Any]:
        fs: Any = library("pyarrow.fs", self.url, "which reads disks and object stores", "ray")
        return _again(lambda: self._fs.get_file_info(fs.FileSelector(self.path(folder), allow_not_found=True)))

    @contextlib.contextmanager
    def opened(self, name: str) -> Iterator[Any]:
        """Open a file for reading at any place: pyarrow's ``NativeFile``."""
        with _again(lambda: self._fs.open_input_file(self.path(name))) as file:
            yield file

    def read(self, name: str, offset: int = 0, size: int | None = None) -> bytes:
        """Return a file's bytes, or some of them.

        Raises:
            OSError: it cannot be read, after several tries.
        """

        def once() -> bytes:
            with self._fs.open_input_file(self.path(name)) as file:
                return bytes(file.read() if size is None else file.read_at(size, offset))

        return _again(once)

    def copy(self, name: str, target: Path, offset: int = 0, size: int | None = None) -> None:
        """Copy a file, or some of it, to a disk here, a few megabytes at a time.

        Raises:
            OSError: it cannot be read, after several tries.
        """

        def once() -> None:
            with self._fs.open_input_file(self.path(name)) as file, target.open("wb") as copy:
                at, end = offset, file.size() if size is None else offset + size
                while chunk := file.read_at(min(_COPIED, end - at), at):
                    copy.write(chunk)
                    at += len(chunk)

        _again(once)

    def write(self, name: str, contents: bytes) -> None:
        """Write a file, whole or not at all.

        Raises:
            StorageError: it cannot be written, after several tries.
        """
        if self.local is not None:
            with self.scratch() as folder:
                part = folder / "part"
                with _told(self.local / name):
                    part.write_bytes(contents)
                self.take(part, name)
            return

        def once() -> None:
            with self._fs.open_output_stream(self.path(name)) as stream:
                stream.write(contents)

        try:
            _again(once)
        except OSError as error:
            raise _not_written(f"{self}/{name}", error) from None

    def take(self, file: Path, name: str) -> None:
        """Give a file of ours, which :meth:`scratch` holds, its place and name; a folder too, on a disk."""
        if self.local is None:
            self.write(name, file.read_bytes())
            return
        target = self.local / name
        with _told(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            if file.is_dir() and target.exists():
                shutil.rmtree(target)
            file.replace(target)

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """Yield an empty folder from which files can be taken, and remove it at the end."""
        above = None if self.local is None else self.local / self._writing
        with _told(above or Path(tempfile.gettempdir())):
            if above is not None:
                above.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix="scribbleseg-", dir=above))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def delete(self, name: str) -> None:
        """Delete a file or folder, if it is there."""
        kind = self.kind(name)
        if kind == "file":
            _again(lambda: self._fs.delete_file(self.path(name)))
        elif kind == "folder":
            _again(lambda: self._fs.delete_dir(self.path(name)))


def _again(call: Callable[[], T]) -> T:
    """Return what a call does, tried again where a store or network disk fails for a moment."""
    for pause in PAUSES_S:
        try:
            return call()
        except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError):
            raise
        except OSError as error:
            if error.errno in CANNOT_WRITE:
                raise
            time.sleep(pause)
    return call()


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise storage_error(error, path) from None


def _not_written(where: str, error: OSError) -> StorageError:
    reason = " ".join((error.strerror or str(error) or os.strerror(error.errno or 0)).split())[:300]
    return StorageError(where, "a place where a file of this name can be written", reason, "check address, rights and quota")
