"""What is to be predicted: images below a folder or prefix, rows of Parquet files, files in WebDataset's tar files."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from scribbleseg.data.readers import FOLDERS, READERS
from scribbleseg.data.readers.image import stem_of
from scribbleseg.data.shards.headers import entries_of
from scribbleseg.distributed.place import Place
from scribbleseg.errors import DataError
from scribbleseg.extras import library

#: Suffixes of files that are images by themselves.
IMAGES = tuple(suffix for suffix in READERS if suffix not in FOLDERS)

#: Columns of a Parquet file that are looked for.
NAME, PATH, CONTENTS = ("name", "key", "__key__"), ("path", "url", "uri"), ("image", "bytes", "jpg", "png")

#: Tar files and Parquet files whose contents are listed at a time, and bytes of a tar file that are fetched for its headers.
AT_ONCE, FETCHED = 16, 2**16


class Entry(NamedTuple):
    """One input.

    Attributes:
        key: its folder and name, which its outputs get too.
        at: file that it is, or is in: below the input place, or a whole address.
        offset: first byte in a tar file; -1 outside.
        size: number of bytes; -1 where nobody knows.
        row: in a Parquet file; -1 outside.
    """

    key: str
    at: str
    offset: int = -1
    size: int = -1
    row: int = -1

    @property
    def folder(self) -> str:
        """The key's folder."""
        return self.key.rpartition("/")[0]

    @property
    def name(self) -> str:
        """The key's last part."""
        return self.key.rpartition("/")[2]

    @property
    def is_file(self) -> bool:
        """Whether it is a file of its own."""
        return self.offset < 0 and self.row < 0


def is_image(name: str) -> bool:
    """Say whether a file is an image by its name."""
    return name.lower().endswith(IMAGES)


#: An input, or what is wrong with one, after the folder, tar or Parquet file that holds it: stems differ within each.
Listed = tuple[str, Entry | DataError]


def list_inputs(url: str) -> tuple[Place, Iterator[Listed]]:
    """Return the place of the inputs, and them in the order in which they are predicted.

    A folder, prefix, or single file. Tar and Parquet files among its files are opened; where there are any, loose images are
    left out. A tar or Parquet file's inputs are in a folder of its stem. One that cannot be read is an error among the entries.

    Raises:
        DataError: nothing there.
    """
    place = Place(url)
    kind = place.kind()
    if kind == "nothing":
        raise DataError(place, "a folder, prefix or file of images", "nothing there", "check path and rights")
    if kind == "file":
        above, _, name = url.partition("?")[0].rpartition("/")
        query = url.partition("?")[2]
        place = Place((above or ("/" if url.startswith("/") else ".")) + (f"?{query}" if query else ""))
        only = [name]
        return place, _containers(place, only) if _is_container(name) else _images([(name, place.size(name))])
    return place, _below(place)


def _below(place: Place) -> Iterator[Listed]:
    """Yield what is below a folder: nothing is listed before somebody asks."""
    if _has_containers(place):
        yield from _containers(place, [found.name for found in place.walk() if _is_container(found.name)])
    else:
        yield from _images((found.name, found.size) for found in place.walk())


def _is_container(name: str) -> bool:
    return name.lower().endswith((".tar", ".parquet"))


def _has_containers(place: Place) -> bool:
    """Say whether the first file that means anything is a tar or Parquet file: a bucket is not walked twice for it."""
    first = next((f.name for f in place.walk() if _is_container(f.name) or is_image(f.name)), "")
    return _is_container(first)


def _images(files: Iterable[tuple[str, int]]) -> Iterator[Listed]:
    return ((name.rpartition("/")[0], Entry(name, name, size=size)) for name, size in files if is_image(name))


