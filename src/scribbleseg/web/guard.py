"""Who may speak to a server of ours: programs of this computer or with the token, no other page's script; bounded bodies."""

from __future__ import annotations

import re
from collections.abc import Set

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import Message, Receive

#: Sent with every answer, beside a content security policy.
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?\Z")

_LOOPBACK = {"127.0.0.1", "localhost", "[::1]"}


class TooLongError(Exception):
    """A body of more bytes than is allowed."""


def stranger(headers: Headers, hosts: Set[str] | None, do: str, *, may_follow: bool = False) -> JSONResponse | None:
    """Return the refusal of a request that another page's script may have sent, or of one without an honest length.

    Args:
        headers: of the request.
        hosts: names besides this computer's own that it may be addressed to; None for any, where there is a token: a
            stranger's name that points here is no use without it.
        do: what the user can do about it.
        may_follow: whether another page may link here.
    """
    given = headers.getlist("host")
    found = _HOST.match(given[0]) if len(given) == 1 else None
    if found is None or not (hosts is None or found[1].lower() in _LOOPBACK | hosts):
        return refused(403, "host", "the address that the server printed", ascii(headers.get("host", "none"))[:100], do)
    origin = headers.get("origin")
    if origin is not None and origin.lower() not in (f"http://{given[0]}".lower(), f"https://{given[0]}".lower()):
        return refused(403, "origin", "a request of the page itself", ascii(origin)[:100], do)
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not may_follow:
        return refused(403, "origin", "a request of the page itself", "one of another page", do)
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit() and len(length) < 16):
        return refused(400, "body", "its length in bytes", "something else", do)
    return None


def counted(receive: Receive, limit: int) -> Receive:
    """Return what receives a body, and raises ``TooLongError`` once it has more bytes than ``limit``."""
    taken = 0

    async def limited() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > limit:
            raise TooLongError
        return message

    return limited


def refused(status: int, where: str, expected: str, got: str, do: str) -> JSONResponse:
    """Return an error in the form that all of them have."""
    return JSONResponse({"where": where, "expected": expected, "got": got, "do": do}, status)
