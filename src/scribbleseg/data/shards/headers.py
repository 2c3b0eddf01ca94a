"""The files in a tar file, by a look at its headers: nothing is unpacked, and nobody's archive can make it take long.

Python's ``tarfile`` reads single headers here but does not walk: on a hostile archive it recurses once a header, reads names
of gigabytes into memory and (before 3.11.10) takes time in the square of their length.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from scribbleseg.data.shards.files import BLOCK
from scribbleseg.errors import DataError

#: Longest list of a file's properties (its name, above all) that may stand before it, in bytes.
MAX_PROPERTIES = 2**16

_MEND = "copy or write the shard again; nothing of it was used"


class Entry(NamedTuple):
    """A file in a tar file: its name, the first byte of its contents, and how many there are."""

    name: str
    offset: int
    size: int


def entries(path: Path) -> Iterator[Entry]:
    """Yield the files of an uncompressed tar file (ustar, GNU or pax), in the order in which they stand; folders are left out.

    Raises:
        DataError: cut short, compressed, damaged, or with what no shard has: links, devices, holes, names that lead outside.

    Cost: some 30 µs and half a kilobyte read for each file, whatever its size.
    """
    with path.open("rb", buffering=0) as file:
        total = os.fstat(file.fileno()).st_size
        yield from entries_of(path, total, lambda at, size: os.pread(file.fileno(), size, at))


def entries_of(path: object, total: int, read: Callable[[int, int], bytes]) -> Iterator[Entry]:
    """Yield what :func:`entries` does of a tar file that need not be on a disk.

    Args:
        path: of it, for messages.
        total: bytes of it.
        read: returns the bytes from a place on, so many if there are as many.

    Raises:
        DataError: as :func:`entries`.
    """
    at, named = 0, ""
    while True:
        block = read(at, BLOCK)
        if len(block) < BLOCK:
            raise _wrong(path, at, "the two empty blocks that end a tar file", "the end of the file: it was cut short")
        if not any(block):
            return
        info = _header(path, at, block)
        stored = at + BLOCK
        if info.type == tarfile.DIRTYPE:  # whose size means nothing
            at, named = stored, ""
            continue
        if not 0 <= info.size <= total - stored:
            what = f"contents within the file's {total} bytes"
            raise _wrong(path, at, what, f"{info.size} bytes of {info.name!r:.120}; perhaps the shard was cut short")
        if info.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME):
            if info.size > MAX_PROPERTIES:
                raise _wrong(path, at, f"a file's properties in {MAX_PROPERTIES} bytes", f"{info.size} bytes of them")
            text = read(stored, info.size)
            named = _long_name(text) if info.type == tarfile.GNUTYPE_LONGNAME else _pax_name(path, at, text) or named
        elif info.type in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE):
            yield Entry(_checked(path, at, named or info.name), stored, info.size)
            named = ""
        elif info.type not in (tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK):  # properties of all files, or of links
            got = f"{_KINDS.get(info.type, 'something else')}: {named or info.name!r:.120}"
            raise _wrong(path, at, "files and folders", got)
        at = stored + -(-info.size // BLOCK) * BLOCK


_KINDS = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a file with holes",
}


def _header(path: object, at: int, block: bytes) -> tarfile.TarInfo:
    if at == 0 and block.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")):
        do = "unpack it (gunzip): of a compressed one no single file can be read"
        raise DataError(path, "an uncompressed tar file", "a compressed one", do)
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise _wrong(path, at, "the header of a file", str(error)) from None


def _long_name(text: bytes) -> str:
    return text.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _pax_name(path: object, at: int, text: bytes) -> str:
    """Return the name among a file's properties (``"27 path=a/long/name.jpg\\n"`` each), or nothing."""
    name, first = "", 0
    while first < len(text):
        digits = text[first : first + 20].partition(b" ")[0]
        end = first + int(digits) if digits.isdigit() else 0
        record = text[first + len(digits) + 1 : end]
        if end > len(text) or not record.endswith(b"\n"):
            raise _wrong(path, at, "a list of a file's properties", f"{text[first : first + 40]!r}")
        key, _, value = record[:-1].partition(b"=")
        if key == b"size" or key.startswith(b"GNU.sparse"):
            raise _wrong(path, at, "files without holes, of at most 8 GiB", f"the property {key.decode('ascii', 'replace')}")
        if key == b"path":
            name = value.decode("utf-8", "surrogateescape")
        first = end
    return name


def _checked(path: object, at: int, name: str) -> str:
    """Return a name that stays inside, without what a tar of ``.`` has in front."""
    name = name.removeprefix("./")
    if not name.isprintable() or "\\" in name or any(part in ("", ".", "..") for part in name.split("/")):
        raise _wrong(path, at, "names of files inside the data set", f"{name!r:.120}")
    return name


def _wrong(path: object, at: int, expected: str, got: str) -> DataError:
    return DataError(f"{path}, byte {at}", expected, got, _MEND)
