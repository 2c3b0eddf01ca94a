"""Prediction of millions of files on a Ray cluster: list them once, hand blocks to workers, note what is done."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from scribbleseg import errors
from scribbleseg.distributed.cluster import connected, num_workers, told_plainly
from scribbleseg.distributed.fetch import Fetch
from scribbleseg.distributed.inputs import list_inputs
from scribbleseg.distributed.ledger import (
    FOLDER,
    HEAD,
    UNLISTED,
    VERSION,
    forget,
    forget_failed,
    lines,
    read_head,
    remove_all,
    to_lines,
)
from scribbleseg.distributed.place import Place
from scribbleseg.distributed.plan import make_plan
from scribbleseg.distributed.worker import Told, Worker
from scribbleseg.errors import ConfigError, DataError
from scribbleseg.models.folder import load_model
from scribbleseg.predict.manifest import NAME, model_hash
from scribbleseg.predict.outputs import OUTPUTS, USUAL, chosen
from scribbleseg.predict.outputs.output import Output
from scribbleseg.predict.views import ONCE, Views
from scribbleseg.refine import require_known

#: Inputs that a worker does, and notes, together: what a kill can cost it.
BLOCK = 64


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        inputs: all of them.
        done: now.
        kept: done by earlier runs.
        failed: left out, now or earlier.
        reasons: why, of some of those left out now.
        worker: that was the last to finish a block.
        at_s: when it did, in seconds since 1970.
    """

    inputs: int
    done: int = 0
    kept: int = 0
    failed: int = 0
    reasons: tuple[dict[str, Any], ...] = ()
    worker: str = ""
    at_s: float = 0.0

    def plus(self, row: dict[str, Any]) -> Progress:
        """Return what is known after a worker's row.

        Raises:
            ScribblesegError: the worker had to stop.
        """
        if row["stopped"]:
            kind, *said = json.loads(str(row["stopped"]))
            raise getattr(errors, kind)(*said)
        sums = {key: getattr(self, key) + int(row[key]) for key in ("done", "kept", "failed")}
        reasons = tuple(json.loads(str(row["reasons"])))
        return Progress(self.inputs, **sums, reasons=reasons, worker=str(row["worker"]), at_s=float(row["at_s"]))


@dataclass(frozen=True)
class Resources:
    """What a run takes of a cluster.

    Attributes:
        address: of the cluster, ``auto`` for the one that this machine is of; None begins one on this machine.
        workers: that hold the model; 0 for one a GPU or, where there is none, one a core.
        cpus: cores of each worker.
        block: inputs that a worker does together.
        started: what ``ray.init`` is told besides, where it begins a cluster.
    """

    address: str | None = None
    workers: int = 0
    cpus: float = 1.0
    block: int = BLOCK
    started: dict[str, Any] = field(default_factory=dict)


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
    place = Place(out, f"{FOLDER}/writing")
    _refuse_inside(inputs, out)
    about = {"version": VERSION, "model": model_hash(model_folder), "refine": refine, "flips": views.flips}
    about |= {"scales": list(views.scales), "outputs": list(wanted), "input": inputs.partition("?")[0]}
    with _alone(place):
        source, head = _planned(place, inputs, about, resources.block, overwrite=overwrite)
        if retry_failed:
            forget_failed(place, head["parts"])
        told = Told(source, place, tuple(wanted), refine, views, device)
        yield from _run(model, told, head, resources)


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


@contextlib.contextmanager
def _alone(out: Place) -> Iterator[None]:
    """Keep other runs out of a folder on a disk. In an object store two runs do the same work twice, and no harm."""
    if out.kind(NAME) == "file":
        got = f"{NAME}, which one without it keeps"
        raise ConfigError(out, "a folder that only runs with --engine ray write to", got, "choose another --out")
    if out.local is None:
        yield
        return
    out.make()
    lock = FileLock(out.local / f".{NAME}.lock", blocking=False)
    try:
        lock.acquire()
    except Timeout:
        do = "wait for it, or choose another --out"
        raise ConfigError(out, "a folder that no other run writes to", "another `scribbleseg predict`", do) from None
    try:
        out.delete(f"{FOLDER}/writing")  # what a killed run had begun
        yield
    finally:
        lock.release()


def _planned(out: Place, inputs: str, about: dict[str, Any], block: int, *, overwrite: bool) -> tuple[Place, dict[str, Any]]:
    """Return the place of the inputs, and the head of the run: of one that was begun, or of a new one."""
    if overwrite and (old := read_head(out, {})) is not None:
        remove_all(out, old["parts"])
    head = read_head(out, about)
    source, found = list_inputs(inputs)
    if head is None:
        forget(out)  # what a run had that was killed while it listed
        reserved = {output.folder for output in OUTPUTS.values() if output.folder} | {FOLDER}
        number, parts, failed = make_plan(out, found, block, reserved)
        if number + len(failed) == 0:
            raise DataError(source, "images, or tar or Parquet files that hold some", "none", "check the path")
        if failed:
            out.write(UNLISTED, to_lines(failed))
        head = about | {"inputs": number, "unlisted": len(failed), "parts": parts, "block": block}
        out.write(HEAD, (json.dumps(head, ensure_ascii=False, indent=1) + "\n").encode())
    return source, head


def begun(told: Told, head: dict[str, Any]) -> Progress:
    """Return what is known before any block is done."""
    unlisted = [json.loads(line) for line in lines(told.out.read(UNLISTED))] if head.get("unlisted") else []
    return Progress(head["inputs"] + len(unlisted), failed=len(unlisted), reasons=tuple(unlisted[:20]))


def _run(model: Any, told: Told, head: dict[str, Any], resources: Resources) -> Iterator[Progress]:
    """Run what is left on the cluster."""
    progress = begun(told, head)
    yield progress
    if not head["inputs"]:
        return
    with told_plainly(), connected(resources.address, resources.started) as ray:
        number, gpus = num_workers(ray, resources.workers, resources.cpus, told.device)
        number = min(number, -(-head["inputs"] // head["block"]))
        data = ray.data
        context = data.DataContext.get_current().copy()
        context.target_max_block_size = 1  # a row is handed on as soon as it is there
        context.enable_progress_bars = False
        context.execution_options.preserve_order = False
        with data.DataContext.current(context):
            parts = data.from_items([{"part": part} for part in range(head["parts"])])
            blocks = parts.map_batches(
                Fetch(told.place, told.out),
                batch_size=1,
                num_cpus=0,  # they wait, most of the time
                compute=data.TaskPoolStrategy(size=min(max(1, number // 4), head["parts"])),
            )
            rows = blocks.map_batches(
                Worker,
                fn_constructor_kwargs={"model": ray.put(model), "told": told},
                batch_size=1,
                batch_format="pyarrow",
                compute=data.ActorPoolStrategy(size=number),
                num_cpus=resources.cpus,
                num_gpus=gpus,
            )
            for row in rows.iter_rows():
                progress = progress.plus(row)
                yield progress
