"""A real Firefox without a driver: its own Marionette protocol, messages of JSON with their length before them."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.e2e.annotating import free_port

FIREFOX = shutil.which("firefox") or shutil.which("firefox-esr")


class Firefox:
    """One window. Commands are those of WebDriver."""

    def __init__(self, port: int, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + 90
        while True:
            try:
                self.socket = socket.create_connection(("127.0.0.1", port), timeout=90)
                break
            except OSError:
                assert process.poll() is None, "firefox has ended"
                assert time.monotonic() < end, "firefox does not listen"
                time.sleep(0.2)
        self.number = 0
        self._read()
        self.ask("WebDriver:NewSession", {"capabilities": {"alwaysMatch": {"acceptInsecureCerts": True}}})

    def ask(self, command: str, body: dict[str, Any] | None = None) -> Any:
        """Return the answer to a command."""
        self.number += 1
        data = json.dumps([0, self.number, command, body or {}]).encode()
        self.socket.sendall(b"%d:%s" % (len(data), data))
        _, _, error, result = self._read()
        assert error is None, error
        return result["value"] if isinstance(result, dict) and set(result) == {"value"} else result

    def _read(self) -> Any:
        head = b""
        while not head.endswith(b":"):
            head += self._some(1)
        body = b""
        while len(body) < int(head[:-1]):
            body += self._some(int(head[:-1]) - len(body))
        return json.loads(body)

    def _some(self, most: int) -> bytes:
        got = self.socket.recv(most)
        assert got, "firefox has closed the connection"
        return got

    def run(self, script: str, *args: Any) -> Any:
        """Return what a script returns in the page."""
        return self.ask("WebDriver:ExecuteScript", {"script": script, "args": list(args)})

    def wait(self, script: str, *args: Any) -> None:
        """Wait until a script returns something true."""
        end = time.monotonic() + 60
        while not self.run(script, *args):
            assert time.monotonic() < end, script
            time.sleep(0.1)

    def open(self, url: str) -> None:
        self.ask("WebDriver:Navigate", {"url": url})

    def screenshot(self) -> bytes:
        """Return the window as PNG."""
        return base64.b64decode(self.ask("WebDriver:TakeScreenshot", {"full": False}))

    def drag(self, places: Sequence[tuple[float, float]], kind: str = "mouse") -> None:
        """Draw through places of the window."""
        moves = [
            {"type": "pointerMove", "x": round(float(x)), "y": round(float(y)), "duration": 60 * (k > 0), "origin": "viewport"}
            for k, (x, y) in enumerate(places)
        ]
        actions = [moves[0], {"type": "pointerDown", "button": 0}, *moves[1:], {"type": "pointerUp", "button": 0}]
        source = {"type": "pointer", "id": kind, "parameters": {"pointerType": kind}, "actions": actions}
        self.ask("WebDriver:PerformActions", {"actions": [source]})

    def press(self, *keys: str) -> None:
        """Press keys together; Control is \\ue009, Delete \\ue017."""
        actions = [{"type": "keyDown", "value": key} for key in keys] + [
            {"type": "keyUp", "value": key} for key in reversed(keys)
        ]
        self.ask("WebDriver:PerformActions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})


@contextlib.contextmanager
def running(profile: Path, width: int = 1200, height: int = 800) -> Iterator[Firefox]:
    """Start a Firefox of its own profile; it is gone after the block."""
    assert FIREFOX is not None
    port = free_port()
    profile.mkdir()
    (profile / "user.js").write_text(
        f'user_pref("marionette.port", {port});\nuser_pref("browser.shell.checkDefaultBrowser", false);\n'
        'user_pref("datareporting.policy.dataSubmissionEnabled", false);\nuser_pref("app.update.enabled", false);\n',
        encoding="utf-8",
    )
    command = [FIREFOX, "--headless", "--marionette", "--no-remote", "--profile", str(profile)]
    size = [f"--width={width}", f"--height={height}"]
    with (profile.parent / "firefox.log").open("wb") as log:
        process = subprocess.Popen([*command, *size], stdout=log, stderr=log)
    try:
        firefox = Firefox(port, process)
        with contextlib.closing(firefox.socket):
            yield firefox
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
