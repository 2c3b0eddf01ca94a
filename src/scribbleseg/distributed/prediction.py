"""Prediction as a job: inputs are laid out on this machine, predicted as the plain loop does a folder, and put in place."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scribbleseg.distributed.inputs import Entry
from scribbleseg.distributed.job import Do
from scribbleseg.distributed.ledger import Result
from scribbleseg.distributed.place import Place
from scribbleseg.distributed.plan import failure
from scribbleseg.errors import DataError, StorageError
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
class PredictionJob:
    """A job, see :class:`~scribbleseg.distributed.job.Job`.

    Attributes:
        place: of the inputs.
        out: place of all outputs.
        notes: place of the ledger.
        outputs: their names.
        refine: a name of :data:`scribbleseg.refine.REFINEMENTS`, or None.
        views: how often a window is looked at.
        device: for the model.
    """

    place: Place
    out: Place
    notes: Place
    outputs: tuple[str, ...]
    refine: str | None
    views: Views
    device: str

    def begin(self, model: TrainedModel) -> Predictor:
        """Return the predictor of a worker."""
        return Predictor(model, self)


class Predictor:
    """Predicts inputs and writes their outputs.

    Args:
        model: is moved to the job's device.
        job: all else.
    """

    def __init__(self, model: TrainedModel, job: PredictionJob) -> None:
        self._model, self._job = model, job
        self._model.segmenter.to(pick_device(job.device))
        self._wanted = chosen(job.outputs)

    @contextlib.contextmanager
    def ready(self, entries: list[Entry], contents: list[bytes | None]) -> Iterator[Do]:
        """Lay out the inputs on this machine."""
        with tempfile.TemporaryDirectory(prefix="scribbleseg-") as inputs:
            paths = self._laid_out(entries, contents, Path(inputs))
            yield lambda some: self._do(some, paths)

    def _do(self, entries: list[Entry], paths: Paths) -> Result:
        """Predict inputs of one folder; their outputs are in place."""
        outcomes = list(zip(entries, self._predicted(entries, paths), strict=True))
        done = [{"input": e.key, "at": e.at, "outputs": files} for e, files in outcomes if not isinstance(files, DataError)]
        return done, [failure(entry.key, error) for entry, error in outcomes if isinstance(error, DataError)]

    def _laid_out(self, entries: list[Entry], contents: list[bytes | None], inputs: Path) -> Paths:
        """Return where each input lies on this machine, under the name that its outputs are to get."""
        place = self._job.place
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
        place = self._job.place
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
        out = self._job.out
        with out.scratch() as scratch, ThreadPoolExecutor(AT_ONCE, "putting") as pool:
            manifest = Manifest(scratch, {})
            there = [path for entry in entries if isinstance(path := paths[entry], Path)]
            how: Any = {"refine": self._job.refine, "views": self._job.views}
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
                self._job.out.take(file, target)
                names[name].append(target)
        return names


def _gone(entry: Entry) -> DataError:
    return DataError(entry.key, "an image", "no such file any more", "copy it again, or take it off the list")
