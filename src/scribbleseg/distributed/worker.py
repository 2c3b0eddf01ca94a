"""The worker: an actor that holds the model and does one block of inputs after the other, as the plain loop does a folder."""

from __future__ import annotations

import itertools
import json
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scribbleseg.distributed.inputs import Entry
from scribbleseg.distributed.ledger import DEATHS_ALONE, Ledger, Result
from scribbleseg.distributed.place import Place
from scribbleseg.distributed.plan import Block, failure
from scribbleseg.errors import DataError, ScribblesegError, StorageError
from scribbleseg.models.folder import TrainedModel
from scribbleseg.predict.device import pick_device
from scribbleseg.predict.folder import Outcome, predict_paths
from scribbleseg.predict.manifest import Manifest
from scribbleseg.predict.outputs import chosen
from scribbleseg.predict.views import Views

#: Where each input lies on this machine, or why it does not.
Paths = dict[Entry, Path | DataError]

#: Files that are put into an object store at a time.
AT_ONCE = 8


@dataclass(frozen=True)
class Told:
    """What every worker is told.

    Attributes:
        place: of the inputs.
        out: place of all outputs.
        outputs: their names.
        refine: a name of :data:`scribbleseg.refine.REFINEMENTS`, or None.
        views: how often a window is looked at.
        device: for the model.
    """

    place: Place
    out: Place
    outputs: tuple[str, ...]
    refine: str | None
    views: Views
    device: str


