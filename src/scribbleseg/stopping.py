"""SIGTERM, by which schedulers and ``docker stop`` end a program: noted when it comes, obeyed where nothing is lost."""

from __future__ import annotations

import signal
import threading
from types import TracebackType
from typing import Any


class StopRequest:
    """Notes SIGTERM for as long as its block lasts. Only the main thread can listen; in another one nothing is noted.

    Attributes:
        came: whether the signal has come.
    """

    def __init__(self) -> None:
        self.came = False
        self._before: Any = None

    def __enter__(self) -> StopRequest:
        self._before = signal.getsignal(signal.SIGTERM)
        self.listen()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if _in_main_thread():
            signal.signal(signal.SIGTERM, self._before or signal.SIG_DFL)

    def listen(self) -> None:
        """Take the signal over, from whoever took it over in the meantime."""
        if _in_main_thread():
            signal.signal(signal.SIGTERM, self._note)

    def _note(self, *_: object) -> None:
        self.came = True


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
