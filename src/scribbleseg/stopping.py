"""SIGTERM, by which schedulers and ``docker stop`` end a program, and Ctrl-C: noted when it comes, obeyed between two steps."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

#: What a run was told to stop is said not to have done.
TOLD = "to run to the last step"

#: A further Ctrl-C that comes sooner is the same one: a terminal sends it to every process, and their parents may pass it on.
SAME_S = 1.0


class StopRequest:
    """Notes SIGTERM for as long as its block lasts. Only the main thread can listen; in another one nothing is noted.

    Args:
        interrupts: also note Ctrl-C, unless the program was started to ignore it. A second one interrupts as ever.

    Attributes:
        came: whether a signal has come.
        interrupted: whether that was Ctrl-C.
    """

    def __init__(self, *, interrupts: bool = False) -> None:
        self.came = self.interrupted = False
        self._numbers = [signal.SIGTERM, *([signal.SIGINT] if interrupts else [])]
        self._before: dict[int, Any] = {}
        self._since = 0.0

    def __enter__(self) -> StopRequest:
        self._before = {number: signal.getsignal(number) for number in self._numbers}
        if self._before.get(signal.SIGINT) is signal.SIG_IGN:
            self._numbers.remove(signal.SIGINT)
        self.listen()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number in self._numbers if _in_main_thread() else ():
            signal.signal(number, self._before[number] or signal.SIG_DFL)

    def listen(self) -> None:
        """Take the signals over, from whoever took them over in the meantime."""
        for number in self._numbers if _in_main_thread() else ():
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.came:
            if time.monotonic() - self._since > SAME_S:
                raise KeyboardInterrupt
            return
        self.came, self.interrupted, self._since = True, number == signal.SIGINT, time.monotonic()
        if self.interrupted:
            with contextlib.suppress(OSError):  # not print: what it would interrupt may be printing
                os.write(2, b"\nscribbleseg: stopping after this step; Ctrl-C again stops at once\n")


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
