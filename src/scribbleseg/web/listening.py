"""Where a server listens and how it stops."""

from __future__ import annotations

import contextlib
import ipaddress
import signal
import socket
from collections.abc import Iterator

import uvicorn

from scribbleseg.errors import ConfigError


class Server(uvicorn.Server):
    """A server whose process goes on when Ctrl-C or SIGTERM has stopped it: uvicorn's own raises the signal again."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop gracefully at the first signal, at once at the second."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def told(line: str) -> None:
    """Print at once, even where the output is a file."""
    print(line, flush=True)


@contextlib.contextmanager
def listening(host: str, port: int | None, first: int) -> Iterator[socket.socket]:
    """Listen at an address.

    Args:
        host: name or address.
        port: number; None for the first free one of a hundred.
        first: of that hundred.

    Raises:
        ConfigError: it is taken, or not this computer's.
    """
    failed: OSError | None = None
    for number in range(first, first + 100) if port is None else (port,):
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            listener = socket.create_server((host, number), family=family, backlog=256)
        except OSError as error:
            failed = error
            continue
        except OverflowError:
            break
        with listener:
            yield listener
        return
    reason = (failed.strerror or str(failed)) if failed is not None else "no such port"
    place = f"{host}:{first if port is None else port}"
    raise ConfigError("--host and --port", "a free port of this computer", f"{place}: {reason}", "choose another port")


def is_loopback(host: str) -> bool:
    """Say whether only this computer reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def shown_host(host: str) -> str:
    """Return the name under which a browser finds the server."""
    if host in ("0.0.0.0", "::"):
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host
