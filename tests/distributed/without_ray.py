"""A run in this process: the same listing, plan, fetching and worker, without Ray between them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from scribbleseg.distributed import run
from scribbleseg.distributed.fetch import Fetch
from scribbleseg.distributed.run import Progress
from scribbleseg.distributed.worker import Told, Worker


def in_this_process(model: Any, told: Told, head: dict[str, Any], resources: Any) -> Iterator[Progress]:
    """Do what ``run._run`` has Ray do, one block after the other."""
    progress = run.begun(told, head)
    yield progress
    fetch, worker = Fetch(told.place, told.out), Worker(model, told)
    for part in range(head["parts"]):
        for rows in fetch({"part": [part]}):
            told_now = worker(rows)
            (row,) = (dict(zip(told_now, values, strict=True)) for values in zip(*told_now.values(), strict=True))
            progress = progress.plus(row)
            yield progress
