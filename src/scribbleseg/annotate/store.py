"""Images, classes and strokes of a folder as the log has them. Every change is on the disk before it is answered."""

from __future__ import annotations

import contextlib
import json
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from scribbleseg.annotate.classes import ClassChange, Classes, change_classes, read_classes, take_names
from scribbleseg.annotate.commands import Add, Plain, Reclass, Remove, is_keyed, logged
from scribbleseg.annotate.folder import STATE, prepare, stems_of
from scribbleseg.annotate.rasters import Rasters, Shown, cut_to
from scribbleseg.annotate.state import State
from scribbleseg.annotate.strokes import Base, Drawing
from scribbleseg.data.images import MAX_PIXELS, image_size, read_index
from scribbleseg.data.shards.files import File
from scribbleseg.errors import DataError
from scribbleseg.records import UNLABELLED, Stroke

#: Drawings kept in memory, of the images drawn on last.
_KEPT = 64


class StaleError(DataError):
    """What the page knows is not what the project has.

    Args:
        known: ids of the commands of the request that were done before.
    """

    def __init__(self, expected: str, got: str, known: Sequence[str] = ()) -> None:
        self.known = tuple(known)
        super().__init__("version", expected, got, "load the image again; another tab or program changed it")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.expected, self.got, self.known)


@dataclass(frozen=True)
class ImageRow:
    """One image of the list. ``width`` and ``height`` are None until somebody asked for them."""

    id: int
    stem: str
    width: int | None
    height: int | None
    num_strokes: int
    done: bool
    version: int
    has_base: bool


_ROW = "id, stem, width, height, num_strokes, done, version, has_base"


