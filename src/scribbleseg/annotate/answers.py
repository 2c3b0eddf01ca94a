"""From a request to an answer: work is done in threads, errors become one form, no traceback leaves the server."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from scribbleseg.annotate.project import StaleError
from scribbleseg.annotate.security import refused, too_long
from scribbleseg.errors import DataError, ScribblesegError, StorageError
from scribbleseg.web.guard import TooLongError

Work = Callable[[Request, bytes], Response]

_told = logging.getLogger("scribbleseg.annotate")


class Pool:
    """Threads for one kind of work, so that slow pictures never keep a stroke waiting."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._limiter: anyio.CapacityLimiter | None = None

    def __call__(self, work: Work) -> Callable[[Request], Awaitable[Response]]:
        """Return a route's endpoint that reads the body, does ``work`` in a thread and answers errors."""

        async def endpoint(request: Request) -> Response:
            if self._limiter is None:
                self._limiter = anyio.CapacityLimiter(self._threads)
            try:
                body = await request.body() if request.method not in ("GET", "HEAD") else b""
                return await anyio.to_thread.run_sync(work, request, body, limiter=self._limiter)
            except TooLongError:
                return too_long(request.scope["path"])
            except ClientDisconnect:
                return Response(status_code=400)  # nobody is there to read it
            except Exception as error:
                return failure(error)

        return endpoint


def failure(error: Exception) -> Response:
    """Return the answer to a request that failed; what is not the user's to mend goes to the server's own log alone."""
    if isinstance(error, ScribblesegError):
        status = 422
        if isinstance(error, StorageError):
            status = 507
        elif isinstance(error, StaleError):
            status = 412
        elif isinstance(error, DataError) and error.where == "image":
            status = 404
        return refused(status, _short(error.where), _short(error.expected), _short(error.got), _short(error.do))
    _told.error("a request failed", exc_info=error)
    return refused(500, "server", "an answer", "a failure of the program", "see the server's terminal, and report it")


def answer(tree: Any, headers: dict[str, str] | None = None) -> Response:
    """Return JSON without NaN."""
    body = json.dumps(tree, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(body, media_type="application/json", headers=headers)


def number_in(request: Request, key: str) -> int:
    """Return a whole number of the path.

    Raises:
        DataError: it is none.
    """
    text = request.path_params[key]
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise DataError("image", "a whole number", ascii(text)[:50], "use the page")
    return int(text)


def expected_version(request: Request) -> int:
    """Return the version that a page knows, from ``If-Match``.

    Raises:
        DataError: the header is missing.
    """
    text = request.headers.get("if-match", "").strip().strip('"')
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise DataError("If-Match", "the version that is to be changed", ascii(text)[:50], "load the page again")
    return int(text)


def not_there(where: str, got: str) -> JSONResponse:
    """Return the answer to a question about something that does not exist (yet)."""
    return refused(404, where, "something to show", got, "wait, or draw")


def _short(text: str) -> str:
    return text if len(text) <= 500 else f"{text[:500]}…"
