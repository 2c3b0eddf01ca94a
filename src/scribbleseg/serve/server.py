"""Serving a model: an address that is printed, a stop that answers what was taken on."""

from __future__ import annotations

import os
import secrets
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import uvicorn

from scribbleseg.errors import ConfigError
from scribbleseg.serve.admission import Limits
from scribbleseg.serve.app import create_app
from scribbleseg.serve.fetching import Fetcher
from scribbleseg.serve.opening import open_engine
from scribbleseg.serve.predicting import Predictor
from scribbleseg.web.listening import Server, is_loopback, listening, shown_host, told

#: The port where none is asked for; the next free one of the hundred from here is taken.
PORT = 8421

#: Seconds in which a server that was told to stop answers what it took on; then it says 503 to who still waits, and leaves.
DRAIN_S = 6


class Draining(Server):
    """A server that stops its model too late to be rude, and early enough to say so."""

    def __init__(self, config: uvicorn.Config, predictor: Predictor) -> None:
        super().__init__(config)
        self._predictor = predictor

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop."""
        if not self.should_exit:
            last = threading.Timer(DRAIN_S, self._predictor.batcher.close)
            last.daemon = True
            last.start()
        super().handle_exit(sig, frame)


def serve(
    model: Path,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    device: str = "auto",
    threads: int = 0,
    limits: Limits | None = None,
    token_file: Path | None = None,
    fetcher: Fetcher | None = None,
    say: Callable[[str], None] = told,
) -> None:
    """Serve a model until Ctrl-C or SIGTERM.

    Args:
        model: see :func:`~scribbleseg.serve.opening.open_engine`.
        host: address to listen at; any but this computer's own needs a token, which is made and printed.
        port: to listen at; None for the first free one.
        device: see there.
        threads: of the CPU.
        limits: see :class:`~scribbleseg.serve.admission.Limits`.
        token_file: whose first line is the token; it is asked for on this computer too.
        fetcher: see :func:`~scribbleseg.serve.app.create_app`.
        say: gets the lines that a person reads.

    Raises:
        ModelError: no model there.
        ConfigError: the port is taken, the host is none of this computer's, or a file with a token holds none.
    """
    token = "" if token_file is None else read_token(token_file)
    with listening(host, port, PORT) as listener:
        engine = open_engine(model, device, threads)
        predictor = Predictor(engine, limits or Limits())
        if not token and not is_loopback(host):
            token = secrets.token_urlsafe(24)
            say(f"token: {token}")
        address = f"http://{shown_host(host)}:{listener.getsockname()[1]}/"
        app = create_app(predictor, title=model.resolve().name, token=token, hosts=(shown_host(host).lower(),), fetcher=fetcher)
        say(f"{engine.kind} on {engine.device}: {', '.join(engine.names)}\nlistening: {address}")
        if fetcher is not None:
            say(f"backend for Label Studio: {address}label-studio")
        say("stop with Ctrl-C")
        config = uvicorn.Config(
            app,
            log_level="warning",
            lifespan="on",
            timeout_graceful_shutdown=DRAIN_S + 1,
            server_header=False,
            date_header=False,
        )
        Draining(config, predictor).run(sockets=[listener])
        say("stopped")


def leave() -> None:
    """End the process, now that all has been answered.

    Taking PyTorch's modules apart takes Python seconds, on a busy machine as many as a container is given to stop in; and a
    model that still computes cannot be waited for.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def read_token(path: Path) -> str:
    """Return the token in a file's first line.

    Raises:
        ConfigError: no file, or none in it.
    """
    try:
        lines = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            path, "a file with a token", getattr(error, "strerror", None) or str(error), "check the path"
        ) from None
    if len(lines) != 1 or not lines[0].isascii():
        raise ConfigError(path, "one line with a token", f"{len(lines)} words", "write the token alone into it")
    return lines[0]
