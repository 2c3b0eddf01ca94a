"""Pictures for Label Studio's tasks: from its own address, a folder of this computer, or the task itself; from nowhere else."""

from __future__ import annotations

import base64
import binascii
import http.client
import json
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from scribbleseg.errors import DataError

#: Seconds that Label Studio may keep us waiting for each piece of an answer.
PATIENCE_S = 10.0

#: Addresses at which Label Studio keeps pictures: a task cannot make us ask for anything else with the token.
_PLACES = ("/data/", "/tasks/", "/projects/", "/storage-data/")

_DO = "store it as an upload, in a local folder that `--local-files` names, or at the address that `--label-studio` names"


@dataclass(frozen=True)
class Fetcher:
    """Gets the bytes of a task's picture. It follows no redirects, and never asks another host.

    Attributes:
        address: of Label Studio, as ``http://localhost:8080``; empty where it is not asked.
        token: of a user of it.
        root: folder that holds the pictures of its local storage.
        max_bytes: of a picture.
    """

    address: str = ""
    token: str = ""
    root: Path | None = None
    max_bytes: int = 32 * 2**20

    def fetch(self, value: str) -> bytes:
        """Return a picture's bytes.

        Args:
            value: what the task says: a path at Label Studio, an address of it, or ``data:``.

        Raises:
            DataError: another place, nothing there, or too many bytes.
        """
        if value.startswith("data:"):
            return self._inline(value)
        try:
            parts = urlsplit(value)
        except ValueError as error:
            raise DataError("image", "an address", str(error)[:100], _DO) from None
        if parts.path.rstrip("/").endswith("/data/local-files") and self.root is not None:
            return self._local(parse_qs(parts.query).get("d", [""])[0])
        own = urlsplit(self.address)
        if not self.address or (parts.netloc and _origin(parts) != _origin(own)) or (parts.scheme and not parts.netloc):
            where = f"{parts.scheme}://{parts.netloc}" if parts.netloc else "another place"
            raise DataError("image", "a picture at Label Studio or in the local folder", ascii(where)[1:101], _DO)
        base = own.path.rstrip("/")
        inner = parts.path.removeprefix(base) if parts.netloc else "/" + parts.path.lstrip("/")
        if not inner.startswith(_PLACES) or ".." in unquote(inner).split("/"):
            raise DataError("image", f"an address that begins with {', '.join(_PLACES)}", ascii(inner)[1:101], _DO)
        query = f"?{parts.query}" if parts.query else ""
        return self._asked("GET", base + inner + query, {"Authorization": self._authorization()} if self.token else {})

    def _inline(self, value: str) -> bytes:
        about, _, text = value.partition(",")
        if len(text) > self.max_bytes * 4 / 3 + 4:
            raise _too_long(self.max_bytes)
        try:
            if not about.endswith(";base64"):
                raise ValueError("no base64")
            return base64.b64decode(unquote(text), validate=True)
        except (binascii.Error, ValueError) as error:
            raise DataError("image", "a data: address in base64", str(error)[:100], "export the task again") from None

    def _local(self, name: str) -> bytes:
        assert self.root is not None
        root = self.root.resolve()
        try:
            path = (root / name.lstrip("/")).resolve()
            if not path.is_relative_to(root) or not path.is_file():
                raise FileNotFoundError
            if path.stat().st_size > self.max_bytes:
                raise _too_long(self.max_bytes)
            return path.read_bytes()
        except (OSError, ValueError):
            do = "start the server with --local-files and the folder that is Label Studio's document root"
            raise DataError("image", "a file in the local folder", ascii(name)[1:101], do) from None

    def _authorization(self) -> str:
        """Return the header. A personal access token is a JWT, good for nothing but to ask for another one, for minutes."""
        if self.token.count(".") != 2:
            return f"Token {self.token}"
        path = urlsplit(self.address).path.rstrip("/") + "/api/token/refresh"
        answer = self._asked("POST", path, {"Content-Type": "application/json"}, json.dumps({"refresh": self.token}))
        try:
            return f"Bearer {json.loads(answer)['access']}"
        except (ValueError, KeyError, TypeError):
            raise DataError("--label-studio", "an access token", "something else", "check the token file") from None

    def _asked(self, method: str, path: str, headers: dict[str, str], body: str | None = None) -> bytes:
        own = urlsplit(self.address)
        connection: http.client.HTTPConnection
        if own.scheme == "https":
            secure = ssl.create_default_context()
            connection = http.client.HTTPSConnection(own.hostname or "", own.port, timeout=PATIENCE_S, context=secure)
        else:
            connection = http.client.HTTPConnection(own.hostname or "", own.port, timeout=PATIENCE_S)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            if answer.status != 200:
                do = (
                    "check the token" if answer.status in (401, 403) else "open the task in Label Studio: is its picture shown?"
                )
                raise DataError("image", "the picture from Label Studio", f"status {answer.status}", do)
            data = answer.read(self.max_bytes + 1)
        except (OSError, http.client.HTTPException, ValueError) as error:
            got = " ".join(str(error).split())[:200] or type(error).__name__
            raise DataError("--label-studio", "an answer of Label Studio", got, "check its address") from None
        finally:
            connection.close()
        if len(data) > self.max_bytes:
            raise _too_long(self.max_bytes)
        return data


def _origin(parts: Any) -> tuple[str, str, int | None]:
    try:
        port = parts.port
    except ValueError:
        port = -1
    return parts.scheme.lower(), (parts.hostname or "").lower(), port or {"http": 80, "https": 443}.get(parts.scheme.lower())


def _too_long(max_bytes: int) -> DataError:
    return DataError("image", f"a picture of at most {max_bytes // 2**20} MiB", "more", "store a smaller one")
