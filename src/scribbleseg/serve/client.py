"""Asking a prediction server from Python: NumPy and Pillow, no PyTorch."""

from __future__ import annotations

import http.client
import io
import json
import ssl
from typing import Any
from urllib.parse import urlencode, urlsplit

import numpy as np
from PIL import Image as Pillow

from scribbleseg.errors import ConfigError, DataError, ScribblesegError


class Client:
    """A server of ``scribbleseg serve``.

    Args:
        address: as it was printed.
        token: if it needs one.
        timeout_s: for how long an answer is waited for.

    >>> Client("http://127.0.0.1:8421").mask(rgb)                                 # doctest: +SKIP
    """

    def __init__(self, address: str, token: str = "", timeout_s: float = 60.0) -> None:
        self._parts = urlsplit(address)
        if self._parts.scheme not in ("http", "https") or not self._parts.hostname:
            raise ConfigError("server", "an address as http://127.0.0.1:8421", ascii(address)[:100], "use the one it printed")
        self._address, self._token, self._timeout_s = address, token, timeout_s

    def model(self) -> dict[str, Any]:
        """Return what ``GET /v1/model`` tells."""
        tree: dict[str, Any] = json.loads(self._ask("GET", "/v1/model"))
        return tree

    def predict(self, picture: bytes | np.ndarray, output: str = "mask") -> bytes:
        """Return a form of answer about a picture.

        Args:
            picture: a file's bytes, or uint8 (H, W), (H, W, 3) or (H, W, 4).
            output: see ``scribbleseg.serve.outputs.OUTPUTS``.

        Raises:
            ScribblesegError: the server's own error, or that there is none.
        """
        body = picture if isinstance(picture, bytes) else _png(picture)
        return self._ask("POST", f"/v1/predict?{urlencode({'output': output})}", body)

    def mask(self, picture: bytes | np.ndarray) -> np.ndarray:
        """Return the most probable class of every pixel, uint8 (H, W)."""
        with Pillow.open(io.BytesIO(self.predict(picture))) as answer:
            return np.asarray(answer)

    def probabilities(self, picture: bytes | np.ndarray) -> np.ndarray:
        """Return class probabilities, float32 (C, H, W)."""
        found: np.ndarray = np.load(io.BytesIO(self.predict(picture, "npy")), allow_pickle=False)
        return found

    def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        host, port = self._parts.hostname or "", self._parts.port
        connection: http.client.HTTPConnection
        if self._parts.scheme == "https":
            secure = ssl.create_default_context()
            connection = http.client.HTTPSConnection(host, port, timeout=self._timeout_s, context=secure)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=self._timeout_s)
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        if body is not None:
            headers["Content-Type"] = "application/octet-stream"
        try:
            connection.request(method, self._parts.path.rstrip("/") + path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            got = " ".join(str(error).split())[:200] or type(error).__name__
            raise DataError(self._address, "an answer of the server", got, "check that `scribbleseg serve` runs") from None
        finally:
            connection.close()
        if answer.status != 200:
            raise _told(self._address, answer.status, content)
        return content


def _told(address: str, status: int, content: bytes) -> ScribblesegError:
    """Return the server's error as ours."""
    try:
        tree = json.loads(content)
        return DataError(f"{address}: {tree['where']}", *(str(tree[key]) for key in ("expected", "got", "do")))
    except (ValueError, KeyError, TypeError):
        return DataError(address, "an answer of `scribbleseg serve`", f"status {status}", "check the address")


def _png(picture: np.ndarray) -> bytes:
    if picture.dtype != np.uint8 or picture.ndim not in (2, 3):
        got = f"{picture.dtype} of shape {picture.shape}"
        raise DataError("picture", "uint8 (H, W) or (H, W, 3)", got, "convert it, or send a file's bytes")
    file = io.BytesIO()
    Pillow.fromarray(picture).save(file, format="PNG", compress_level=1)
    return file.getvalue()
