"""What is done with inputs: the part of a run that knows whether it predicts or evaluates."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from scribbleseg.distributed.inputs import Entry
from scribbleseg.distributed.ledger import Result
from scribbleseg.distributed.place import Place

#: Does some inputs of one folder.
Do = Callable[[list[Entry]], Result]


class Hands(Protocol):
    """A job in a worker, with the model in its hands."""

    def ready(self, entries: list[Entry], contents: list[bytes | None]) -> AbstractContextManager[Do]:
        """Get the inputs of a block ready, with the bytes that were fetched for them; the result does any of them."""


class Job(Protocol):
    """What every worker is told. The same inputs give the same results, whoever does them and however often."""

    @property
    def place(self) -> Place:
        """Where the inputs are."""

    @property
    def notes(self) -> Place:
        """Where the ledger is."""

    @property
    def device(self) -> str:
        """Device for the model."""

    def begin(self, model: Any) -> Hands:
        """Begin in a worker, with the model that the run was given."""
