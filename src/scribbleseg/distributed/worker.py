"""The worker: an actor that holds the model and does one block of inputs after the other."""

from __future__ import annotations

import itertools
import json
import os
import socket
import time
from collections.abc import Iterator
from typing import Any

from scribbleseg.distributed.inputs import Entry
from scribbleseg.distributed.job import Do, Job
from scribbleseg.distributed.ledger import DEATHS_ALONE, Ledger, Result
from scribbleseg.distributed.plan import Block, failure
from scribbleseg.errors import DataError, ScribblesegError
from scribbleseg.models.folder import TrainedModel


class Worker:
    """Does blocks; Ray makes one for every GPU or core, and another where one has died.

    Args:
        model: what the job begins with, or a reference to it in Ray's object store.
        job: all else.
    """

    def __init__(self, model: Any, job: Job) -> None:
        if not isinstance(model, TrainedModel | None):
            import ray

            model = ray.get(model)
        self._notes, self._hands = job.notes, job.begin(model)
        self._name = f"{socket.gethostname()}:{os.getpid()}"

    def __call__(self, batch: Any) -> dict[str, list[Any]]:
        """Do a block, and return how much of it was done, kept from before, and left out."""
        rows = [self._row(**row) for row in batch.to_pylist()]
        return {key: [row[key] for row in rows] for key in rows[0]}

    def _row(self, block: str, contents: list[bytes | None], kept: int, left_out: int) -> dict[str, Any]:
        told: dict[str, Any] = {"done": 0, "kept": kept, "failed": left_out, "reasons": "[]", "stopped": ""}
        if block:
            try:
                done, failed = self.do(Block.from_json(block), contents)
            except ScribblesegError as error:  # which Ray would pass on as a text
                done, failed = [], []
                told["stopped"] = json.dumps([type(error).__name__, error.where, error.expected, error.got, error.do])
            told |= {"done": len(done), "failed": len(failed), "reasons": json.dumps(failed[:3])}
        return told | {"worker": self._name, "at_s": time.time()}

    def do(self, block: Block, contents: list[bytes | None]) -> Result:
        """Do a block, and then note it; return the lines of what was done and what was left out."""
        ledger = Ledger(self._notes, block.part, block.number)
        careful = ledger.begin()
        with self._hands.ready(block.entries, contents) as do:
            try:
                results = list(self._with_care(block, ledger, do) if careful else self._at_once(block, do))
            except ScribblesegError:
                raise
            except Exception:  # nobody knows over which input
                if careful:
                    raise
                results = list(self._with_care(block, ledger, do))
        done, failed = ([line for result in results for line in result[k]] for k in (0, 1))
        ledger.end(done, failed)
        return done, failed

    def _at_once(self, block: Block, do: Do) -> Iterator[Result]:
        """Do the inputs of one folder after the other."""
        for _, groups in itertools.groupby(block.groups, key=lambda group: group[0].folder):
            yield do([entry for group in groups for entry in group])

    def _with_care(self, block: Block, ledger: Ledger, do: Do) -> Iterator[Result]:
        """Do few inputs at a time, and note each: one that kills workers, or fails as none may, is found and left out.

        Those that share a batch stay together as long as nothing has happened over them.

        Raises:
            Exception: all fail as none may; that is nothing about the inputs.
        """
        unforeseen: list[Exception] = []
        for n, group in enumerate(block.groups):
            found = self._tried(ledger, f"group-{n}", group, do, 1)
            if isinstance(found, tuple):
                yield found
                continue
            for k, entry in enumerate(group):
                found = self._tried(ledger, f"input-{n}-{k}", (entry,), do, DEATHS_ALONE)
                if isinstance(found, tuple):
                    yield found
                    continue
                if found is not None:
                    unforeseen.append(found)
                yield [], [failure(entry.key, _died(entry, found))]
        if len(unforeseen) == len(block.entries) > 1:
            raise unforeseen[-1]

    def _tried(self, ledger: Ledger, what: str, entries: tuple[Entry, ...], do: Do, most: int) -> Result | Exception | None:
        """Return what came of inputs, now or in an earlier attempt, or what was raised; None if workers died ``most`` times."""
        if (before := ledger.noted(what)) is not None:
            return before
        if ledger.tries(what) >= most:
            return None
        ledger.mark(what)
        try:
            result = do(list(entries))
        except ScribblesegError:
            raise
        except Exception as error:
            return error
        ledger.note(what, result)
        return result


def _died(entry: Entry, error: Exception | None) -> DataError:
    got = "workers died at it, again and again" if error is None else f"{type(error).__name__}: {error}"
    do = "look at the file, and at the memory that the workers have; --retry-failed tries again"
    return DataError(entry.key, "an image that a worker survives", " ".join(got.split())[:300], do)
