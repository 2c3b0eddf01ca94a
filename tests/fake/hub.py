"""A Hugging Face Hub on this computer: repositories are made, written in commits and read, and nothing leaves the machine."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_of_the_tests"


@dataclass
class Hub:
    """What was sent to it.

    Attributes:
        url: its address.
        repos: files of each repository.
        created: requests to make a repository.
        asked: method and path of every request.
        refuse: status and words with which requests to these paths are answered.
    """

    url: str = ""
    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    created: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    refuse: dict[str, tuple[int, str]] = field(default_factory=dict)

    def answer(self, method: str, path: str, token: str | None, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body."""
        self.asked.append(f"{method} {path}")
        for part, (status, words) in self.refuse.items():
            if part in path:
                return status, {"X-Error-Message": words}, json.dumps({"error": words}).encode()
        if method == "POST" and token != f"Bearer {TOKEN}":
            return 401, {}, b'{"error": "Invalid username or password."}'
        parts = path.partition("?")[0].strip("/").split("/")
        if path == "/api/validate-yaml":
            return _json({"errors": [], "warnings": []})
        if path == "/api/repos/create":
            wanted = json.loads(body)
            self.created.append(wanted)
            name = f"{wanted['organization']}/{wanted['name']}"
            known = name in self.repos
            self.repos.setdefault(name, {})
            return _json({"url": f"{self.url}/{name}"}, 409 if known else 200)
        if parts[:2] == ["api", "models"]:
            name = "/".join(parts[2:4])
            if name not in self.repos:
                return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"
            return self._of_repo(name, parts[4] if len(parts) > 4 else "", body)
        if len(parts) > 4 and parts[2] == "resolve":
            content = self.repos["/".join(parts[:2])].get("/".join(parts[4:]))
            if content is None:
                return 404, {"X-Error-Code": "EntryNotFound"}, b""
            return 200, {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": self.sha}, content
        return 404, {}, b"{}"

    sha = "0123456789abcdef0123456789abcdef01234567"

    def _of_repo(self, name: str, what: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if what == "preupload":
            files = json.loads(body)["files"]
            return _json({"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]})
        if what == "commit":
            lines = [json.loads(line) for line in body.splitlines()]
            files = {v["path"]: base64.b64decode(v["content"]) for v in (x["value"] for x in lines if x["key"] == "file")}
            self.repos[name] |= files
            return _json({"commitUrl": f"{self.url}/{name}/commit/{self.sha}", "commitOid": self.sha})
        if what == "tree":
            files = self.repos[name]
            return _json(
                [{"type": "file", "path": p, "size": len(c), "oid": hashlib.sha1(c).hexdigest()} for p, c in files.items()]
            )
        siblings = [{"rfilename": path} for path in self.repos[name]]
        return _json(
            {"id": name, "_id": "1", "sha": self.sha, "siblings": siblings, "private": False, "tags": [], "downloads": 0}
        )


def _json(tree: Any, status: int = 200) -> tuple[int, dict[str, str], bytes]:
    return status, {"Content-Type": "application/json"}, json.dumps(tree).encode()


@contextlib.contextmanager
def fake_hub() -> Iterator[Hub]:
    """Run a hub on a free port for as long as the block lasts."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, headers, content = hub.answer(self.command, self.path, self.headers.get("Authorization"), body)
            self.send_response(status)
            for key, value in (headers | {"Content-Length": str(len(content))}).items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_HEAD = do_POST = do_PUT = _any

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
