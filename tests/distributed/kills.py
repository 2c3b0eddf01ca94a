"""A run that is killed at random between two files, and started again until it is through."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

T = TypeVar("T")


class Killed(BaseException):
    """No handler of errors catches it, as none catches a kill."""


def killed_until_done(
    monkeypatch: pytest.MonkeyPatch, run: Callable[[], T], moves: range, after: Callable[[], None] = lambda: None
) -> tuple[T, int]:
    """Return what the last run returns, and how many were killed.

    Args:
        run: what is started again and again.
        moves: of so many files moved into place, a number drawn from these a run, the last is not moved any more.
        after: called after each kill.
    """
    rng, right, left = random.Random(0), Path.replace, 0

    def replace(self: Path, target: Any) -> Path:
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed
        return right(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    for kills in range(60):
        left = rng.choice(moves)
        try:
            found = run()
        except Killed:
            after()
        else:
            left = 10**9  # whoever calls may move files
            return found, kills
    pytest.fail("killed sixty times and still not done")
