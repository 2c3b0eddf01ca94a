"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from scribbleseg.errors import StorageError

#: Error numbers that mean a file cannot be written here, whatever the program does.
CANNOT_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE}


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside ``path`` that takes its name when the block ends well, and is removed when not.

    Raises:
        StorageError: the folder cannot be made or written, or the disk is full.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix="writing-", suffix=".part", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise storage_error(error, path) from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield a folder beside ``path`` that takes its name when the block ends well; else it is removed.

    Args:
        path: of the folder.
        replace: whether a folder that exists is removed at the end, just before.

    Raises:
        StorageError: it exists and is not to be replaced, the folder above cannot be made or written, or the disk is full.
    """
    if not replace and (path.exists() or path.is_symlink()):
        raise StorageError(path, "a new folder", "one that exists", "choose another name; nothing is ever overwritten")
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix="writing-", suffix=".part", dir=path.parent))
        yield temporary
        temporary.chmod(0o755)
        if replace and path.exists():
            shutil.rmtree(path)
        temporary.rename(path)
    except OSError as error:
        raise storage_error(error, path) from None
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def clear_unfinished(folder: Path) -> None:
    """Remove what a program that was killed had begun to write, in a folder that nobody else writes to now."""
    for left in list(folder.rglob("writing-*.part")):
        shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def storage_error(error: OSError, path: Path) -> StorageError:
    """Return our message for a failed write."""
    reason = error.strerror or str(error)
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return StorageError(
        path,
        "a disk with room" if full else "a place where a file of this name can be written",
        reason,
        "free some space and run again" if full else "choose another place or name",
    )
