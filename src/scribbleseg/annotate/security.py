"""Who may speak to the server: its own page, from this computer or with the token, in bodies of bounded size."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scribbleseg.web import guard

#: Bytes of a request's body; of an import, which is kept on disk as it comes.
MAX_BODY, MAX_IMPORT = 32 * 2**20, 2**30

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_HEADERS = {"content-security-policy": POLICY, **guard.HEADERS}


@dataclass(frozen=True)
class Guard:
    """ASGI middleware in front of everything.

    Attributes:
        app: what it guards.
        token: that must be given, in the address once and as a cookie from then on; empty on this computer alone.
        hosts: names besides this computer's own under which the server may be addressed; any, where there is a token:
            a stranger's name that points here is no use without it.
    """

    app: ASGIApp
    token: str = ""
    hosts: frozenset[str] = frozenset()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0] if self.token else ""
        refusal = self._refusal(scope, headers, given)
        set_cookie = bool(given) and refusal is None

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                out = MutableHeaders(scope=message)
                for key, value in _HEADERS.items():
                    out[key] = value
                out.setdefault("cache-control", "no-store" if scope["path"].startswith("/api") else "no-cache")
                if set_cookie:
                    out.append("set-cookie", f"{_cookie(scope)}={self.token}; HttpOnly; SameSite=Strict; Path=/")
            await send(message)

        limit = limit_of(scope["path"])
        if refusal is None and int(headers.get("content-length", "0")) > limit:
            refusal = too_long(scope["path"])
        await (self.app if refusal is None else refusal)(scope, guard.counted(receive, limit), answer)

    def _refusal(self, scope: Scope, headers: Headers, given: str) -> JSONResponse | None:
        hosts = None if self.token else self.hosts
        strange = guard.stranger(headers, hosts, "use the page", may_follow=scope["path"] == "/")
        if strange is not None:
            return strange
        if self.token and not self._knows(scope, headers, given):
            do = "open the address that `scribbleseg annotate` printed, with its token"
            return refused(401, "token", "the token", "another" if given else "none", do)
        if scope["method"] not in ("GET", "HEAD"):
            kind = headers.get("content-type", "").partition(";")[0].strip().lower()
            wanted = "multipart/form-data" if scope["path"] == "/api/import" else "application/json"
            if kind != wanted or headers.get("x-scribbleseg") != "1":
                got = f"{kind[:50] or 'none'}, X-Scribbleseg: {headers.get('x-scribbleseg', 'none')[:20]}"
                return refused(415, "request", f"{wanted}, X-Scribbleseg: 1", ascii(got)[1:-1])
        return None

    def _knows(self, scope: Scope, headers: Headers, given: str) -> bool:
        pairs = (part.strip().partition("=") for part in headers.get("cookie", "").split(";"))
        cookie = next((value for name, _, value in pairs if name == _cookie(scope)), "")
        return any(hmac.compare_digest(known.encode(), self.token.encode()) for known in (given, cookie))


def refused(status: int, where: str, expected: str, got: str, do: str = "use the page") -> JSONResponse:
    """Return an error in the form that all of them have."""
    return guard.refused(status, where, expected, got, do)


def too_long(path: str) -> JSONResponse:
    """Return the answer to a body of too many bytes."""
    limit = limit_of(path)
    return refused(413, "body", f"at most {limit // 2**20} MiB", "more", "send less at a time")


def limit_of(path: str) -> int:
    """Return how many bytes a request to this address may have."""
    return MAX_IMPORT if path == "/api/import" else MAX_BODY


def _cookie(scope: Scope) -> str:
    """Return the cookie's name: cookies know no ports, two servers on a computer would share one."""
    server = scope.get("server")
    return f"scribbleseg-{server[1] if server else 0}"
