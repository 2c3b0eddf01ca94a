"""A run: blocks of the plan that are left are handed to workers of a Ray cluster, and it is told how far this is."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from filelock import FileLock, Timeout

from scribbleseg import errors
from scribbleseg.distributed.cluster import connected, num_workers, told_plainly
from scribbleseg.distributed.fetch import Fetch
from scribbleseg.distributed.job import Job
from scribbleseg.distributed.ledger import UNLISTED, WRITING, lines
from scribbleseg.distributed.place import Place
from scribbleseg.distributed.worker import Worker
from scribbleseg.errors import ConfigError

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


@contextlib.contextmanager
def alone(out: Place, notes: Place, name: str) -> Iterator[None]:
    """Keep other runs out of a folder on a disk. In an object store two runs do the same work twice, and no harm.

    Args:
        out: the folder.
        notes: place of the ledger, in it.
        name: of what is made there, and so of its lock.

    Raises:
        ConfigError: another one is there.
        StorageError: the folder cannot be made.
    """
    if out.local is None:
        yield
        return
    out.make()
    lock = FileLock(out.local / f".{name}.lock", blocking=False)
    try:
        lock.acquire()
    except Timeout:
        do = "wait for it, or choose another --out"
        raise ConfigError(out, "a folder that no other run writes to", "another run of this command", do) from None
    try:
        notes.delete(WRITING)  # what a killed run had begun
        yield
    finally:
        lock.release()


def begun(notes: Place, head: dict[str, Any]) -> Progress:
    """Return what is known before any block is done."""
    unlisted = [json.loads(line) for line in lines(notes.read(UNLISTED))] if head.get("unlisted") else []
    return Progress(head["inputs"] + len(unlisted), failed=len(unlisted), reasons=tuple(unlisted[:20]))


def run_blocks(model: Any, job: Job, head: dict[str, Any], resources: Resources) -> Iterator[Progress]:
    """Run what is left on the cluster.

    Args:
        model: what each worker begins the job with; from here it goes to the other machines.
        job: what is done with the inputs.
        head: of the ledger.
        resources: what of the cluster is taken.

    Raises:
        ClusterError: it cannot be reached, or was lost.
    """
    progress = begun(job.notes, head)
    yield progress
    if not head["inputs"]:
        return
    with told_plainly(), connected(resources.address, resources.started) as ray:
        number, gpus = num_workers(ray, resources.workers, resources.cpus, job.device)
        number = min(number, -(-head["inputs"] // head["block"]))
        data = ray.data
        context = data.DataContext.get_current().copy()
        context.target_max_block_size = 1  # a row is handed on as soon as it is there
        context.enable_progress_bars = False
        context.execution_options.preserve_order = False
        with data.DataContext.current(context):
            parts = data.from_items([{"part": part} for part in range(head["parts"])])
            blocks = parts.map_batches(
                Fetch(job.place, job.notes),
                batch_size=1,
                num_cpus=0,  # they wait, most of the time
                compute=data.TaskPoolStrategy(size=min(max(1, number // 4), head["parts"])),
            )
            rows = blocks.map_batches(
                Worker,
                fn_constructor_kwargs={"model": ray.put(model), "job": job},
                batch_size=1,
                batch_format="pyarrow",
                compute=data.ActorPoolStrategy(size=number),
                num_cpus=resources.cpus,
                num_gpus=gpus,
            )
            for row in rows.iter_rows():
                progress = progress.plus(row)
                yield progress