class Store:
    """What is known of a folder. Methods may be called from any thread.

    Attributes:
        root: the data set's folder.
        state: the folder of what is kept beside it.
        opened: the data set as it was at the start.
        log: the state's file, with the log of commands.
        changed: is set when files are older than the log.
        swept: is set once what other programs left in the folder is in the log.
    """

    def __init__(self, root: Path, say: Callable[[str], None] = lambda line: None) -> None:
        self.root, self.state = root, root / STATE
        self.opened, self.own_lists = prepare(root)
        self.spec = self.opened.spec
        self.changed, self.swept = threading.Event(), threading.Event()
        self.log = State(self.state / "state.sqlite")
        take_names(self.log, self.opened.names, root / "dataset.yaml")
        self._take_stems(stems_of(self.opened, say))
        self._classes = read_classes(self.log)
        self._drawings: OrderedDict[int, Drawing] = OrderedDict()
        self._rasters = Rasters()

    def _take_stems(self, stems: list[str]) -> None:
        with self.log.transaction():
            self.log.execute("UPDATE images SET position = NULL")
            for number, stem in enumerate(stems):
                self.log.execute(
                    "INSERT INTO images (stem, position) VALUES (?, ?)"
                    " ON CONFLICT (stem) DO UPDATE SET position = excluded.position",
                    (stem, number),
                )
        if not stems:
            raise DataError(self.root, "at least one picture", "none", "name a folder that holds pictures")

    @property
    def names(self) -> tuple[str, ...]:
        """Class names by id."""
        return self._classes.names

    @property
    def classes(self) -> Classes:
        """The classes as they are now."""
        return self._classes

    @property
    def key(self) -> str:
        """What this folder is called for ever, whatever its name: pages keep unsent strokes under it."""
        with self.log.transaction():
            if not self.log.get("key"):
                self.log.put("key", uuid.uuid4().hex)
            return self.log.get("key")

    @property
    def class_version(self) -> int:
        """Grows with each change of the classes."""
        return int(self.log.get("class_version", "0"))

    def images(self) -> list[ImageRow]:
        """Return all images in the order of their names."""
        rows = self.log.rows(f"SELECT {_ROW} FROM images WHERE position IS NOT NULL ORDER BY position")
        return [_row(row) for row in rows]

    def image(self, image: int) -> ImageRow:
        """Return one image.

        Raises:
            DataError: there is none of this id.
        """
        rows = self.log.rows(f"SELECT {_ROW} FROM images WHERE id = ? AND position IS NOT NULL", (image,))
        if not rows:
            raise DataError("image", "the id of an image", str(image), "load the list again")
        return _row(rows[0])

    def size(self, image: int) -> tuple[int, int]:
        """Return (height, width) of an image; the file's header is read the first time, and when it is another file.

        Raises:
            DataError: the file is missing or broken, or too large to be drawn on.
        """
        row = self.image(image)
        known = (row.height, row.width) if row.width is not None and row.height is not None else None
        path = self.opened.image_path(row.stem) if known is None else self._there(row.stem)
        stamp = file_stamp(path) if isinstance(path, Path) else ""
        (before,) = self.log.rows("SELECT picture FROM images WHERE id = ?", (image,))[0]
        if known is not None and (not stamp or stamp == before):  # strokes are kept while a picture is away
            return known
        height, width = image_size(self.opened.image_path(row.stem), self.spec.reading)
        if height * width > MAX_PIXELS:
            raise DataError(row.stem, f"at most {MAX_PIXELS} pixels", f"{width} × {height}", "cut the picture into pieces")
        with self.log.lock:
            statement = "UPDATE images SET width = ?, height = ?, picture = ? WHERE id = ?"
            self.log.execute(statement, (width, height, stamp, image))
            if known not in (None, (height, width)) and row.version:  # or a page that shows the old picture draws on
                self._drawings.pop(image, None)
                self.log.execute("UPDATE images SET version = version + 1, drawn_version = version + 1 WHERE id = ?", (image,))
        return height, width

    def _there(self, stem: str) -> File | None:
        with contextlib.suppress(DataError):
            return self.opened.image_path(stem)
        return None

    def resized(self, image: int) -> bool:
        """Say whether the picture has another size now than when it was drawn on last.

        Its strokes lie where they were, in pixels, which may be wrong: nothing is learnt from them and its files stay as they
        are until somebody who sees them draws, undoes or clears.
        """
        (drawn_at,) = self.log.rows("SELECT drawn_at FROM images WHERE id = ?", (image,))[0]
        return drawn_at is not None and drawn_at != size_text(self.size(image))

    def problem(self, image: int) -> str | None:
        """Return what is wrong with an image, in words for the page, or None."""
        problem, drawn_at = self.log.rows("SELECT problem, drawn_at FROM images WHERE id = ?", (image,))[0]
        if not self.resized(image):
            return None if problem is None else str(problem)
        return (
            f"the picture is {size_text(self.size(image))} pixels large now, and was {drawn_at} when it was drawn on: perhaps "
            "its strokes lie beside what they mean, so nothing is learnt from them. Put the old picture back, or clear the "
            "strokes and draw anew; with your next stroke those that you see count again"
        )

    def path(self, image: int) -> tuple[Path, int | None]:
        """Return the file of an image, and which slice of it."""
        path, number = self.opened.image_source(self.image(image).stem)
        assert isinstance(path, Path)  # shards are no project
        return path, number

    def rgb(self, image: int) -> np.ndarray:
        """Return an image as a training sees it: float32 (H, W, 3) in [0, 1], all of it at once."""
        return self.opened.rgb(self.image(image).stem)

    def version(self, image: int) -> int:
        """Return the number that grows with each change of an image's strokes."""
        return self.image(image).version

    def drawing(self, image: int) -> Drawing:
        """Return what is drawn; to be used under ``log.lock``, and never changed elsewhere."""
        drawing = self._drawings.pop(image, None)
        if drawing is None:
            drawing = Drawing(self.size(image))
            for (body,) in self.log.rows("SELECT body FROM commands WHERE image = ? ORDER BY seq", (image,)):
                drawing.apply(json.loads(body))
        self._drawings[image] = drawing
        while len(self._drawings) > _KEPT:
            self._drawings.popitem(last=False)
        return drawing

    def shown(self, image: int) -> tuple[list[Shown], Base | None, int, Classes]:
        """Return the strokes with their class ids, the base, the version of both, and the classes."""
        with self.log.lock:
            drawing, classes = self.drawing(image), self._classes
            eraser = {"eraser": 0}
            told = ((d, eraser.get(d.stroke.tool, classes.ids.get(d.uid))) for d in drawing.strokes)
            return [(d, label) for d, label in told if label is not None], drawing.base, self.version(image), classes

    def strokes(self, image: int) -> tuple[Stroke, ...]:
        """Return the strokes as a training reads them."""
        return tuple(replace(drawn.stroke, label=label) for drawn, label in self.shown(image)[0])

    def labels(self, image: int) -> np.ndarray:
        """Return what is drawn as labels: uint8 (H, W), 255 where nobody drew."""
        shown, base, _, classes = self.shown(image)
        return self.raster(image, shown, base, classes)

    def raster(self, image: int, shown: list[Shown], base: Base | None, classes: Classes) -> np.ndarray:
        """Return the labels of strokes that :meth:`shown` gave."""
        size = self.size(image)
        if base is None:
            return self._rasters.labels(image, (None, None), shown, size)
        ground = read_index(self.state / "base" / base.file)
        ground = cut_to(ground, size)
        table = np.full(256, UNLABELLED, np.uint8)
        for value, uid in base.uids:
            table[value] = classes.ids.get(uid, UNLABELLED)
        return self._rasters.labels(image, ((base, tuple(table.tolist())), table[ground]), shown, size)

    def apply(self, image: int, version: int, commands: Sequence[Add | Plain | Remove | Reclass]) -> None:
        """Do commands of a page, all or none; those whose ids are known were done before and are not done again.

        Raises:
            StaleError: another version than the page knew; nothing is done.
            DataError: a command that cannot be done; nothing is done.
            StorageError: the disk is full; nothing is done.
        """
        self.size(image)  # raises the version if it is another picture now
        with self.log.lock:
            marks = ",".join("?" * len(commands))
            query = f"SELECT client FROM commands WHERE image = ? AND client IN ({marks})"
            known = {row[0] for row in self.log.rows(query, (image, *(c.id for c in commands)))}
            ((now, drawn),) = self.log.rows("SELECT version, drawn_version FROM images WHERE id = ?", (image,))
            fresh, upon = [command for command in commands if command.id not in known], version + len(known)
            renumbered = drawn <= upon < now and all(map(is_keyed, fresh))  # nobody drew since: classes got other ids, no more
            if fresh and upon != now and not renumbered:
                raise StaleError(f"version {version}", f"version {now}", sorted(known))
            if len({command.id for command in fresh}) < len(fresh):
                raise DataError("command", "an id of its own for each command", "one twice", "load the page again")
            self.commit(image, [(c.id, logged(c, self._classes.uids, self._classes.ids)) for c in fresh])

    def commit(self, image: int, commands: Sequence[tuple[str, dict[str, Any]]]) -> None:
        """Do commands of the log and write them down."""
        if not commands:
            return
        with self.log.lock:
            try:
                with self.log.transaction():
                    drawing = self.drawing(image)
                    for client, body in commands:
                        drawing.apply(body)
                        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
                        self.log.execute("INSERT INTO commands (image, client, body) VALUES (?, ?, ?)", (image, client, text))
                    known = (len(drawing.strokes), drawing.base is not None, json.dumps(drawing.counts()))
                    self.log.execute(
                        "UPDATE images SET version = version + ?, drawn_version = version + ?, num_strokes = ?,"
                        " has_base = ?, counts = ?, drawn_at = ? WHERE id = ?",
                        (len(commands), len(commands), *known, size_text(drawing.size), image),
                    )
            except BaseException:
                self._drawings.pop(image, None)  # what is in memory went further than the log
                raise
        self.changed.set()

    def set_done(self, image: int, done: bool) -> None:
        """Mark an image as finished, or not."""
        self.log.execute("UPDATE images SET done = ? WHERE id = ?", (done, self.image(image).id))

    def change(self, version: int, change: ClassChange) -> int:
        """Change the classes and return how many strokes that touched.

        Raises:
            StaleError: another version of the classes than the page knew.
            DataError: it cannot be done.
        """
        self.swept.wait()  # label files that nobody has read yet have the old ids
        with self.log.lock:
            if version != self.class_version:
                raise StaleError(f"classes of version {version}", f"version {self.class_version}")
            before, counts = self._classes, self.strokes_by_class()
            with self.log.transaction():
                renumbered = change_classes(self.log, change, self.spec.unlabelled)
                self.log.put("class_version", str(version + 1))
                if renumbered:
                    self.log.execute("UPDATE images SET version = version + 1")
                    empty = "version = written_version + 1 AND counts = '{}' AND has_base = 0"
                    self.log.execute(f"UPDATE images SET written_version = version WHERE {empty}")
            self._classes = read_classes(self.log)
            if change.op in ("merge", "delete") and change.label is not None:
                touched = counts[change.label]
            else:
                moved = [k for k, uid in enumerate(before.uids) if self._classes.ids.get(uid) != k]
                touched = sum(counts[k] for k in moved)
        self.changed.set()
        return touched

    def strokes_by_class(self) -> list[int]:
        """Return how many strokes each class has in all images."""
        numbers = [0] * len(self._classes.uids)
        for (counts,) in self.log.rows("SELECT counts FROM images WHERE counts <> '{}' AND position IS NOT NULL"):
            for uid, number in json.loads(counts).items():
                if (label := self._classes.ids.get(int(uid))) is not None:
                    numbers[label] += number
        return numbers


def _row(row: tuple[Any, ...]) -> ImageRow:
    return ImageRow(row[0], row[1], row[2], row[3], row[4], bool(row[5]), row[6], bool(row[7]))


def size_text(size: tuple[int, int]) -> str:
    """Return (height, width) as people write it: width × height."""
    return f"{size[1]} × {size[0]}"


def file_stamp(path: Path) -> str:
    """Return what is another for another file of this name; empty where there is none."""
    with contextlib.suppress(OSError):
        found = path.stat()
        return f"{found.st_size} {found.st_mtime_ns}"
    return ""
