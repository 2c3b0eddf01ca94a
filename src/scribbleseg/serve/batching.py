"""One thread that owns the model: windows of equal size, of one picture or of several, go through it together."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError

import numpy as np

from scribbleseg.serve.admission import BusyError
from scribbleseg.serve.engine import Engine
from scribbleseg.serve.windows import Plan, plan

#: Pixels of the windows that go through the network together, however many windows that are.
BATCH_PIXELS = 2**22

_told = logging.getLogger("scribbleseg.serve")


class Job:
    """One picture on its way to its probabilities.

    Args:
        rgb: float32 (H, W, 3) in [0, 1].
        until: moment of ``time.monotonic`` after which nobody waits for it.
    """

    def __init__(self, rgb: np.ndarray, until: float) -> None:
        self.size = (rgb.shape[0], rgb.shape[1])
        self.until = until
        self.future: Future[np.ndarray] = Future()
        self.seconds = 0.0
        self._given: np.ndarray | None = rgb
        self._plan: Plan | None = None
        self._next = self._done = 0
        self._weight = self._total = self._mass = np.zeros(0, np.float32)

    @property
    def dropped(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.future.done() or time.monotonic() > self.until

    @property
    def remaining(self) -> int:
        """Windows that have yet to be cut."""
        return len(self._plan.places) - self._next if self._plan is not None else 1

    def shape(self, engine: Engine) -> tuple[int, int]:
        """Return the size of its windows; the picture is brought to what they are cut from when first asked."""
        if self._plan is None:
            assert self._given is not None
            self._given = engine.begin(self._given)
            self._plan = plan(self._given.shape[0], self._given.shape[1], engine.window_px)
        return self._plan.shape

    def cut(self, number: int) -> list[np.ndarray]:
        """Return its next windows."""
        assert self._plan is not None
        assert self._given is not None
        high, wide = self._plan.shape
        places = self._plan.places[self._next : self._next + number]
        self._next += len(places)
        return [self._given[top : top + high, left : left + wide] for top, left in places]

    def add(self, probs: np.ndarray, engine: Engine) -> None:
        """Take the probabilities of the windows that were cut, in their order; the last ones make the answer."""
        assert self._plan is not None
        assert self._given is not None
        if len(self._plan.places) == 1:
            self._finish(engine.end(probs[0], self.size))
            return
        if not self._total.size:
            size = self._given.shape[:2]
            self._weight = self._plan.weight
            self._total, self._mass = np.zeros((probs.shape[1], *size), np.float32), np.zeros(size, np.float32)
        high, wide = self._plan.shape
        for part in probs:
            top, left = self._plan.places[self._done]
            self._total[:, top : top + high, left : left + wide] += part * self._weight
            self._mass[top : top + high, left : left + wide] += self._weight
            self._done += 1
        if self._done == len(self._plan.places):
            self._total /= self._mass
            self._finish(engine.end(self._total, self.size))

    def _finish(self, probs: np.ndarray) -> None:
        self._given = None
        self._total = self._mass = np.zeros(0, np.float32)
        with contextlib.suppress(InvalidStateError):  # given up in this moment
            self.future.set_result(probs)

    def fail(self, error: Exception) -> None:
        """Tell whoever waits that there will be no answer."""
        with contextlib.suppress(InvalidStateError):
            self.future.set_exception(error)


class Batcher:
    """Runs jobs in the order in which they come.

    Args:
        engine: the model.
        max_batch: windows that go through the network together.
        wait_s: for how long a batch that is not full waits for windows of further pictures.
        coming: says how many pictures are about to be given, so that nobody waits for nothing.
        ran: is told of every batch: its windows, and how long it took in seconds.
    """

    def __init__(
        self,
        engine: Engine,
        max_batch: int = 8,
        wait_s: float = 0.005,
        coming: Callable[[], int] = lambda: 0,
        ran: Callable[[int, float], None] = lambda windows, seconds: None,
    ) -> None:
        self._engine, self._max_batch, self._wait_s, self._coming, self._ran = engine, max_batch, wait_s, coming, ran
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def alive(self) -> bool:
        """Whether it takes jobs and works on them."""
        return self._thread.is_alive() and not self._closed

    def submit(self, job: Job) -> None:
        """Queue a picture.

        Raises:
            BusyError: the server stops.
        """
        with self._changed:
            if self._closed:
                raise stopping()
            self._jobs.append(job)
            self._changed.notify()

    def close(self, seconds: float = 1.0) -> None:
        """Fail what has not been done, and wait for the batch that runs."""
        with self._changed:
            self._closed = True
            for job in self._jobs:
                job.fail(stopping())
            self._jobs.clear()
            self._changed.notify()
        self._thread.join(seconds)

    def _work(self) -> None:
        while (batch := self._gathered()) is not None:
            begun = time.perf_counter()
            windows = [window for _, cut in batch for window in cut]
            try:
                probs = self._engine.run(np.stack(windows))
                first = 0
                for job, cut in batch:
                    job.add(probs[first : first + len(cut)], self._engine)
                    first += len(cut)
            except Exception as error:  # of the network or its device: these pictures fail, the next may not
                _told.error("a batch failed", exc_info=error)
                for job, _ in batch:
                    job.fail(error)
            took = time.perf_counter() - begun
            for job, cut in batch:
                job.seconds += took * len(cut) / len(windows)
            self._ran(len(windows), took)

    def _gathered(self) -> list[tuple[Job, list[np.ndarray]]] | None:
        """Return the windows of the next batch and whose they are; None when the server stops."""
        waited_until: float | None = None
        while True:
            with self._changed:
                while not self._closed and not self._alive_jobs():
                    self._changed.wait()
                if self._closed:
                    return None
                jobs = list(self._jobs)
            shape = self._shape(jobs[0])
            if shape is None:
                continue
            room = max(1, min(self._max_batch, BATCH_PIXELS // (shape[0] * shape[1])))
            alike = self._alike(jobs, shape, room)
            if sum(job.remaining for job in alike) < room and self._coming() > len(jobs):
                now = time.monotonic()
                waited_until = waited_until or now + self._wait_s
                if now < waited_until:
                    with self._changed:
                        self._changed.wait(waited_until - now)
                    continue
            return self._cut(alike, room)

    def _alive_jobs(self) -> bool:
        self._jobs = deque(job for job in self._jobs if job.remaining and not job.dropped)
        return bool(self._jobs)

    def _shape(self, job: Job) -> tuple[int, int] | None:
        try:
            return job.shape(self._engine)
        except Exception as error:
            _told.error("a picture could not be prepared", exc_info=error)
            job.fail(error)
            return None

    def _alike(self, jobs: list[Job], shape: tuple[int, int], room: int) -> list[Job]:
        """Return the first jobs whose windows have this shape, as many as a batch has room for."""
        found: list[Job] = []
        for job in jobs:
            if room > 0 and not job.dropped and self._shape(job) == shape:
                found.append(job)
                room -= job.remaining
        return found

    def _cut(self, jobs: list[Job], room: int) -> list[tuple[Job, list[np.ndarray]]]:
        batch = []
        for job in jobs:
            cut = job.cut(room)
            room -= len(cut)
            batch.append((job, cut))
            if room <= 0:
                break
        return batch


def stopping() -> BusyError:
    """Return what is told to who asked too late."""
    return BusyError("server", "time to answer", "a server that stops", "send it again", retry_s=5)
