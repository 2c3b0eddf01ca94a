"""In front of everything: who may ask, how many bytes, which headers every answer has; and every answer is counted."""

from __future__ import annotations

import base64
import binascii
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scribbleseg.web.guard import HEADERS, counted, refused, stranger

#: Nothing runs in a browser; the page of the server shows its own style and sends its form to the server.
POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

#: What is told without the token: whether the server is there, and how it is to be asked.
OPEN = ("/", "/style.css", "/openapi.json", "/health/live", "/health/ready")


@dataclass(frozen=True)
class Gate:
    """ASGI middleware.

    Attributes:
        app: what it guards.
        token: that must be given as ``Authorization: Bearer``, or as the password of ``Basic``; empty on this computer alone.
        hosts: names besides this computer's own under which the server may be addressed.
        max_bytes: of a body.
        answered: is told of every answer: address, status, seconds.
        known: addresses that there are; others are counted as one.
    """

    app: ASGIApp
    token: str = ""
    hosts: frozenset[str] = frozenset()
    max_bytes: int = 32 * 2**20
    answered: Callable[[str, int, float], None] = lambda route, code, seconds: None
    known: frozenset[str] = frozenset()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        begun = time.perf_counter()
        status = 499  # as nginx calls it: the client left before there was an answer

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
                out = MutableHeaders(scope=message)
                for key, value in HEADERS.items():
                    out.setdefault(key, value)
                out["content-security-policy"] = POLICY
                out.setdefault("cache-control", "no-store")
            await send(message)

        refusal = self._refusal(scope, Headers(scope=scope))
        try:
            await (self.app if refusal is None else refusal)(scope, counted(receive, self.max_bytes), answer)
        finally:
            route = scope["path"] if scope["path"] in self.known else "other"
            self.answered(route, status, time.perf_counter() - begun)

    def _refusal(self, scope: Scope, headers: Headers) -> JSONResponse | None:
        hosts = None if self.token else self.hosts
        strange = stranger(headers, hosts, "ask at the address that was printed", may_follow=scope["path"] == "/")
        if strange is not None:
            return strange
        if self.token and scope["path"] not in OPEN and not self._knows(headers.get("authorization", "")):
            got = "another" if "authorization" in headers else "none"
            refusal = refused(401, "Authorization", "Bearer TOKEN", got, "send the token that was printed at the start")
            refusal.headers["www-authenticate"] = "Bearer"
            return refusal
        if int(headers.get("content-length", "0")) > self.max_bytes:
            return too_long(self.max_bytes)
        return None

    def _knows(self, given: str) -> bool:
        scheme, _, value = given.partition(" ")
        value = value.strip()
        if scheme.lower() == "basic":
            try:
                value = base64.b64decode(value, validate=True).decode().partition(":")[2]
            except (binascii.Error, UnicodeDecodeError):
                return False
        elif scheme.lower() != "bearer":
            return False
        return hmac.compare_digest(value.encode(), self.token.encode())


def too_long(max_bytes: int) -> JSONResponse:
    """Return the answer to a body of too many bytes."""
    do = "send a smaller picture, or start the server with a higher --max-mb"
    return refused(413, "body", f"at most {max_bytes // 2**20} MiB", "more", do)
