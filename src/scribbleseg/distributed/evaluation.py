"""Evaluation of millions of images on a Ray cluster: workers count and note, block by block; then it is added up."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from scribbleseg.data.folder import Dataset
from scribbleseg.distributed.engine import Progress, Resources, alone, run_blocks
from scribbleseg.distributed.inputs import Entry
from scribbleseg.distributed.job import Do
from scribbleseg.distributed.ledger import WRITING, Result, done_lines, forget, forget_failed, read_head, remove_all, write_head
from scribbleseg.distributed.place import Place
from scribbleseg.distributed.plan import failure, write_plan
from scribbleseg.errors import DataError
from scribbleseg.evaluate import VERSION, from_folder, from_model, is_model, model_of, opened, score_image
from scribbleseg.metrics.gather import gather
from scribbleseg.metrics.image import ImageScores, Prediction
from scribbleseg.models.folder import TrainedModel
from scribbleseg.predict.device import pick_device
from scribbleseg.predict.manifest import model_hash
from scribbleseg.predict.views import ONCE, Views
from scribbleseg.records import Scores
from scribbleseg.refine import require_known

#: Folder of the ledger.
FOLDER = "evaluation"


class Evaluation(NamedTuple):
    """Scores of the images that could be scored, and how many could not: ``OUT/evaluation/failed/`` says which, and why."""

    scores: Scores
    left_out: int


@dataclass(frozen=True)
class EvaluationJob:
    """A job, see :class:`~scribbleseg.distributed.job.Job`.

    Attributes:
        dataset: its folder is seen by all machines.
        notes: place of the ledger.
        masks: folder of index masks to be scored; None for a model.
        refine: a name of :data:`scribbleseg.refine.REFINEMENTS`, or None.
        views: how often a window is looked at.
        device: for the model.
    """

    dataset: Dataset
    notes: Place
    masks: Path | None
    refine: str | None
    views: Views
    device: str

    @property
    def place(self) -> Place:
        """Where the inputs are."""
        return Place(str(self.dataset.root))

    def begin(self, model: TrainedModel | None) -> Evaluator:
        """Return the evaluator of a worker."""
        if model is None:
            return Evaluator(self.dataset, from_folder(self.masks or Path(), self.dataset))
        model.segmenter.to(pick_device(self.device))
        return Evaluator(self.dataset, from_model(model, self.dataset, self.refine, self.views))


class Evaluator:
    """Scores images: an entry's key is a stem.

    Args:
        dataset: has the masks.
        predict: what is compared with them.
    """

    def __init__(self, dataset: Dataset, predict: Callable[[str], Prediction]) -> None:
        self._dataset, self._predict = dataset, predict

    @contextlib.contextmanager
    def ready(self, entries: list[Entry], contents: list[bytes | None]) -> Iterator[Do]:
        """Get nothing ready: images are read where they lie."""
        yield self._do

    def _do(self, entries: list[Entry]) -> Result:
        done, failed = [], []
        for entry in entries:
            try:
                scores = score_image(self._dataset, entry.key, self._predict)
            except DataError as error:
                failed.append(failure(entry.key, error))
            else:
                done.append({"input": entry.key, "scores": scores.to_tree()})
        return done, failed


def evaluate_many(
    source: Path | str,
    data: Path | str,
    out: str,
    *,
    split: str = "test",
    device: str = "auto",
    refine: str | None = None,
    views: Views = ONCE,
    overwrite: bool = False,
    retry_failed: bool = False,
    resources: Resources | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Evaluation:
    """Score a model, or a folder of index masks, as :func:`scribbleseg.evaluate.evaluate` does, with the same numbers.

    An image that cannot be scored is left out. A run that was stopped, or whose workers or whose cluster died, is started again
    and does the rest.

    Args:
        source: model or run folder, on this machine; or a folder with one index mask a stem, which all machines see.
        data: data set folder, which all machines see.
        out: folder or prefix which all machines can write to: ``OUT/evaluation/`` has the counts of every image.
        split: name of the split.
        device: for the model; ``auto`` takes GPUs where the cluster has any.
        refine: see :func:`scribbleseg.evaluate.evaluate`.
        views: see :class:`~scribbleseg.predict.views.Views`.
        overwrite: begin anew.
        retry_failed: try again what was left out before.
        resources: what of the cluster is taken.
        progress: called with how far this is.

    Raises:
        ClusterError: it cannot be reached, or was lost.
        ConfigError: ``out`` is of another model, data set or options.
        DataError: no masks, classes that differ from the model's, or no image that can be scored.
        ModelError: the model folder is not whole.
        StorageError: ``out`` cannot be written to.

    Cost: some 1 kB an image in ``out``; adding up takes this process 0.2 ms an image.
    """
    resources, source = resources or Resources(), Path(source).absolute()
    if refine is not None:
        require_known(refine)
    dataset, stems = opened(Path(data).absolute(), split)
    model = model_of(source, dataset) if is_model(source) else None
    if model is None:
        from_folder(source, dataset)
    place = Place(out, f"{FOLDER}/{WRITING}")
    notes = place.below(FOLDER, WRITING)
    about = {"version": VERSION, "source": model_hash(source) if model else str(source), "refine": refine}
    about |= {"flips": views.flips, "scales": list(views.scales), "data": str(dataset.root), "split": split}
    about["stems"] = hashlib.sha256("\n".join((*dataset.names, "", *stems)).encode()).hexdigest()
    with alone(place, notes, FOLDER):
        if overwrite:
            remove_all(notes, place)
        head = _planned(notes, stems, about, resources.block)
        if retry_failed:
            forget_failed(notes, head["parts"])
        job = EvaluationJob(dataset, notes, None if model else source, refine, views, device if model else "cpu")
        last = Progress(0)
        for last in run_blocks(model, job, head, resources):
            if progress is not None:
                progress(last)
        if last.failed == last.inputs:
            got = json.dumps(last.reasons[:1], ensure_ascii=False) if last.reasons else "none, as an earlier run found"
            do = f"mend what {out}/{FOLDER}/failed says, then --retry-failed"
            raise DataError(dataset.root, "an image that can be scored", got, do)
        images = (ImageScores.from_tree(line["scores"]) for line in done_lines(notes, head["parts"]))
        return Evaluation(gather(dataset.names, images), last.failed)


def _planned(notes: Place, stems: tuple[str, ...], about: dict[str, Any], block: int) -> dict[str, Any]:
    """Return the head of the run: of one that was begun, or of a new one."""
    head = read_head(notes, about)
    if head is None:
        forget(notes)  # what a run had that was killed while it planned
        number, parts = write_plan(notes, (Entry(stem, stem) for stem in stems), block)
        head = about | {"inputs": number, "parts": parts, "block": block}
        write_head(notes, head)
    return head
