"""What a folder of predictions holds: a line for every input that is done, so that a killed run goes on where it was.

``predictions.jsonl`` is written line by line, each after all files of its input are in place. Its first line says which model
and which options they are of. A line that a kill cut short counts as not written.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from scribbleseg.atomic import storage_error, write_text
from scribbleseg.errors import ConfigError, DataError
from scribbleseg.models.folder import CONFIG, PREPROCESSOR, WEIGHTS, find_model
from scribbleseg.trees import differences_told, from_json

NAME = "predictions.jsonl"

VERSION = 1


def model_hash(folder: Path | str) -> str:
    """Return a hash of a model folder's files."""
    digest = hashlib.sha256()
    for name in (WEIGHTS, CONFIG, PREPROCESSOR):
        with (find_model(folder) / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def state_of(path: Path) -> list[int]:
    """Return what tells a changed input: number of bytes and time of the last change, of a folder those of its files.

    An input that is gone is a changed one; reading it says so.
    """
    try:
        files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
        told = [file.stat() for file in files]
    except OSError:
        return [-1, -1]
    return [sum(t.st_size for t in told), max((t.st_mtime_ns for t in told), default=0)]


class Manifest:
    """The inputs that are done, by name.

    Args:
        out: folder of all outputs.
        about: model and options, plain JSON.
        overwrite: whether to begin anew: what the manifest lists is deleted.

    Raises:
        ConfigError: the folder holds the predictions of another model, or with other options.
        DataError: its manifest cannot be read.
    """

    def __init__(self, out: Path, about: Mapping[str, Any], *, overwrite: bool = False) -> None:
        self.out, self._path = out, out / NAME
        self._lock = threading.Lock()
        self._done: dict[str, bytes] = {}  # JSON, a fifth of what the objects take: there may be millions
        head, entries = _read(self._path)
        if head is not None and overwrite:
            self._remove(entries)
            head, entries = None, []
        if head is None:
            write_text(self._path, json.dumps({"version": VERSION, **about}, ensure_ascii=False) + "\n")
        else:
            if got := differences_told(head, {"version": VERSION, **about}):
                do = "choose another --out, or give --overwrite to do all of it anew"
                raise ConfigError(out, "predictions of this model with these options", got, do)
            for entry in entries:
                self._remember(entry)

    def missing(self, path: Path, outputs: Mapping[str, Any]) -> list[str]:
        """Return the names of the outputs that an input lacks; all of them if it has changed."""
        entry = self._entry(path.name)
        if entry is None or entry["state"] != state_of(path):
            return list(outputs)
        return [name for name in outputs if not self._whole(entry["outputs"].get(name))]

    def files(self, path: Path, name: str) -> list[Path]:
        """Return the files of an input's output that is done."""
        entry = self._entry(path.name)
        return [self.out / file for file in entry["outputs"].get(name, ())] if entry else []

    def all_files(self, name: str) -> list[Path]:
        """Return the files of an output, of all inputs in the order of their names."""
        every = (self.out / file for key in sorted(self._done) for file in from_json(self._done[key])["outputs"].get(name, ()))
        return [file for file in every if file.exists()]

    def add(self, path: Path, state: list[int], outputs: Mapping[str, list[Path]]) -> None:
        """Write down that an input's outputs are done.

        Args:
            path: of the input.
            state: of it, before it was read.
            outputs: files by the output's name.

        Raises:
            StorageError: the disk is full, or the like.
        """
        written = {name: [file.relative_to(self.out).as_posix() for file in files] for name, files in outputs.items()}
        entry = {"input": path.name, "state": state, "outputs": written}
        line = json.dumps(entry, ensure_ascii=False) + "\n"
        with self._lock:
            try:
                with open(self._path, "a", encoding="utf-8", opener=_existing) as file:  # pathlib has no opener
                    file.write(line)
            except OSError as error:
                raise storage_error(error, self._path) from None
            self._remember(entry)

    def _remember(self, entry: dict[str, Any]) -> None:
        old = self._entry(entry["input"])
        if old is not None and old["state"] == entry["state"]:
            entry = entry | {"outputs": old["outputs"] | entry["outputs"]}
        self._done[entry["input"]] = json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode()

    def _entry(self, name: str) -> dict[str, Any] | None:
        stored = self._done.get(name)
        return None if stored is None else from_json(stored)

    def _whole(self, files: list[str] | None) -> bool:
        return files is not None and all((self.out / file).exists() for file in files)

    def _remove(self, entries: list[dict[str, Any]]) -> None:
        root = self.out.resolve()
        for entry in entries:
            for files in entry["outputs"].values():
                for file in files:
                    place = self.out / file
                    if place.resolve().is_relative_to(root) and place.resolve() != root:  # else it is none of ours
                        shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)


def _read(path: Path) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """Return head and entries. What follows the last whole line is cut off the file."""
    try:
        stored = path.read_bytes()
    except FileNotFoundError:
        return None, []
    except OSError as error:
        raise storage_error(error, path) from None
    whole = stored[: stored.rfind(b"\n") + 1]
    try:
        lines = [from_json(line) for line in whole.decode("utf-8").splitlines()]
        if not all(isinstance(line, dict) for line in lines):
            raise ValueError("a line that is no object")
        for entry in lines[1:]:
            sound = isinstance(entry["input"], str) and isinstance(entry["state"], list) and isinstance(entry["outputs"], dict)
            if not sound or not all(isinstance(f, str) for files in entry["outputs"].values() for f in files):
                raise ValueError("a line that says no input and outputs")
    except (ValueError, KeyError, TypeError) as error:
        got = " ".join(str(error).split())[:200]
        raise DataError(path, "the list that `scribbleseg predict` keeps", got, "choose another --out, or delete it") from None
    if len(whole) < len(stored):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    return (lines[0], lines[1:]) if lines else (None, [])


def _existing(path: str, flags: int) -> int:
    """Open a file only if it is there: a list that is made anew would lack its head."""
    return os.open(path, flags & ~os.O_CREAT)


@contextlib.contextmanager
def alone_in(out: Path, folders: list[str]) -> Iterator[None]:
    """Keep other runs out of a folder for as long as the block lasts, and clear away what a killed one had begun.

    Args:
        out: folder of all outputs.
        folders: in it that files are written to; empty for itself.

    Raises:
        ConfigError: another run writes there.
        StorageError: the folder cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / f".{NAME}.lock", blocking=False)
        lock.acquire()
    except Timeout:
        do = "wait for it, or choose another --out"
        raise ConfigError(out, "a folder that no other run writes to", "another `scribbleseg predict`", do) from None
    except OSError as error:
        raise storage_error(error, out) from None
    try:
        for folder in folders:
            for left in (out / folder).glob("writing-*.part"):
                shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
        yield
    finally:
        lock.release()
