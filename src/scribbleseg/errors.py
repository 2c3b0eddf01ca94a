"""The errors a user can meet: each says where, what was expected, what was found and what to do."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, get_args

if TYPE_CHECKING:  # half of the time that `scribbleseg --help` takes to start
    from pydantic import BaseModel, ValidationError


class ScribblesegError(Exception):
    """Base of every error that is the caller's to mend. The command line prints it and exits with its code.

    Args:
        where: the file, key or step at which it happened.
        expected: what should have been there.
        got: what was there instead.
        do: what the user can do about it.
    """

    exit_code = 2

    def __init__(self, where: object, expected: str, got: str, do: str) -> None:
        self.where, self.expected, self.got, self.do = str(where), expected, got, do
        super().__init__(f"{where}\n  expected: {expected}\n  got:      {got}\n  to do:    {do}")

    def __reduce__(self) -> tuple[type[ScribblesegError], tuple[str, str, str, str]]:
        """Let the error be sent from a worker process as it is."""
        return type(self), (self.where, self.expected, self.got, self.do)


class ConfigError(ScribblesegError):
    """A configuration key or value that the run cannot use."""

    @classmethod
    def from_pydantic(cls, error: ValidationError, where: object, model: type[BaseModel] | None = None) -> ConfigError:
        """Turn the first of pydantic's findings into one of our messages, with the nearest key for an unknown one."""
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = _keys_at(model, first["loc"][:-1])
            return cls(f"{where}: {key}", "a known key", f"'{first['loc'][-1]}'", nearest(str(first["loc"][-1]), known))
        return cls(f"{where}: {key}", first["msg"], _shortened(first["input"]), "correct the value")


def _shortened(value: object) -> str:
    """Return how a value is written, of a long or deep one its beginning: aliases in YAML can stand for billions of words."""
    short = reprlib.Repr()
    short.maxlevel, short.maxstring, short.maxother = 3, 200, 200
    text = short.repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


def _keys_at(model: type[BaseModel] | None, path: tuple[int | str, ...]) -> list[str]:
    from pydantic import BaseModel

    for part in path:
        field = model.model_fields.get(str(part)) if model is not None else None
        inner = field.annotation if field is not None else None
        choices = [inner, *get_args(inner)]  # a section, or a section or None
        model = next((c for c in choices if isinstance(c, type) and issubclass(c, BaseModel)), None)
    return list(model.model_fields) if model is not None else []


class DataError(ScribblesegError):
    """A data set, image or label file that cannot be used."""


class ModelError(ScribblesegError):
    """A model folder or backbone that cannot be loaded."""


class TrainingError(ScribblesegError):
    """A training run that had to stop."""


class OutOfMemoryError(ScribblesegError):
    """Memory that does not suffice, even for half of what was to be done at once."""


class StoppedError(ScribblesegError):
    """A run that was told to stop (SIGTERM) and can go on. The exit code is the one a shell has for that signal."""

    exit_code = 143


class InterruptedRunError(StoppedError):
    """The same by Ctrl-C."""

    exit_code = 130


class StorageError(ScribblesegError):
    """A file that could not be written."""


class ClusterError(ScribblesegError):
    """A cluster of machines that cannot be reached, or was lost."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint that names the closest known word, or lists all of them."""
    names = sorted(str(k) for k in known)
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'?" if close else f"use one of: {', '.join(names)}"
