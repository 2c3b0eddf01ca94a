"""Signals that say stop: noted, obeyed later, given back."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from scribbleseg import stopping
from scribbleseg.stopping import StopRequest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no signals")


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """The handlers are those of before when a block is left."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        assert signal.getsignal(number) is handler


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noted(number: int, capfd: pytest.CaptureFixture[str]) -> None:
    with StopRequest(interrupts=True) as request:
        assert not request.came
        send(number)
        assert request.came
        assert request.interrupted == (number == signal.SIGINT)
    assert ("Ctrl-C again stops at once" in capfd.readouterr().err) == (number == signal.SIGINT)


def test_a_second_ctrl_c_interrupts(monkeypatch: pytest.MonkeyPatch) -> None:
    with StopRequest(interrupts=True) as request:
        send(signal.SIGINT)
        send(signal.SIGINT)  # at once: a parent passes on what the terminal sends to all
        assert request.came
        monkeypatch.setattr(stopping, "SAME_S", -1.0)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_ctrl_c_interrupts_who_did_not_ask_for_it() -> None:
    with StopRequest() as request, pytest.raises(KeyboardInterrupt):
        send(signal.SIGINT)
    assert not request.came


def test_who_ignores_ctrl_c_goes_on_ignoring_it() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopRequest(interrupts=True) as request:
            send(signal.SIGINT)
            assert not request.came
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
