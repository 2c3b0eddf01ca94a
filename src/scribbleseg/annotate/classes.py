"""The classes of a project: the log knows them by keys that stay, everybody else by ids 0…C−1 without gaps."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from scribbleseg.annotate.commands import ClassId
from scribbleseg.annotate.state import State
from scribbleseg.errors import DataError
from scribbleseg.palette import hex_colours
from scribbleseg.records import UNLABELLED

MAX_CLASSES = 254


class ClassChange(BaseModel):
    """What a page may send to change the classes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)

    op: Literal["add", "rename", "recolour", "reorder", "merge", "delete"]
    label: Annotated[ClassId | None, Field(alias="class")] = None
    name: Annotated[str | None, Field(max_length=200)] = None
    colour: Annotated[str | None, Field(max_length=7)] = None
    into: ClassId | None = None
    order: Annotated[list[ClassId] | None, Field(max_length=MAX_CLASSES)] = None


@dataclass(frozen=True)
class Classes:
    """The classes at one moment.

    Attributes:
        uids: keys by id.
        names: by id.
        colours: by id, ``#rrggbb``.
        ids: id of each key; of a merged class the id of the one it became; no entry for a deleted one.
    """

    uids: tuple[int, ...]
    names: tuple[str, ...]
    colours: tuple[str, ...]
    ids: Mapping[int, int]


def read_classes(state: State) -> Classes:
    """Return the classes as the state has them."""
    rows = state.rows("SELECT uid, name, colour FROM classes WHERE position IS NOT NULL ORDER BY position")
    ids = {uid: number for number, (uid, _, _) in enumerate(rows)}
    merged = dict(state.rows("SELECT uid, merged_into FROM classes WHERE position IS NULL AND merged_into IS NOT NULL"))
    for uid in merged:
        end = uid
        while end in merged:
            end = merged[end]
        if end in ids:
            ids[uid] = ids[end]
    return Classes(tuple(r[0] for r in rows), tuple(r[1] for r in rows), tuple(r[2] for r in rows), ids)


def take_names(state: State, names: tuple[str, ...], where: object) -> None:
    """Take the names of ``dataset.yaml`` over: all at first; later new names and further classes.

    Raises:
        DataError: classes are gone there that the project knows.
    """
    known = read_classes(state)
    if len(names) < len(known.names):
        got = f"{len(names)}; the project has {', '.join(known.names)}"
        raise DataError(where, f"names of {len(known.names)} classes", got, "put them back; the page can delete classes")
    colours = hex_colours(len(names))
    with state.transaction():
        for number, name in enumerate(names):
            if number < len(known.uids):
                state.execute("UPDATE classes SET name = ? WHERE uid = ?", (name, known.uids[number]))
            else:
                state.execute("INSERT INTO classes (position, name, colour) VALUES (?, ?, ?)", (number, name, colours[number]))


def change_classes(state: State, change: ClassChange, unlabelled: int) -> bool:
    """Change the classes; to be called inside a transaction.

    Args:
        state: of the project.
        change: wanted.
        unlabelled: the value that no class may have as its id.

    Returns:
        Whether ids of classes changed.

    Raises:
        DataError: it cannot be done.
    """
    now = read_classes(state)
    if change.op == "add":
        limit = min(MAX_CLASSES, unlabelled if unlabelled != UNLABELLED else MAX_CLASSES)
        if len(now.uids) >= limit:
            raise _refused(f"at most {limit} classes", f"{len(now.uids)} already")
        name = _name(change.name, now.names)
        colour = hex_colours(len(now.uids) + 1)[-1] if change.colour is None else _colour(change.colour)
        state.execute("INSERT INTO classes (position, name, colour) VALUES (?, ?, ?)", (len(now.uids), name, colour))
        return False
    if change.op == "reorder":
        if sorted(change.order or []) != list(range(len(now.uids))):
            raise _refused("every class id once", str(change.order)[:200])
        for position, old in enumerate(change.order or []):
            state.execute("UPDATE classes SET position = ? WHERE uid = ?", (position, now.uids[old]))
        return True
    uid = _uid(change.label, now)
    if change.op == "rename":
        others = tuple(name for key, name in zip(now.uids, now.names, strict=True) if key != uid)
        state.execute("UPDATE classes SET name = ? WHERE uid = ?", (_name(change.name, others), uid))
        return False
    if change.op == "recolour":
        state.execute("UPDATE classes SET colour = ? WHERE uid = ?", (_colour(change.colour), uid))
        return False
    if len(now.uids) == 2:
        raise _refused("two classes to be left", "one", "add another class first")
    into = _uid(change.into, now) if change.op == "merge" else None
    if into == uid:
        raise _refused("two different classes", "the same one twice")
    state.execute("UPDATE classes SET position = NULL, merged_into = ? WHERE uid = ?", (into, uid))
    for position, key in enumerate(key for key in now.uids if key != uid):
        state.execute("UPDATE classes SET position = ? WHERE uid = ?", (position, key))
    return True


def _uid(label: int | None, now: Classes) -> int:
    if label is None or label >= len(now.uids):
        raise _refused(f"a class id from 0 to {len(now.uids) - 1}", str(label))
    return now.uids[label]


def _name(name: str | None, others: tuple[str, ...]) -> str:
    name = (name or "").strip()
    if not name or not name.isprintable():
        raise _refused("a name of printable characters", ascii(name)[:100])
    if name in others:
        raise _refused("a name no other class has", f"'{name}'")
    return name


def _colour(colour: str | None) -> str:
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", colour or ""):
        raise _refused("a colour as #e69f00", ascii(colour))
    return str(colour).lower()


def _refused(expected: str, got: str, do: str = "choose another") -> DataError:
    return DataError("class", expected, got, do)
