"""What is drawn on one image: commands are applied one by one, and each can be undone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from scribbleseg.data.vector import MAX_BYTES, MAX_POINTS, MAX_ROWS, rows_of
from scribbleseg.errors import DataError
from scribbleseg.records import Stroke


@dataclass(frozen=True, eq=False)
class Drawn:
    """A stroke in a project.

    Attributes:
        id: the page's name for it, unique in its image.
        uid: key of its class, which stays when classes are put in another order.
        stroke: as drawn; its ``label`` is not used.
        rows: of pixels that its segments touch.
    """

    id: str
    uid: int
    stroke: Stroke
    rows: int


@dataclass(frozen=True)
class Base:
    """Labels that lie under the strokes.

    Attributes:
        file: its name in the project's folder ``base``.
        uids: key of the class that each value in it stands for.
    """

    file: str
    uids: tuple[tuple[int, int], ...]


@dataclass
class Drawing:
    """The strokes of one image, with what was done and can be undone.

    Attributes:
        size: (height, width) of the image.
        strokes: in the order in which they lie over one another.
        base: labels under them, if any.
    """

    size: tuple[int, int]
    strokes: list[Drawn] = field(default_factory=list)
    base: Base | None = None
    _done: list[tuple[Mapping[str, Any], tuple[Any, ...]]] = field(default_factory=list)
    _undone: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def can_undo(self) -> bool:
        """Whether there is something to undo."""
        return bool(self._done)

    @property
    def can_redo(self) -> bool:
        """Whether something undone can be done again."""
        return bool(self._undone)

    def counts(self) -> dict[int, int]:
        """Return the number of strokes of each class, by the class's key, erasers left out."""
        return dict(Counter(drawn.uid for drawn in self.strokes if drawn.stroke.tool == "brush"))

    def apply(self, command: Mapping[str, Any]) -> None:
        """Do a command of the log.

        Raises:
            DataError: it cannot be done here: a stroke that does not exist, nothing to undo, or too much to draw.
        """
        op = command["op"]
        if op == "undo":
            if not self._done:
                raise _refused("something to undo", "nothing was drawn yet")
            done, inverse = self._done.pop()
            self._take_back(inverse)
            self._undone.append(done)
        elif op == "redo":
            if not self._undone:
                raise _refused("something to redo", "nothing was undone")
            self._done.append((self._undone[-1], self._do(self._undone[-1])))
            self._undone.pop()
        elif op == "load":
            self._do(command)
            self._done.clear()
            self._undone.clear()
        else:
            self._done.append((command, self._do(command)))
            self._undone.clear()

    def _do(self, command: Mapping[str, Any]) -> tuple[Any, ...]:
        """Change the strokes and return how to take it back."""
        op = command["op"]
        if op == "add":
            drawn = drawn_of(command["stroke"], self.size)
            if any(drawn.id == other.id for other in self.strokes):
                raise _refused("a stroke with an id of its own", f"id '{drawn.id}' a second time")
            self._check([*self.strokes, drawn])
            self.strokes.append(drawn)
            return ("pop",)
        if op in ("clear", "replace", "load"):
            before = list(self.strokes), self.base
            if op == "clear":
                self.strokes, self.base = [], None
            else:
                strokes = [drawn_of(told, self.size) for told in command["strokes"]]
                self._check(strokes)
                self.strokes, self.base = strokes, base_of(command.get("base"))
            return ("all", *before)
        number = self._find(command["stroke"])
        old = self.strokes[number]
        if op == "remove":
            del self.strokes[number]
            return ("insert", number, old)
        self.strokes[number] = replace(old, uid=command["class"])
        return ("set", number, old)

    def _take_back(self, inverse: tuple[Any, ...]) -> None:
        match inverse:
            case ("pop",):
                self.strokes.pop()
            case ("all", strokes, base):
                self.strokes, self.base = list(strokes), base
            case ("insert", number, drawn):
                self.strokes.insert(number, drawn)
            case ("set", number, drawn):
                self.strokes[number] = drawn

    def _find(self, id_: str) -> int:
        for number, drawn in enumerate(self.strokes):
            if drawn.id == id_:
                return number
        raise _refused("a stroke of this image", f"no stroke '{id_}'")

    def _check(self, strokes: list[Drawn]) -> None:
        """Refuse what no reader of the strokes file would take."""
        points = sum(len(drawn.stroke.points) for drawn in strokes)
        rows = sum(drawn.rows for drawn in strokes)
        if points > MAX_POINTS or 45 * points + 600 * len(strokes) > MAX_BYTES:  # digits of two floats; a stroke's other keys
            raise _refused(f"at most {MAX_POINTS} points on an image", f"{points} in {len(strokes)} strokes")
        if rows > MAX_ROWS:
            raise _refused(f"segments that touch at most {MAX_ROWS} rows of pixels", f"{rows}: too much for so wide a brush")


def drawn_of(told: Mapping[str, Any], size: tuple[int, int]) -> Drawn:
    """Return a stroke of the log."""
    points = np.array(told["points"], np.float64).reshape(-1, 2)
    stroke = Stroke(0, told["width_px"], points, told.get("tool", "brush"), told.get("time"), told.get("author"))
    return Drawn(told["id"], told["class"], stroke, rows_of(stroke, size))


def told_of(stroke: Stroke, id_: str, uid: int) -> dict[str, Any]:
    """Return a stroke as the log keeps it."""
    told: dict[str, Any] = {"id": id_, "class": uid, "width_px": stroke.width_px, "tool": stroke.tool}
    told["points"] = stroke.points.tolist()
    return told | {key: value for key, value in (("time", stroke.time), ("author", stroke.author)) if value is not None}


def base_of(told: Mapping[str, Any] | None) -> Base | None:
    """Return the base that a command of the log names."""
    return None if told is None else Base(told["file"], tuple((int(value), uid) for value, uid in told["uids"]))


def _refused(expected: str, got: str) -> DataError:
    return DataError("command", expected, got, "load the image again")
