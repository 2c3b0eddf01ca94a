"""How much the server takes on at a time. What does not fit is refused at once, so that what was taken is answered."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

from scribbleseg.errors import ScribblesegError


class BusyError(ScribblesegError):
    """There is no room for a request now; ``retry_s`` says when to ask again, in seconds."""

    def __init__(self, where: object, expected: str, got: str, do: str, retry_s: int = 1) -> None:
        super().__init__(where, expected, got, do)
        self.retry_s = retry_s


@dataclass(frozen=True)
class Limits:
    """What a request may be, and how many there may be.

    Attributes:
        max_bytes: of a body.
        max_pixels: of a picture; four channels count as one pixel.
        max_requests: in hand, from the first byte read to the last byte made.
        max_batch: windows that go through the network together.
        wait_s: for how long a batch waits for windows of other pictures.
        timeout_s: from a request's arrival to its answer.
    """

    max_bytes: int = 32 * 2**20
    max_pixels: int = 2**24
    max_requests: int = 64
    max_batch: int = 8
    wait_s: float = 0.005
    timeout_s: float = 30.0

    @property
    def held_bytes(self) -> int:
        """Bytes of all bodies in hand."""
        return 8 * self.max_bytes

    @property
    def held_pixels(self) -> int:
        """Pixels of all decoded pictures in hand."""
        return 2 * self.max_pixels


class Admission:
    """Counts what is in hand. It belongs to the event loop's thread; nothing else calls it."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.requests = self.bytes = self.pixels = 0
        self._seconds_a_pixel = 0.0

    def learn(self, pixels: int, seconds: float) -> None:
        """Take note of how long a picture kept the model, in seconds."""
        pace = seconds / max(1, pixels)
        self._seconds_a_pixel = 0.8 * self._seconds_a_pixel + 0.2 * pace if self._seconds_a_pixel else pace

    @property
    def wait_s(self) -> float:
        """How long the model has to do, with the pictures in hand."""
        return self.pixels * self._seconds_a_pixel

    @contextlib.contextmanager
    def request(self, num_bytes: int) -> Iterator[None]:
        """Hold room for one request.

        Raises:
            BusyError: there is none.
        """
        if self.requests >= self._limits.max_requests:
            raise self._busy(f"{self.requests} in hand")
        if self.bytes and self.bytes + num_bytes > self._limits.held_bytes:
            raise self._busy(f"bodies of {self.bytes // 2**20} MiB in hand")
        self.requests += 1
        self.bytes += num_bytes
        try:
            yield
        finally:
            self.requests -= 1
            self.bytes -= num_bytes

    @contextlib.contextmanager
    def picture(self, num_pixels: int) -> Iterator[None]:
        """Hold room for one decoded picture.

        Raises:
            BusyError: there is none, or it would not be done in time.
        """
        if self.pixels and self.pixels + num_pixels > self._limits.held_pixels:
            raise self._busy(f"pictures of {self.pixels} pixels in hand")
        if self.pixels and (self.pixels + num_pixels) * self._seconds_a_pixel > self._limits.timeout_s:
            raise self._busy(f"work for {self.wait_s:.0f} s in hand")
        self.pixels += num_pixels
        try:
            yield
        finally:
            self.pixels -= num_pixels

    def _busy(self, got: str) -> BusyError:
        retry_s = min(max(1, math.ceil(self.wait_s)), 60)
        return BusyError("server", "room for a request", got, f"send it again in {retry_s} s", retry_s)
