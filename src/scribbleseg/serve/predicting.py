"""From a picture's bytes to its probabilities, within the limits; what the routes and the adapters have in common."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread

from scribbleseg.serve import pictures
from scribbleseg.serve.admission import Admission, Limits
from scribbleseg.serve.batching import Batcher, Job
from scribbleseg.serve.counting import Counts
from scribbleseg.serve.engine import Engine
from scribbleseg.serve.outputs import Answer

T = TypeVar("T")

#: Threads that decode pictures and write answers, beside the one of the model.
THREADS = 2


class Predictor:
    """One model behind an address.

    Args:
        engine: the model.
        limits: see :class:`~scribbleseg.serve.admission.Limits`.
    """

    def __init__(self, engine: Engine, limits: Limits) -> None:
        self.engine, self.limits = engine, limits
        self.admission = Admission(limits)
        self.counts = Counts(self.admission)
        self.batcher = Batcher(engine, limits.max_batch, limits.wait_s, lambda: self.admission.requests, self.counts.ran)
        self._threads: anyio.CapacityLimiter | None = None

    async def beside(self, work: Callable[..., T], *arguments: object) -> T:
        """Do something in a thread that is not the model's."""
        if self._threads is None:
            self._threads = anyio.CapacityLimiter(THREADS)
        return await anyio.to_thread.run_sync(work, *arguments, limiter=self._threads)

    async def predict(self, data: bytes, until: float, write: Callable[[Answer], T]) -> T:
        """Return what ``write`` makes of a picture's probabilities.

        Args:
            data: the picture's file.
            until: moment of ``time.monotonic`` after which nobody waits.
            write: runs in a thread.

        Raises:
            BusyError: no room for it now.
            DataError: no picture that can be predicted.

        When it is cancelled, what has not begun is not begun.
        """
        reading = self.engine.reading
        upload = await self.beside(pictures.look, data, self.limits.max_pixels, reading)
        with self.admission.picture(upload.num_pixels):
            rgb = await self.beside(pictures.decode, upload, reading)
            job = Job(rgb, until)
            self.batcher.submit(job)
            probs = await asyncio.wrap_future(job.future)  # whose cancellation cancels the job's
            self.admission.learn(upload.num_pixels, job.seconds)
            self.counts.predicted(upload.num_pixels)
            return await self.beside(write, Answer(rgb, probs, self.engine.names, job.seconds))

    def until(self) -> float:
        """Return the moment of ``time.monotonic`` until which a request that comes now is waited for."""
        return time.monotonic() + self.limits.timeout_s
