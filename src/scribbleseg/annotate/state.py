"""The project's state: one SQLite file whose log of commands is the journal that everything else is made from."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from scribbleseg.errors import StorageError

#: One script a version of the file, in order; never changed once released, only added to.
MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE classes (
        uid INTEGER PRIMARY KEY AUTOINCREMENT, position INTEGER, name TEXT NOT NULL, colour TEXT NOT NULL, merged_into INTEGER
    );
    CREATE TABLE images (
        id INTEGER PRIMARY KEY AUTOINCREMENT, stem TEXT NOT NULL UNIQUE, position INTEGER, width INTEGER, height INTEGER,
        done INTEGER NOT NULL DEFAULT 0, version INTEGER NOT NULL DEFAULT 0, written_version INTEGER NOT NULL DEFAULT 0,
        num_strokes INTEGER NOT NULL DEFAULT 0, has_base INTEGER NOT NULL DEFAULT 0, counts TEXT NOT NULL DEFAULT '{}',
        files TEXT NOT NULL DEFAULT '{}', problem TEXT
    );
    CREATE TABLE commands (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, image INTEGER NOT NULL REFERENCES images (id), client TEXT NOT NULL,
        body TEXT NOT NULL, UNIQUE (image, client)
    );
    CREATE TABLE jobs (id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, state TEXT NOT NULL, body TEXT NOT NULL);
    CREATE TABLE scores (
        id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, number INTEGER NOT NULL, score REAL, body TEXT NOT NULL
    );
    CREATE TABLE audits (id INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL);
    CREATE TABLE answers (
        audit INTEGER NOT NULL REFERENCES audits (id), item INTEGER NOT NULL, class INTEGER, PRIMARY KEY (audit, item)
    );
    """,
    # What the picture's file looked like when its size was read, and the size at which it was drawn on last.
    """
    ALTER TABLE images ADD COLUMN picture TEXT;
    ALTER TABLE images ADD COLUMN drawn_at TEXT;
    UPDATE images SET drawn_at = width || ' × ' || height WHERE version > 0 AND width IS NOT NULL;
    """,
    # The version that the last change of the strokes made; later ones are of classes that got other ids.
    """
    ALTER TABLE images ADD COLUMN drawn_version INTEGER NOT NULL DEFAULT 0;
    UPDATE images SET drawn_version = version;
    """,
)


class State:
    """The opened file. Every method may be called from any thread; one transaction runs at a time.

    A transaction is on the disk (fsync) when its block has ended: SQLite's write-ahead log with ``synchronous=FULL``.

    Raises:
        StorageError: the file cannot be made or written, is damaged, or was written by a newer scribbleseg.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = threading.RLock()
        self._depth = 0
        with self._told():
            self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=10)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=FULL")
            self._connection.execute("PRAGMA foreign_keys=ON")
        self._opened = self._found()
        self._migrate()

    def _migrate(self) -> None:
        (version,) = self.rows("PRAGMA user_version")[0]
        if version > len(MIGRATIONS):
            self.close()
            got = f"version {version}; this program knows {len(MIGRATIONS)}"
            raise StorageError(self.path, "a project of this or an older scribbleseg", got, "update scribbleseg")
        for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
            with self.transaction():
                for statement in script.split(";"):
                    if statement.strip():
                        self.execute(statement)
                self.execute(f"PRAGMA user_version={number}")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Do all that the block does or, where it or the commit fails, none of it. May be nested; the outermost commits.

        Raises:
            StorageError: the disk is full or cannot be written, or the file is no longer in its place.
        """
        with self.lock, self._told():
            if self._depth == 0:
                self._connection.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield
                if self._depth == 1:
                    self._demand_file()
                    self._connection.execute("COMMIT")
            except BaseException:
                if self._depth == 1 and self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            finally:
                self._depth -= 1

    def _found(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _demand_file(self) -> None:
        """Refuse to write into a file that has been deleted or replaced: the system would take it, and keep it nowhere."""
        if self._found() != self._opened:
            do = "bring the folder back and start the page again; what was refused is kept by the page"
            raise StorageError(self.path, "the project file that was opened", "it is gone", do)

    def execute(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Run one statement and return the id of the row it added."""
        with self.lock, self._told():
            return self._connection.execute(statement, values).lastrowid or 0

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        with self.lock, self._told():
            return self._connection.execute(statement, values).fetchall()

    def get(self, key: str, default: str = "") -> str:
        """Return a single fact about the project."""
        found = self.rows("SELECT value FROM meta WHERE key = ?", (key,))
        return str(found[0][0]) if found else default

    def put(self, key: str, value: str) -> None:
        """Remember a single fact about the project."""
        self.execute("INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", (key, value))

    def close(self) -> None:
        """Close the file; what is left in the write-ahead log is moved into it."""
        with self.lock:
            self._connection.close()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            full = getattr(error, "sqlite_errorname", "") in ("SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_FSYNC")
            do = "free some space; nothing that was saved is lost, and what was refused is kept by the page"
            damaged = "check disk and folder; strokes/*.json hold what was drawn last"
            raise StorageError(
                self.path, "a disk with room" if full else "a project file that works", str(error), do if full else damaged
            ) from None
