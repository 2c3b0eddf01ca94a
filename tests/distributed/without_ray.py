"""A run in this process: the same listing, plan, fetching and worker, without Ray between them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from scribbleseg.distributed.engine import Progress, begun
from scribbleseg.distributed.fetch import Fetch
from scribbleseg.distributed.job import Job
from scribbleseg.distributed.worker import Worker


def in_this_process(model: Any, job: Job, head: dict[str, Any], resources: Any) -> Iterator[Progress]:
    """Do what ``engine.run_blocks`` has Ray do, one block after the other."""
    progress = begun(job.notes, head)
    yield progress
    fetch, worker = Fetch(job.place, job.notes), Worker(model, job)
    for part in range(head["parts"]):
        for rows in fetch({"part": [part]}):
            told_now = worker(rows)
            (row,) = (dict(zip(told_now, values, strict=True)) for values in zip(*told_now.values(), strict=True))
            progress = progress.plus(row)
            yield progress
