"""The processes that load data, watched: one that hangs or dies is told with what it was at."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, get_worker_info
from torch.utils.data._utils import signal_handling

from scribbleseg.errors import DataError

#: Seconds between two looks at workers from which nothing comes.
LOOK_S = 5.0


class Desk:
    """What each worker is at, in memory that all processes see.

    Args:
        num_workers: without any, nothing is noted.
    """

    def __init__(self, num_workers: int) -> None:
        self._at = torch.full((num_workers,), -1, dtype=torch.int64)
        self._at.share_memory_()  # type: ignore[no-untyped-call]

    def note(self, index: int) -> None:
        """Say, in a worker, which image it begins; -1 when it has none."""
        worker = get_worker_info()
        if worker is not None:
            self._at[worker.id] = index

    def image_of(self, worker: int) -> int:
        """Return which image a worker is at; -1 if it has none."""
        return int(self._at[worker])


def begin_worker(worker: int) -> None:
    """Take one thread, and leave it to the training process what a signal means that says stop: every process may get it."""
    torch.set_num_threads(1)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


class WatchedLoader(DataLoader[Any]):
    """A loader whose workers' failures say which image was being read. Its data set has ``stems``, ``dataset`` and ``desk``.

    Args:
        patience_s: seconds without a batch after which a worker counts as hanging; 0 waits for ever. Without workers nothing
            is watched: reading is then in the training process itself.
        more: of torch's loader.
    """

    def __init__(self, *words: Any, patience_s: float, **more: Any) -> None:
        looks = min(LOOK_S, patience_s or LOOK_S) if more.get("num_workers") else 0
        super().__init__(*words, timeout=looks, **more)
        self._patience_s = patience_s

    def __iter__(self) -> Any:
        """Return the batches."""
        batches = super().__iter__()
        return self._watched(batches) if self.num_workers else batches

    def _watched(self, batches: Any) -> Iterator[Any]:
        waited_s = 0.0
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except RuntimeError as error:
                reason = str(error).splitlines()[0]
                late = "timed out" in reason
                if not late and "exited unexpectedly" not in reason and "killed by signal" not in reason:
                    raise
                waited_s += self.timeout
                if late and not 0 < self._patience_s <= waited_s:
                    continue
                at = [self._image(n) for n in range(self.num_workers)]
                _end(batches)
                raise self._told(reason, [image for image in at if image], late) from None
            waited_s = 0.0
            yield batch

    def _image(self, worker: int) -> str:
        samples: Any = self.dataset
        index = samples.desk.image_of(worker)
        return str(samples.dataset.image_path(samples.stems[index])) if index >= 0 else ""

    def _told(self, reason: str, images: list[str], late: bool) -> DataError:
        where = ", ".join(images) or "a process that loads data"
        if late:
            do = (
                "open the file, look at the disk or network it is on; then --resume, with a longer data.timeout_s if it is slow"
            )
            return DataError(where, f"an image that is read within {self._patience_s:g} s", "a process that hangs", do)
        do = "if memory ran out, lower data.num_workers; then --resume"
        return DataError(where, "processes that load data until the end", reason, do)


def _end(batches: Any) -> None:
    """Kill the workers: those that hang do not listen to less.

    Torch is told first to watch them no longer: at a death it raises, in whatever the program does by then.
    """
    handling: Any = signal_handling
    handling._remove_worker_pids(id(batches))
    batches._worker_pids_set = False
    for worker in batches._workers:
        worker.kill()
        worker.join()