class Worker:
    """Predicts blocks; Ray makes one for every GPU or core, and another where one has died.

    Args:
        model: reference to it in Ray's object store, or the model itself.
        told: all else.
    """

    def __init__(self, model: Any, told: Told) -> None:
        if not isinstance(model, TrainedModel):
            import ray

            model = ray.get(model)
        self._model: TrainedModel = model
        self._model.segmenter.to(pick_device(told.device))
        self._told, self._wanted = told, chosen(told.outputs)
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
        """Predict a block, write its outputs, and then note it; return the lines of what was done and what was left out."""
        ledger = Ledger(self._told.out, block.part, block.number)
        careful = ledger.begin()
        with tempfile.TemporaryDirectory(prefix="scribbleseg-") as inputs:
            paths = self._laid_out(block.entries, contents, Path(inputs))
            try:
                results = list(self._with_care(block, ledger, paths) if careful else self._at_once(block, paths))
            except ScribblesegError:
                raise
            except Exception:  # nobody knows over which input
                if careful:
                    raise
                results = list(self._with_care(block, ledger, paths))
        done, failed = ([line for result in results for line in result[k]] for k in (0, 1))
        ledger.end(done, failed)
        return done, failed

    def _at_once(self, block: Block, paths: Paths) -> Iterator[Result]:
        """Do the inputs of one folder after the other."""
        for _, groups in itertools.groupby(block.groups, key=lambda group: group[0].folder):
            yield self._do([entry for group in groups for entry in group], paths)

    def _with_care(self, block: Block, ledger: Ledger, paths: Paths) -> Iterator[Result]:
        """Do few inputs at a time, and note each: one that kills workers, or fails as none may, is found and left out.

        Those that share a batch stay together as long as nothing has happened over them.

        Raises:
            Exception: all fail as none may; that is nothing about the inputs.
        """
        unforeseen: list[Exception] = []
        for n, group in enumerate(block.groups):
            found = self._tried(ledger, f"group-{n}", group, paths, 1)
            if isinstance(found, tuple):
                yield found
                continue
            for k, entry in enumerate(group):
                found = self._tried(ledger, f"input-{n}-{k}", (entry,), paths, DEATHS_ALONE)
                if isinstance(found, tuple):
                    yield found
                    continue
                if found is not None:
                    unforeseen.append(found)
                yield [], [failure(entry.key, _died(entry, found))]
        if len(unforeseen) == len(block.entries) > 1:
            raise unforeseen[-1]

    def _tried(
        self, ledger: Ledger, what: str, entries: tuple[Entry, ...], paths: Paths, most: int
    ) -> Result | Exception | None:
        """Return what came of inputs, now or in an earlier attempt, or what was raised; None if workers died ``most`` times."""
        if (before := ledger.noted(what)) is not None:
            return before
        if ledger.tries(what) >= most:
            return None
        ledger.mark(what)
        try:
            result = self._do(list(entries), paths)
        except ScribblesegError:
            raise
        except Exception as error:
            return error
        ledger.note(what, result)
        return result

    def _do(self, entries: list[Entry], paths: Paths) -> Result:
        """Predict inputs of one folder; their outputs are in place."""
        outcomes = list(zip(entries, self._predicted(entries, paths), strict=True))
        done = [{"input": e.key, "at": e.at, "outputs": files} for e, files in outcomes if not isinstance(files, DataError)]
        return done, [failure(entry.key, error) for entry, error in outcomes if isinstance(error, DataError)]

    def _laid_out(self, entries: list[Entry], contents: list[bytes | None], inputs: Path) -> Paths:
        """Return where each input lies on this machine, under the name that its outputs are to get."""
        place = self._told.place
        paths: Paths = {}
        for n, (entry, held) in enumerate(zip(entries, contents, strict=True)):
            if entry.is_file and place.local is not None:
                there = Path(place.path(entry.at))
                if there.name == entry.name or not there.exists():
                    paths[entry] = there if there.exists() else _gone(entry)
                    continue
            path = paths[entry] = inputs / str(n) / entry.name
            path.parent.mkdir()
            if entry.is_file and place.local is not None:
                path.symlink_to(there)
            elif held is not None:
                path.write_bytes(held)
            else:
                fault = self._copy(entry, path)
                paths[entry] = fault or path
        return paths

    def _copy(self, entry: Entry, path: Path) -> DataError | None:
        """Fetch an input from a store, or say why there is none.

        Raises:
            StorageError: the store does not answer; that is nothing about this input.
        """
        place = self._told.place
        try:
            place.copy(entry.at, path, max(0, entry.offset), entry.size if entry.offset >= 0 else None)
        except FileNotFoundError:
            return _gone(entry)
        except OSError as error:
            got = " ".join(str(error).split())[:300]
            if isinstance(error, PermissionError) or "ACCESS_DENIED" in got:
                return DataError(entry.key, "an image that may be read", got, "give the workers the right to")
            do = "run the same again when it does"
            raise StorageError(f"{place}/{entry.at}", "a store that answers", got, do) from None
        return None

    def _predicted(self, entries: list[Entry], paths: Paths) -> list[dict[str, list[str]] | DataError]:
        """Predict inputs of one folder, and return the names of each one's outputs, which are in place."""
        out = self._told.out
        with out.scratch() as scratch, ThreadPoolExecutor(AT_ONCE, "putting") as pool:
            manifest = Manifest(scratch, {})
            there = [path for entry in entries if isinstance(path := paths[entry], Path)]
            how: Any = {"refine": self._told.refine, "views": self._told.views}
            outcomes = predict_paths(self._model, there, manifest, self._wanted, **how)
            moved: list[Future[dict[str, list[str]]] | DataError] = []
            for entry in entries:
                fault = paths[entry]
                if isinstance(fault, DataError):
                    moved.append(fault)
                    continue
                outcome = next(outcomes)
                moved.append(outcome.error or pool.submit(self._move, entry, outcome, scratch, manifest))
            next(outcomes, None)  # lets its threads go
            return [each if isinstance(each, DataError) else each.result() for each in moved]

    def _move(self, entry: Entry, outcome: Outcome, scratch: Path, manifest: Manifest) -> dict[str, list[str]]:
        """Give an input's outputs their places, below its folder."""
        names: dict[str, list[str]] = {}
        for name, output in self._wanted.items():
            names[name] = []
            for file in manifest.files(outcome.path, name):
                inner = file.relative_to(scratch / output.folder).as_posix()
                target = "/".join(part for part in (output.folder, entry.folder, inner) if part)
                self._told.out.take(file, target)
                names[name].append(target)
        return names


def _gone(entry: Entry) -> DataError:
    return DataError(entry.key, "an image", "no such file any more", "copy it again, or take it off the list")


def _died(entry: Entry, error: Exception | None) -> DataError:
    got = "workers died at it, again and again" if error is None else f"{type(error).__name__}: {error}"
    do = "look at the file, and at the memory that the workers have; --retry-failed tries again"
    return DataError(entry.key, "an image that a worker survives", " ".join(got.split())[:300], do)
