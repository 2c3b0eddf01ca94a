"""What threads hand to each other: a short queue with an end, that passes errors on and can be given up from either side."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

#: How often a waiting side looks whether the other has given up, in seconds.
_LOOK_S = 0.1


class GivenUp(Exception):
    """The other side takes no more."""


class Channel(Generic[T]):
    """A queue of at most ``size`` things from one thread to another."""

    def __init__(self, size: int) -> None:
        self._queue: queue.Queue[T | BaseException | None] = queue.Queue(size)
        self._given_up = threading.Event()

    def put(self, item: T) -> None:
        """Hand a thing over, and wait while the queue is full.

        Raises:
            GivenUp: the other side has left.
        """
        self._put(item)

    def close(self, error: BaseException | None = None) -> None:
        """End the queue, with an error that the other side then raises."""
        try:
            self._put(error)
        except GivenUp:
            return

    def give_up(self) -> None:
        """Say that nothing more is taken; who waits to put is freed."""
        self._given_up.set()

    def __iter__(self) -> Iterator[T]:
        """Yield things until the end, and raise the error it ended with."""
        while True:
            item = self._queue.get()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item

    def _put(self, item: T | BaseException | None) -> None:
        while not self._given_up.is_set():
            try:
                self._queue.put(item, timeout=_LOOK_S)
            except queue.Full:
                continue
            return
        raise GivenUp
