"""What a page may send to change strokes: checked word for word before anything else sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from scribbleseg.data.vector import MAX_POINTS, Line, Place
from scribbleseg.errors import ConfigError, DataError
from scribbleseg.records import UNLABELLED

#: Commands in one request; a page that was away sends several.
MAX_COMMANDS = 1000

M = TypeVar("M", bound=BaseModel)

Id = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.:-]+$")]
ClassId = Annotated[int, Field(ge=0, lt=UNLABELLED)]
ClassKey = Annotated[int, Field(ge=0, lt=2**53)]


class DrawnLine(Line):
    """A stroke as the page sends it."""

    id: Id | None = None
    class_key: ClassKey | None = None
    points: Annotated[list[tuple[Place, Place]], Field(min_length=1, max_length=MAX_POINTS)]


class _Command(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)

    id: Id


class Add(_Command):
    """Draw a stroke over all others."""

    op: Literal["add"]
    stroke: DrawnLine


class Plain(_Command):
    """Undo, redo, or take all strokes away."""

    op: Literal["undo", "redo", "clear"]


class Remove(_Command):
    """Take one stroke away."""

    op: Literal["remove"]
    stroke: Id


class Reclass(_Command):
    """Give one stroke another class."""

    op: Literal["reclass"]
    stroke: Id
    label: Annotated[ClassId, Field(alias="class")]
    class_key: ClassKey | None = None


Command = Annotated[Add | Plain | Remove | Reclass, Field(discriminator="op")]


class Commands(BaseModel):
    """The body of a request."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    commands: Annotated[list[Command], Field(min_length=1, max_length=MAX_COMMANDS)]


def read_commands(body: bytes) -> list[Add | Plain | Remove | Reclass]:
    """Return the commands of a request.

    Raises:
        DataError: not JSON, or anything in it that is not expected.
    """
    return parsed(Commands, body).commands


def parsed(model: type[M], body: bytes) -> M:
    """Return a request's body as a record.

    Raises:
        DataError: not JSON, or anything in it that is not expected.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        told = ConfigError.from_pydantic(error, "request", model)
        raise DataError(told.where[:200], told.expected[:300], told.got[:200], "load the page again") from None


def is_keyed(command: Add | Plain | Remove | Reclass) -> bool:
    """Say whether a command means the same after classes were put in another order."""
    match command:
        case Add(stroke=line):
            return line.tool == "eraser" or line.class_key is not None
        case Reclass(class_key=key):
            return key is not None
        case _:
            return True


def logged(command: Add | Plain | Remove | Reclass, uids: Sequence[int], ids: Mapping[int, int]) -> dict[str, Any]:
    """Return a command as the log keeps it: with keys of classes in place of their ids, which change.

    Args:
        command: of a page.
        uids: keys of the classes by id.
        ids: id of each key.

    Raises:
        DataError: a class that does not exist.
    """
    match command:
        case Add(stroke=line):
            told = line.model_dump(by_alias=True, exclude_none=True, exclude={"class_key"})
            uid = uids[0] if line.tool == "eraser" else _uid(line.label, line.class_key, uids, ids)
            return {"op": "add", "stroke": told | {"id": line.id or command.id, "class": uid}}
        case Remove(stroke=id_):
            return {"op": "remove", "stroke": id_}
        case Reclass(stroke=id_, label=label, class_key=key):
            return {"op": "reclass", "stroke": id_, "class": _uid(label, key, uids, ids)}
        case _:
            return {"op": command.op}


def _uid(label: int, key: int | None, uids: Sequence[int], ids: Mapping[int, int]) -> int:
    if key is not None:
        if key not in ids:
            raise DataError(
                "class", "a class of the project", f"one that is gone (key {key})", "draw it again with another class"
            )
        return key
    if label >= len(uids):
        raise DataError("class", f"a class id from 0 to {len(uids) - 1}", str(label), "load the classes again")
    return uids[label]
