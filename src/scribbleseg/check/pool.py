"""Scanning by several processes: a bounded number of tasks ahead, records in the order of the stems, no image ever sent.

A file that takes its process down (a decoder crashes, memory runs out) costs that file's record, not the scan.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache, partial

from scribbleseg.check.scan import Fault, Record, scan_many, scan_one
from scribbleseg.data.folder import Dataset

#: Images of a task: enough to hide what sending it costs, few enough to stop soon.
CHUNK = 16

#: Tasks a process that wait or are done but not yet fetched.
AHEAD = 4

#: Larger images are looked at one after the other, so that memory is bounded by one of them and not by one a process.
SIDE_BY_SIDE_PIXELS = 4096**2


def default_jobs() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def scan_all(dataset: Dataset, stems: Sequence[str], *, jobs: int, quick: bool) -> Generator[Record]:
    """Yield the record of every stem, in their order whatever the number of processes.

    Args:
        dataset: where the files are.
        stems: of the images.
        jobs: processes; 1 scans in this one.
        quick: do not decode pixels of images.
    """
    if jobs <= 1:
        for stem in stems:
            yield scan_one(dataset, stem, quick=quick)
        return
    task = partial(_scan, pickle.dumps(dataset), quick=quick)
    chunks = deque(tuple(stems[n : n + CHUNK]) for n in range(0, len(stems), CHUNK))
    for records in _in_order(task, chunks, min(jobs, len(chunks)) or 1):
        for record in records:
            yield _alone(dataset, record.stem, quick) if record.postponed else record


def _scan(packed: bytes, stems: Sequence[str], *, quick: bool) -> list[Record]:
    """Scan some images in a worker process."""
    return scan_many(_unpacked(packed), stems, quick=quick, most_pixels=SIDE_BY_SIDE_PIXELS)


@lru_cache(maxsize=1)
def _unpacked(packed: bytes) -> Dataset:
    """Return the data set, the same one for every task: a new one would list its folders anew, all names for 16 images."""
    dataset: Dataset = pickle.loads(packed)  # which this program has packed
    return dataset


def _in_order(task: partial[list[Record]], chunks: deque[tuple[str, ...]], jobs: int) -> Iterator[list[Record]]:
    """Yield what the task returns for each chunk; what a dead process left is done again, the first chunk stem by stem."""
    waiting: deque[tuple[tuple[str, ...], Future[list[Record]]]] = deque()
    pool = _pool(jobs)
    try:
        while chunks or waiting:
            try:
                while chunks and len(waiting) < AHEAD * jobs:
                    waiting.append((chunks[0], pool.submit(task, chunks[0])))
                    chunks.popleft()
                records = waiting[0][1].result()
                waiting.popleft()
            except BrokenProcessPool:
                pool.shutdown(cancel_futures=True)
                chunks.extendleft(chunk for chunk, _ in reversed(waiting))
                waiting.clear()
                records = [Record(stem, postponed=True) for stem in chunks.popleft()]
                pool = _pool(jobs)
            yield records
    finally:
        pool.shutdown(cancel_futures=True)


def _pool(jobs: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(jobs, multiprocessing.get_context(), initializer=_leave_interrupts_to_the_parent)


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _alone(dataset: Dataset, stem: str, quick: bool) -> Record:
    """Scan one image in a process of its own, that it may take down."""
    with _pool(1) as pool:
        try:
            return pool.submit(scan_one, dataset, stem, quick=quick).result()
        except BrokenProcessPool:
            files = f"{dataset.spec.images}/{stem} or its labels"
            got = "the process that read it died: the decoder crashed or memory ran out"
            return Record(stem, fault=Fault("crash", files, "files that can be read", got, "re-export or remove the file"))