def _containers(place: Place, names: list[str]) -> Iterator[Listed]:
    """Yield what tar and Parquet files hold, several being read at a time."""
    folders = {name.rpartition(".")[0]: name for name in names}
    if len(folders) < len(names):
        one = next(name for name in names if name not in folders.values())
        raise DataError(f"{place}/{one}", "tar and Parquet files of different stems", "another one of this stem", "rename one")

    def listed(name: str) -> list[Listed]:
        try:
            return [(name, e) for e in (_rows if name.lower().endswith(".parquet") else _members)(place, name)]
        except DataError as error:
            return [(name, error)]
        except Exception as error:  # pyarrow raises a dozen types for a damaged file
            got = " ".join(str(error).split())[:300] or type(error).__name__
            return [(name, DataError(f"{place}/{name}", "a tar or Parquet file", got, "copy or write it again"))]

    with ThreadPoolExecutor(AT_ONCE, "listing") as pool:
        waiting = iter(names)
        while some := list(itertools.islice(waiting, AT_ONCE)):
            for found in pool.map(listed, some):
                yield from found


def _members(place: Place, name: str) -> Iterator[Entry]:
    """Yield the images of a tar file: ``KEY.jpg``, or ``KEY.image.jpg`` as our own shards have them."""
    folder = name.rpartition(".")[0]
    with place.opened(name) as file:
        first, chunk = 0, b""

        def read(at: int, size: int) -> bytes:
            nonlocal first, chunk
            if not first <= at <= at + size <= first + len(chunk):
                first, chunk = at, bytes(file.read_at(max(size, FETCHED), at))
            return chunk[at - first : at - first + size]

        for found in entries_of(f"{place}/{name}", file.size(), read):
            inner = PurePosixPath(found.name)
            key, _, extension = inner.name.partition(".")
            ending = extension.lower().removeprefix("image.")
            if f".{ending}" in IMAGES and not inner.name.startswith("."):
                below = "" if inner.parent == PurePosixPath(".") else f"{inner.parent.as_posix()}/"
                yield Entry(f"{folder}/{below}{key}.{ending}", name, found.offset, found.size)


def _rows(place: Place, name: str) -> Iterator[Entry]:
    """Yield the rows of a Parquet file: images in a column, or their places."""
    parquet: Any = library("pyarrow.parquet", name, "which reads Parquet", "ray")
    folder = name.rpartition(".")[0]
    with place.opened(name) as stream:
        file = parquet.ParquetFile(stream)
        names, paths, contents = columns(file.schema_arrow)
        if contents is None and paths is None:
            expected = f"a column of places ({', '.join(PATH)}) or of images ({', '.join(CONTENTS)})"
            raise DataError(f"{place}/{name}", expected, ", ".join(file.schema_arrow.names), "rename the column")
        row = 0
        wanted = [c for c in (names, paths, f"{contents}.path" if contents and not (names or paths) else None) if c]
        for batch in file.iter_batches(10_000, columns=wanted):
            for line in batch.to_pylist():
                at = line.get(paths) if paths else None
                inner = (line.get(contents) or {}).get("path") if contents else None
                key = str((line.get(names) if names else None) or at or inner or "")
                yield Entry(f"{folder}/{_relative(key)}", name if contents else str(at), row=row if contents else -1)
                row += 1


def columns(schema: Any) -> tuple[str | None, str | None, str | None]:
    """Return a Parquet file's columns of names, of places and of images."""

    def first(wanted: tuple[str, ...]) -> str | None:
        return next((name for name in wanted if name in schema.names), None)

    return first(NAME), first(PATH), first(CONTENTS)


def _relative(key: str) -> str:
    return key.partition("://")[2].lstrip("/") if "://" in key else key.lstrip("/")


def fault(entry: Entry) -> DataError | None:
    """Return what is wrong with an input's name, which its outputs are to get."""
    parts = entry.key.split("/")
    if any(part in ("", ".", "..") for part in parts) or not entry.key.isprintable() or "\\" in entry.key:
        return DataError(entry.at, "names of files that stay inside OUT", f"{entry.key!r:.120}", "rename it")
    if not is_image(entry.name):
        return DataError(entry.at, f"a name that ends in {', '.join(IMAGES)}", f"{entry.key!r:.120}", "name it so")
    return None


def stem(entry: Entry) -> str:
    """Return the key without its suffix, which names the outputs."""
    return f"{entry.folder}/{stem_of(PurePosixPath(entry.name))}"  # type: ignore[arg-type]
