"""A folder of images to predictions in files: reading, the network and writing side by side, and no input done twice."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from scribbleseg.errors import DataError
from scribbleseg.models.folder import TrainedModel, load_model
from scribbleseg.predict.bands import Band, Piece, band_of, predicted
from scribbleseg.predict.device import pick_device
from scribbleseg.predict.inputs import list_images, refuse_to_overwrite
from scribbleseg.predict.manifest import Manifest, alone_in, model_hash, state_of
from scribbleseg.predict.outputs import OUTPUTS, USUAL, chosen
from scribbleseg.predict.outputs.output import Job, Output
from scribbleseg.predict.reading import BAND_PIXELS, Task, read_ahead
from scribbleseg.predict.views import ONCE, Views
from scribbleseg.predict.windows import batch_probabilities, images_together
from scribbleseg.predict.writing import Writer, Written
from scribbleseg.refine import require_known

#: Inputs of which pictures of one size go through the network together.
BLOCK = 4

#: Inputs that are being written before the network waits.
BEHIND = 4


@dataclass(frozen=True)
class Outcome:
    """What became of an input.

    Attributes:
        path: of it.
        files: of all outputs, in the order in which they were asked for.
        kept: whether they were there before.
        error: why there are none.
    """

    path: Path
    files: tuple[Path, ...] = ()
    kept: bool = False
    error: DataError | None = None


def predict_folder(
    model_folder: Path | str,
    images: Path | str,
    out: Path | str,
    *,
    device: str = "auto",
    refine: str | None = None,
    views: Views = ONCE,
    outputs: Iterable[str] = USUAL,
    overwrite: bool = False,
) -> Iterator[Path]:
    """Predict every image of a folder (or one image), yielding the files of the first output as they are done.

    By default ``out/STEM.png`` is the index mask at the image's size, ``out/overlays/STEM.png`` the picture with the classes
    in colour; of a stack ``STEM@007.png`` for each slice. :func:`predict_inputs` says what became of each input, and goes on
    behind one that cannot be used.

    Raises:
        ConfigError: as :func:`predict_inputs`.
        DataError: as there, or an input that cannot be used.
        ModelError: the model folder is not whole.
        StorageError: the disk is full.
    """
    first = next(iter(chosen(outputs := list(outputs)).values()))
    how = {"device": device, "refine": refine, "views": views, "outputs": outputs, "overwrite": overwrite}
    for outcome in predict_inputs(model_folder, images, out, **how):  # type: ignore[arg-type]
        if outcome.error is not None:
            raise outcome.error
        yield from (file for file in outcome.files if file.parent == Path(out) / first.folder)


def predict_inputs(
    model_folder: Path | str,
    images: Path | str,
    out: Path | str,
    *,
    device: str = "auto",
    refine: str | None = None,
    views: Views = ONCE,
    outputs: Iterable[str] = USUAL,
    overwrite: bool = False,
) -> Generator[Outcome]:
    """Predict every image of a folder (or one image), and say of each, in the order of names, what became of it.

    Files appear whole or not at all. ``out/predictions.jsonl`` lists what is done: a run that was killed and is started again
    does the rest. An image that has changed since is done again. One that cannot be read is an outcome with an error.

    Args:
        model_folder: model or run folder.
        images: folder, or one image.
        out: folder for the outputs.
        device: for the model.
        refine: a name of :data:`scribbleseg.refine.REFINEMENTS`; not for pictures of more than ``LARGE_PIXELS``.
        views: see :class:`~scribbleseg.predict.views.Views`.
        outputs: names of :data:`scribbleseg.predict.outputs.OUTPUTS`.
        overwrite: delete what ``out`` lists, and begin anew.

    Raises:
        ConfigError: no such output, refinement or device; ``out`` is of another model or options, or in use by another run.
        DataError: no images, two of one stem, or ``out`` is the images' own folder.
        ModelError: the model folder is not whole.
        StorageError: the disk is full.

    Cost: memory for the windows' height times an image's width, in every class, and for whole pictures of 4 million pixels;
    it does not grow with the height or the number of images.
    """
    wanted = chosen(outputs)
    if refine is not None:
        require_known(refine)
    model = load_model(model_folder)
    model.segmenter.to(pick_device(device))
    images, out = Path(images), Path(out)
    folders = [output.folder for output in OUTPUTS.values()]
    refuse_to_overwrite(out, images if images.is_dir() else images.parent, folders)
    paths = list_images(images)
    about = {"model": model_hash(model_folder), "refine": refine, "flips": views.flips, "scales": list(views.scales)}
    with alone_in(out, folders):
        manifest = Manifest(out, about, overwrite=overwrite)
        yield from _Run(model, manifest, wanted, refine, views).outcomes(paths)
        for name, output in wanted.items():
            output.finish(out, model.names, manifest.all_files(name))


def predict_paths(
    model: TrainedModel,
    paths: list[Path],
    manifest: Manifest,
    wanted: dict[str, Output],
    *,
    refine: str | None = None,
    views: Views = ONCE,
) -> Iterator[Outcome]:
    """Say what became of each of these files, whose model is on its device and whose folder of outputs is nobody else's.

    Files share batches by fours from the first on: the same four give the same bits, wherever they are predicted.
    """
    return _Run(model, manifest, wanted, refine, views).outcomes(paths)


class _Run:
    """Brings inputs from the readers through the network to the writers, in the order of their names."""

    def __init__(
        self, model: TrainedModel, manifest: Manifest, wanted: dict[str, Output], refine: str | None, views: Views
    ) -> None:
        self._model, self._manifest, self._wanted = model, manifest, wanted
        self._refine, self._views = refine, views
        self._pending: deque[tuple[Path, Future[Written] | Outcome]] = deque()
        self._group: list[tuple[Task, Job, Piece]] = []

    def outcomes(self, paths: list[Path]) -> Iterator[Outcome]:
        """Yield what became of each input."""
        threads = max(2, min(4, os.cpu_count() or 2))
        with contextlib.ExitStack() as stack:
            readers = stack.enter_context(ThreadPoolExecutor(threads, "reading"))
            self._writers = stack.enter_context(ThreadPoolExecutor(threads, "writing"))
            ahead = read_ahead(readers, self._tasks(paths), self._model, self._manifest.out, refine=self._refine is not None)
            for task, channel in stack.enter_context(contextlib.closing(ahead)):
                self._take(task, iter(channel))
                yield from self._ready(BEHIND)
            self._flush()
            yield from self._ready(0)

    def _tasks(self, paths: list[Path]) -> Iterator[Task]:
        """Yield what is to be done. Pictures share batches within a block of the list, in a run that goes on as in one that
        was never stopped: rounding depends on the batch, and so could a pixel's class.
        """
        for first in range(0, len(paths), BLOCK):
            block = {path: self._manifest.missing(path, self._wanted) for path in paths[first : first + BLOCK]}
            beside = any(block.values())
            for n, (path, missing) in enumerate(block.items()):
                outputs = {name: self._wanted[name] for name in missing}
                yield Task(path, outputs, state_of(path), beside, ends=n == BLOCK - 1)

    def _take(self, task: Task, items: Iterator[Job | Piece]) -> None:
        """Predict an input, or put it with others of its size."""
        try:
            job = next(items, None)
            if job is None:
                self._settle(task.path, Outcome(task.path, kept=True))
                return
            assert isinstance(job, Job)
            room = self._room(job)
            if room == 1 and not task.outputs:
                self._settle(task.path, Outcome(task.path, kept=True))
                return
            if room > 1:
                piece = next(items)
                assert isinstance(piece, Piece)
                if self._group and self._group[0][1].shape != job.shape:
                    self._flush()
                self._group.append((task, job, piece))
                if len(self._group) == room or task.ends:
                    self._flush()
                return
        except DataError as error:
            self._settle(task.path, Outcome(task.path, error=error))
            return
        self._flush()
        self._write(task, job).feed(self._bands(task, job, items))

    def _room(self, job: Job) -> int:
        """Return how many pictures of a size go through the network together."""
        if job.num_slices > 1 or self._refine is not None:
            return 1
        most = min(BLOCK, images_together(self._model, *job.shape), BAND_PIXELS // job.pixels)
        return max(1, most)

    def _bands(self, task: Task, job: Job, items: Iterator[Job | Piece]) -> Iterator[Band]:
        read = (item for item in items if isinstance(item, Piece))
        for _, pieces in itertools.groupby(read, key=lambda piece: piece.number):
            how = {"refine": self._refine, "views": self._views, "keep": _keep(task)}
            yield from predicted(self._model, job.shape[0], pieces, **how)  # type: ignore[arg-type]

    def _flush(self) -> None:
        """Predict the pictures that wait for others of their size."""
        group, self._group = self._group, []
        if not any(task.outputs for task, _, _ in group):
            self._pending.extend((task.path, Outcome(task.path, kept=True)) for task, _, _ in group)
            return
        every = batch_probabilities(self._model, [piece.rgb for _, _, piece in group], self._views)
        for (task, job, piece), probs in zip(group, every, strict=True):
            if task.outputs:
                self._write(task, job).feed([band_of(piece, probs, _keep(task))])
            else:
                self._pending.append((task.path, Outcome(task.path, kept=True)))

    def _write(self, task: Task, job: Job) -> Writer:
        writer = Writer(self._writers, self._manifest, task, job)
        self._pending.append((task.path, writer.written))
        return writer

    def _settle(self, path: Path, outcome: Outcome) -> None:
        self._flush()  # outcomes come in the order of names
        self._pending.append((path, outcome))

    def _ready(self, most: int) -> Iterator[Outcome]:
        """Yield the outcomes that are there, and wait for some as long as there are more than ``most`` to come."""
        while self._pending:
            path, result = self._pending[0]
            if len(self._pending) <= most and isinstance(result, Future) and not result.done():
                return
            self._pending.popleft()
            yield self._outcome(path, result)

    def _outcome(self, path: Path, result: Future[Written] | Outcome) -> Outcome:
        if isinstance(result, Outcome) and not result.kept:
            return result
        if isinstance(result, Future):
            try:
                result.result()
            except DataError as error:
                return Outcome(path, error=error)
        files = (file for name in self._wanted for file in self._manifest.files(path, name))
        return Outcome(path, tuple(files), kept=isinstance(result, Outcome))


def _keep(task: Task) -> bool:
    return any(output.probabilities for output in task.outputs.values())
