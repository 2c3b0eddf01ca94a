"""The page's own files, from memory: forty small ones, asked for at once, that a browser keeps until one of them changes."""

from __future__ import annotations

import hashlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

_TYPES = {".js": "text/javascript", ".json": "application/json", ".svg": "image/svg+xml"}

#: Where index.html and the other files say that they lie; the digest of all of them is put behind it.
_AT = "/static/"


@dataclass(frozen=True)
class _Files:
    stamp: tuple[tuple[str, int], ...]
    digest: str
    contents: dict[str, bytes]


class StaticFiles:
    """Serves a folder. It is read again when a file in it has changed, each time the page itself is asked for.

    Attributes:
        folder: of index.html and all that it needs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: _Files | None = None

    def routes(self) -> list[BaseRoute]:
        """Return the routes: the page, and its files under an address that changes when they do."""
        return [
            Route("/", self._index),
            Route(_AT + "{digest:str}/{path:path}", self._file),
        ]

    def _read(self) -> _Files:
        paths = sorted(path for path in self.folder.rglob("*") if path.is_file())
        stamp = tuple((path.relative_to(self.folder).as_posix(), path.stat().st_mtime_ns) for path in paths)
        if self._files is None or self._files.stamp != stamp:
            contents = {name: (self.folder / name).read_bytes() for name, _ in stamp}
            digest = hashlib.sha256(repr(sorted(contents.items())).encode()).hexdigest()[:16]
            self._files = _Files(stamp, digest, contents)
        return self._files

    async def _index(self, request: Request) -> Response:
        files = self._read()
        page = files.contents.get("index.html")
        if page is None:
            return Response("the page is not installed", 503)
        return Response(page.replace(_AT.encode(), f"{_AT}{files.digest}/".encode()), media_type="text/html")

    async def _file(self, request: Request) -> Response:
        files, name = self._files or self._read(), request.path_params["path"]
        content = files.contents.get(name)
        if content is None:
            return Response("no such file of the page", 404)
        kind = _TYPES.get(Path(name).suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
        same = request.path_params["digest"] == files.digest
        kept = {"cache-control": "private, max-age=31536000, immutable" if same else "no-cache"}
        return Response(content, media_type=kind, headers=kept)
