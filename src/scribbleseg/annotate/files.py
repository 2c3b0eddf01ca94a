"""The files that a training reads, made from the log; and what other programs wrote there, taken over into the log."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import shutil
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from scribbleseg.annotate.folder import write_names
from scribbleseg.annotate.store import Store
from scribbleseg.annotate.strokes import told_of
from scribbleseg.atomic import storage_error, write_text
from scribbleseg.data.images import read_index, write_png
from scribbleseg.data.listing import split_slice
from scribbleseg.data.readers.image import stem_of
from scribbleseg.data.vector import read_strokes, write_strokes
from scribbleseg.errors import DataError, ScribblesegError, StorageError
from scribbleseg.records import UNLABELLED, Stroke

#: Seconds after a change until files are written, so that quick strokes are one writing; until a failed one is tried again.
_DELAY_S, _AGAIN_S = 0.3, 3.0


_told = logging.getLogger("scribbleseg.annotate")


class Files:
    """Keeps ``strokes/``, ``scribbles/``, the list and ``dataset.yaml`` as the log says, in a thread of its own.

    Attributes:
        problem: why files could not be written the last time, or None.
    """

    def __init__(self, project: Store) -> None:
        self.project, spec = project, project.spec
        self.strokes, self.scribbles = spec.strokes or "strokes", spec.scribbles
        self.problem: str | None = None
        self._work = project.state / "writing"
        self._wake, self._stop = project.changed, threading.Event()
        self._lock = threading.RLock()
        self._thread = threading.Thread(target=self._run, name="files", daemon=True)

    def start(self) -> None:
        """Remove what a killed server left half-written and begin to work."""
        shutil.rmtree(self._work, ignore_errors=True)
        self._work.mkdir(parents=True, exist_ok=True)
        for folder in (self.project.root, self.project.state):
            for path in folder.glob("writing-*.part"):
                path.unlink(missing_ok=True)
        self._thread.start()

    def close(self) -> None:
        """Write what is left and stop.

        Raises:
            StorageError: it cannot be written; it will be at the next start.
        """
        self._stop.set()
        self._wake.set()
        self._thread.join()
        self.flush()

    def _run(self) -> None:
        try:
            self._sweep()
        except Exception:
            _told.exception("files that were there could not be looked at")
        finally:
            self.project.swept.set()
        self._wake.set()
        while not self._stop.is_set():
            self._wake.wait()
            if self._stop.wait(_DELAY_S):
                return
            self._wake.clear()
            try:
                self.flush()
            except Exception as error:  # told in `problem`; whatever it was, the next stroke's files must be tried
                if not isinstance(error, ScribblesegError):
                    _told.exception("files could not be written")
                self._wake.set()
                self._stop.wait(_AGAIN_S)

    def _sweep(self) -> None:
        """Look at every image that has a file of strokes or labels."""
        root = self.project.root
        with_files = {name for folder in (self.strokes, self.scribbles) for name in _stems_below(root / folder)}
        for row in self.project.images():
            stack = split_slice(row.stem)
            if self._stop.is_set():
                return
            if row.stem in with_files or (stack is not None and stack[0] in with_files):
                try:
                    self.look(row.id)
                except ScribblesegError as error:  # of this image alone; told when it is opened
                    _told.warning("%s", error)

    def flush(self) -> None:
        """Write every file that is older than the log.

        Raises:
            StorageError: one could not be written; nothing is lost, it is tried again.
        """
        with self._lock:
            query = "SELECT id FROM images WHERE written_version < version AND position IS NOT NULL"
            images = [image for (image,) in self.project.log.rows(query)]
            works: list[Callable[[], None]] = [
                lambda: write_names(self.project.root, self.project.names, self.strokes),
                *(functools.partial(self._write, image) for image in images),
                self._write_list,
            ]
            failed: list[ScribblesegError] = []
            for work in works:  # one that fails keeps no other from being written
                try:
                    work()
                except OSError as error:
                    failed.append(storage_error(error, self.project.root))
                except ScribblesegError as error:
                    failed.append(error)
            self.problem = str(failed[0]) if failed else None
            if failed:
                raise failed[0]

    def _write(self, image: int) -> None:
        project = self.project
        self.look(image)
        if project.resized(image):
            return
        stem, size = project.image(image).stem, project.size(image)
        shown, base, version, classes = project.shown(image)
        labels = project.raster(image, shown, base, classes)
        stored = np.where(labels == UNLABELLED, np.uint8(project.spec.unlabelled), labels)
        drafts = {"json": self._work / "strokes.json", "png": self._work / "labels.png"}
        write_strokes(drafts["json"], (Stroke(**(vars(d.stroke) | {"label": label})) for d, label in shown), size)
        write_png(drafts["png"], stored)
        files = self._known(image)
        files["intended"] = {kind: _hash(path) for kind, path in drafts.items()}
        self._remember(image, files)
        self._set_aside_others(stem)
        for kind, draft in drafts.items():
            path = self._path(stem, kind)
            path.parent.mkdir(parents=True, exist_ok=True)
            with draft.open("rb+") as file:
                os.fsync(file.fileno())
            draft.replace(path)
            files[kind] = {"hash": files["intended"][kind], "stat": _stat(path)}
        del files["intended"]
        with project.log.transaction():
            self._remember(image, files)
            project.log.execute("UPDATE images SET written_version = ? WHERE id = ?", (version, image))

    def _path(self, stem: str, kind: str) -> Path:
        folder, suffix = (self.strokes, ".json") if kind == "json" else (self.scribbles, ".png")
        return self.project.root / folder / f"{stem}{suffix}"

    def _known(self, image: int) -> dict[str, Any]:
        return dict(json.loads(self.project.log.rows("SELECT files FROM images WHERE id = ?", (image,))[0][0]))

    def _remember(self, image: int, files: dict[str, Any]) -> None:
        self.project.log.execute("UPDATE images SET files = ? WHERE id = ?", (json.dumps(files), image))

    def look(self, image: int) -> None:
        """Take over what another program wrote for an image: the strokes file, or else the label file, as one command.

        A file that cannot be used is kept in ``.scribbleseg/refused`` and told; what the log has is written instead.
        """
        with self._lock:
            stem, files = self.project.image(image).stem, self._known(image)
            first = not files
            for kind, take in (("json", self._take_strokes), ("png", self._take_labels)):
                path = self._path(stem, kind) if kind == "json" else self._label_file(stem, first)
                stat = _stat(path)
                known = files.get(kind, {})
                if stat is None or stat == known.get("stat"):
                    continue
                found = _hash(path)
                if found not in (known.get("hash"), files.get("intended", {}).get(kind)):
                    try:
                        take(image, path, first)
                    except DataError as error:
                        self._refuse(image, path, error)
                files[kind] = {"hash": found, "stat": stat}
                self._remember(image, files)

    def _label_file(self, stem: str, first: bool) -> Path:
        path = self._path(stem, "png")
        if first and not path.exists():
            return self._other_label_file(stem) or path
        return path

    def _other_label_file(self, stem: str) -> Path | None:
        """Return the label file of an image in whatever format, or None."""
        try:
            found = self.project.opened.listing.find(self.project.root / self.scribbles, stem).path
        except DataError:
            return None
        assert isinstance(found, Path)  # shards are no project
        return found

    def _take_strokes(self, image: int, path: Path, first: bool) -> None:
        strokes, size = read_strokes(path)
        if size != self.project.size(image):
            raise DataError(path, "strokes for an image of this size", f"{size[1]} × {size[0]}", "draw on the image as it is")
        uids = self.project.classes.uids
        worst = max((s.label for s in strokes if s.tool == "brush"), default=0)
        if worst >= len(uids):
            raise DataError(path, f"class ids up to {len(uids) - 1}", str(worst), "add the class first")
        told = [told_of(s, f"file-{k}-{uuid.uuid4().hex[:8]}", uids[s.label % len(uids)]) for k, s in enumerate(strokes)]
        body: dict[str, Any] = {"op": "load" if first else "replace", "strokes": told}
        with self.project.log.lock:
            base = self.project.drawing(image).base
            if base is not None:
                body["base"] = {"file": base.file, "uids": base.uids}
            self._enter(image, body)

    def _take_labels(self, image: int, path: Path, first: bool) -> None:
        stack = split_slice(self.project.image(image).stem)
        whole = path.name.startswith(f"{Path(stack[0]).name}.") if stack else False
        labels = read_index(path, int(stack[1]) if stack and whole else None, self.project.spec.arrays.get("scribbles"))
        labels = np.where(labels == self.project.spec.unlabelled, np.uint8(UNLABELLED), labels)
        if np.array_equal(labels, self.project.labels(image)) or (first and (labels == UNLABELLED).all()):
            return
        body = self.replacement(image, labels, path)
        fresh = first and not self.project.drawing(image).strokes
        self._enter(image, body | ({"op": "load"} if fresh else {}))

    def replacement(self, image: int, labels: np.ndarray, where: object) -> dict[str, Any]:
        """Keep labels as a base and return the command that puts them in place of all strokes.

        Raises:
            DataError: another size than the image's, or ids of no class.
        """
        size, uids = self.project.size(image), self.project.classes.uids
        if labels.shape != size:
            got = f"{labels.shape[1]} × {labels.shape[0]}"
            raise DataError(where, f"labels of the image's size, {size[1]} × {size[0]}", got, "export them at that size")
        values = [int(v) for v in np.flatnonzero(np.bincount(labels.ravel(), minlength=256)) if v != UNLABELLED]
        if values and values[-1] >= len(uids):
            raise DataError(where, f"class ids up to {len(uids) - 1}", str(values[-1]), "add the class first")
        name = f"{hashlib.sha256(labels.tobytes() + str(size).encode()).hexdigest()[:32]}.png"
        if not (self.project.state / "base" / name).exists():
            write_png(self.project.state / "base" / name, labels)
        return {"op": "replace", "strokes": [], "base": {"file": name, "uids": [(v, uids[v]) for v in values]}}

    def _enter(self, image: int, body: dict[str, Any]) -> None:
        was = self.project.image(image)
        self.project.commit(image, [(f"disk-{uuid.uuid4().hex}", body)])
        if body["op"] == "load":  # the files say the same already; a training reads them as they are
            written = self.project.log.rows("SELECT written_version FROM images WHERE id = ?", (image,))[0][0]
            if written == was.version:
                self.project.log.execute("UPDATE images SET written_version = version WHERE id = ?", (image,))

    def _refuse(self, image: int, path: Path, error: DataError) -> None:
        try:
            kept = self.project.state / "refused" / f"{image}-{uuid.uuid4().hex[:8]}-{path.name}"
            kept.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, kept)
        except OSError as failed:
            raise storage_error(failed, path) from None
        with self.project.log.transaction():
            self.project.log.execute("UPDATE images SET problem = ? WHERE id = ?", (f"{error}\n  kept as: {kept.name}", image))
            if self.project.version(image):
                self.project.log.execute("UPDATE images SET written_version = -1 WHERE id = ?", (image,))
                self._wake.set()

    def _set_aside_others(self, stem: str) -> None:
        """Move a label file of another format away, lest an image has two."""
        path = self._other_label_file(stem)
        if path is None:
            return
        if path.name != f"{Path(stem).name}.png" and path.name.lower().startswith(f"{Path(stem).name.lower()}."):
            kept = self.project.state / "base" / "original"
            kept.mkdir(parents=True, exist_ok=True)
            shutil.move(path, kept / f"{uuid.uuid4().hex[:8]}-{path.name}")

    def _write_list(self) -> None:
        """Put every drawn image on the training list: all of them where the lists are ours, else those in no list."""
        project = self.project
        split = "train" if "train" in project.spec.splits else next(iter(project.spec.splits), None)
        if split is None:
            return
        path = project.root / project.spec.splits[split]
        drawn = [row.stem for row in project.images() if row.num_strokes or row.has_base]
        if project.own_lists:
            lines = drawn
        else:
            listed = {line for name in project.spec.splits for line in project.opened.listed(name)}
            stacks = {stack[0] for line in listed if (stack := split_slice(line)) and stack[1] == "*"}
            new = [s for s in drawn if s not in listed and not ((stack := split_slice(s)) and stack[0] in stacks)]
            if not new:
                return
            lines = [*project.opened.listed(split), *new]
        text = "".join(f"{line}\n" for line in lines)
        if not path.exists() or path.read_text(encoding="utf-8-sig") != text:
            write_text(path, text)


def _hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StorageError(path, "a file that can be read", error.strerror or str(error), "check its permissions") from None


def _stat(path: Path) -> list[int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return [found.st_mtime_ns, found.st_size, found.st_ino]


def _stems_below(folder: Path) -> set[str]:
    """Return names of files without suffix, relative to the folder."""
    paths = (Path(at) / name for at, _, names in os.walk(folder) for name in names)
    return {(path.parent / stem_of(path)).relative_to(folder).as_posix() for path in paths}
