"""Prediction of millions of files on a Ray cluster: list them once, hand blocks to workers, note what is done."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from scribbleseg.distributed.engine import Progress, Resources, alone, run_blocks
from scribbleseg.distributed.inputs import list_inputs
from scribbleseg.distributed.ledger import (
    UNLISTED,
    VERSION,
    WRITING,
    forget,
    forget_failed,
    read_head,
    remove_all,
    to_lines,
    write_head,
)
from scribbleseg.distributed.place import Place
from scribbleseg.distributed.plan import make_plan
from scribbleseg.distributed.prediction import PredictionJob
from scribbleseg.errors import ConfigError, DataError
from scribbleseg.models.folder import load_model
from scribbleseg.predict.manifest import NAME, model_hash
from scribbleseg.predict.outputs import OUTPUTS, USUAL, chosen
from scribbleseg.predict.outputs.output import Output
from scribbleseg.predict.views import ONCE, Views
from scribbleseg.refine import require_known

#: Folder of the ledger, beside the outputs.
FOLDER = "predictions"


def predict_many(
    model_folder: Path | str,
    inputs: str,
    out: str,
    *,
    device: str = "auto",
    refine: str | None = None,
    views: Views = ONCE,
    outputs: Iterable[str] = USUAL,
    overwrite: bool = False,
    retry_failed: bool = False,
    look_again: bool = False,
    resources: Resources | None = None,
) -> Iterator[Progress]:
    """Predict every image below a folder or address, and say from time to time how far this is.

    The masks are those of the plain loop over each folder. ``OUT/predictions/`` lists inputs, and what is done of them: a run
    that was stopped, or whose workers or whose cluster died, is started again and does the rest.

    Args:
        model_folder: model or run folder, on this machine; the workers get it from here.
        inputs: folder, prefix, or file: images, or tar or Parquet files that hold them.
        out: folder or prefix for the outputs, which all machines can write to.
        device: for the model; ``auto`` takes GPUs where the cluster has any.
        refine: see :func:`scribbleseg.predict.predict_inputs`.
        views: see :class:`~scribbleseg.predict.views.Views`.
        outputs: names of :data:`scribbleseg.predict.outputs.OUTPUTS`.
        overwrite: delete what ``out`` lists, and begin anew.
        retry_failed: try again what was left out before.
        look_again: list the inputs again, and add those that are new.
        resources: what of the cluster is taken.

    Raises:
        ClusterError: it cannot be reached, or was lost.
        ConfigError: as :func:`scribbleseg.predict.predict_inputs`, or an output that cannot be written so.
        DataError: no images, or two whose outputs would have one name.
        ModelError: the model folder is not whole.
        StorageError: outputs cannot be written.
    """
    resources = resources or Resources()
    wanted = _writable(out, outputs)
    if refine is not None:
        require_known(refine)
    model = load_model(model_folder)
    place = Place(out, f"{FOLDER}/{WRITING}")
    notes = place.below(FOLDER, WRITING)
    _refuse_inside(inputs, out)
    if place.kind(NAME) == "file":
        got = f"{NAME}, which one without it keeps"
        raise ConfigError(place, "a folder that only runs with --engine ray write to", got, "choose another --out")
    about = {"version": VERSION, "model": model_hash(model_folder), "refine": refine, "flips": views.flips}
    about |= {"scales": list(views.scales), "outputs": list(wanted), "input": inputs.partition("?")[0]}
    with alone(place, notes, NAME):
        if overwrite:
            remove_all(notes, place)
        source, head = _planned(notes, inputs, about, resources.block, look_again=look_again)
        if retry_failed:
            forget_failed(notes, head["parts"])
        job = PredictionJob(source, place, notes, tuple(wanted), refine, views, device)
        yield from run_blocks(model, job, head, resources)


def _writable(out: str, names: Iterable[str]) -> dict[str, Output]:
    """Return the outputs that can be written an input at a time and, in an object store, as one file."""
    wanted = chosen(names)
    for name, output in wanted.items():
        if type(output).finish is not Output.finish:
            do = "take it from `scribbleseg predict` without --engine, or leave it out"
            raise ConfigError(
                "--outputs", "outputs that are files of one input each", f"{name}, which is one of all inputs", do
            )
        if name == "zarr" and "://" in out:
            raise ConfigError("--outputs", "outputs of one file each, in an object store", "zarr", "ask for probabilities")
    return wanted


def _refuse_inside(inputs: str, out: str) -> None:
    one, other = (
        f"{url.partition('?')[0].rstrip('/')}/" if "://" in url else f"{Path(url).resolve()}/" for url in (inputs, out)
    )
    if one.startswith(other) or other.startswith(one):
        raise DataError(
            out, "another folder than that of the inputs, and none in it or above it", inputs, "choose another --out"
        )


def _planned(notes: Place, inputs: str, about: dict[str, Any], block: int, *, look_again: bool) -> tuple[Place, dict[str, Any]]:
    """Return the place of the inputs, and the head of the run: of one that was begun, or of a new one."""
    head = read_head(notes, about)
    source, found = list_inputs(inputs)
    if head is not None and not look_again:
        return source, head
    if head is None:
        forget(notes)  # what a run had that was killed while it listed
        head = about | {"inputs": 0, "unlisted": 0, "parts": 0, "block": block}
    reserved = {output.folder for output in OUTPUTS.values() if output.folder} | {FOLDER}
    number, parts, failed = make_plan(notes, found, head["block"], reserved, head["parts"])
    if head["inputs"] + number + len(failed) == 0:
        raise DataError(source, "images, or tar or Parquet files that hold some", "none", "check the path")
    if failed:
        notes.write(UNLISTED, to_lines(failed))
    head |= {"inputs": head["inputs"] + number, "unlisted": len(failed), "parts": head["parts"] + parts}
    write_head(notes, head)
    return source, head
