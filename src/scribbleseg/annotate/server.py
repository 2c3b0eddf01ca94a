"""Serving a folder: one server each, an address that is printed, a stop that loses nothing."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import threading
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn
from filelock import FileLock, Timeout

from scribbleseg.annotate.app import create_app
from scribbleseg.annotate.folder import STATE
from scribbleseg.annotate.learning import Learning
from scribbleseg.annotate.project import Project
from scribbleseg.atomic import storage_error, write_text
from scribbleseg.errors import DataError, StorageError
from scribbleseg.web.listening import Server, is_loopback, listening, shown_host, told

#: The port where none is asked for; the next free one of the hundred from here is taken.
PORT = 8321


def serve(
    folder: Path,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    open_page: bool = True,
    learner: Callable[[Project], Learning] | None = None,
    say: Callable[[str], None] = told,
) -> None:
    """Serve a folder until Ctrl-C or SIGTERM.

    Args:
        folder: of pictures, or a data set.
        host: address to listen at; any but this computer's own needs a token, which is made and printed.
        port: to listen at; None for the first free one.
        open_page: whether the page is opened in a browser.
        learner: makes what learns from the strokes of the project.
        say: gets the lines that a person reads.

    Raises:
        DataError: no folder of pictures.
        StorageError: it cannot be written, or another server has it.
        ConfigError: the port is taken or the host is none of this computer's.
    """
    if not folder.is_dir():
        raise DataError(folder, "a folder of pictures or a data set", "a file" if folder.exists() else "none", "check the path")
    with only_server(folder) as listens, listening(host, port, PORT) as listener:
        project = Project(folder, say)
        learns = learner(project) if learner is not None else None
        taken = int(listener.getsockname()[1])
        token = "" if is_loopback(host) else secrets.token_urlsafe(24)
        address = f"http://{shown_host(host)}:{taken}/"
        listens(address)
        app = create_app(project, learns, token=token, hosts=(shown_host(host).lower(),))
        full = f"{address}?token={token}" if token else address
        say(f"{project.spec.name}: {len(project.images())} images, {folder}\npage: {full}\nstop with Ctrl-C")
        if port is None and taken != PORT:
            say(f"(port {PORT} is taken)")
        config = uvicorn.Config(
            app, log_level="warning", lifespan="on", timeout_graceful_shutdown=5, server_header=False, date_header=False
        )
        if open_page:
            threading.Timer(0.5, webbrowser.open, (full,)).start()
        server = Server(config)
        with contextlib.suppress(KeyboardInterrupt):  # of the instant before it listens for signals
            server.run(sockets=[listener])
        if not server.started:
            if learns is not None:
                learns.close()
            project.close()
        say("stopped; everything is saved")


@contextlib.contextmanager
def only_server(folder: Path) -> Iterator[Callable[[str], None]]:
    """Hold a folder's lock; yields what notes the address for a second server to tell.

    The operating system lets go of it when the process ends, however it ends.

    Raises:
        StorageError: another server holds it, or the folder cannot be written.
    """
    state = folder / STATE
    note = state / "server.json"
    try:
        state.mkdir(exist_ok=True)
        lock = FileLock(state / "server.lock")
        lock.acquire(timeout=0)
    except Timeout:
        where = _noted(note)
        got = f"one at {where}" if where else "one that runs already"
        raise StorageError(folder, "no other server for this folder", got, "use that one, or stop it") from None
    except OSError as error:
        raise storage_error(error, folder) from None
    try:
        yield lambda address: write_text(note, json.dumps({"pid": os.getpid(), "address": address}) + "\n")
    finally:
        note.unlink(missing_ok=True)
        lock.release()


def _noted(note: Path) -> str:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        told = json.loads(note.read_text(encoding="utf-8"))
        return f"{told['address']} (process {told['pid']})"
    return ""
