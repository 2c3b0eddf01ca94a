"""What the tests of the drawing page share: a folder with marks that can be found on the screen, a server, hands."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scribbleseg.data.vector import rasterise
from scribbleseg.records import UNLABELLED, Stroke

#: Squares on every image, 13 px a side: their middles (x, y) in image pixels, found again on the screen by their colour.
MARKS = {"red": (20.5, 30.5), "green": (90.5, 40.5), "blue": (50.5, 70.5)}
_RGB = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


def make_folder(root: Path, num_images: int = 90, size: tuple[int, int] = (120, 90)) -> Path:
    """Write pictures with marks; return their folder."""
    root.mkdir(parents=True)
    for k in range(num_images):
        rgb = np.full((size[1], size[0], 3), 60 + k % 60, np.uint8)
        for name, (x, y) in MARKS.items():
            rgb[int(y) - 6 : int(y) + 7, int(x) - 6 : int(x) + 7] = _RGB[name]
        Image.fromarray(rgb).save(root / f"image_{k:02d}.png")
    return root


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class Server:
    """``tests.e2e.annotate_server`` in a process of its own, which can be killed and started again.

    A test takes three images of its own (:meth:`take`), and none of another's.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.first = -3
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self.log = folder.parent / f"{folder.name}.log"
        self.start()

    def start(self) -> None:
        root = Path(__file__).parents[2]
        path = os.pathsep.join([str(root / "src"), str(root)])
        command = [sys.executable, "-m", "tests.e2e.annotate_server", str(self.folder), str(self.port)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
            )
        end = time.monotonic() + 60
        while True:
            try:
                self.get("api/project")
                return
            except OSError:
                assert self.process.poll() is None, self.log.read_text()
                assert time.monotonic() < end, self.log.read_text()
                time.sleep(0.1)

    def take(self) -> Server:
        self.first += 3
        return self

    def stem(self, number: int = 0) -> str:
        """Return the name of an image of the test that runs."""
        return f"image_{self.first + number:02d}"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def get(self, path: str) -> Any:
        """Return what the server answers: JSON, or an array of a picture."""
        with urllib.request.urlopen(self.url + path, timeout=20) as answer:
            body = answer.read()
            if answer.headers["Content-Type"].startswith("image/"):
                return np.asarray(Image.open(io.BytesIO(body)))
            return json.loads(body)

    def image(self, number: int = 0) -> int:
        """Return the id of an image."""
        columns = self.get("api/images")
        return int(columns["id"][columns["stem"].index(self.stem(number))])

    def labels(self, number: int = 0) -> np.ndarray:
        """Return the server's mask."""
        return np.asarray(self.get(f"api/images/{self.image(number)}/labels"))

    def strokes(self, number: int = 0) -> list[dict[str, Any]]:
        return list(self.get(f"api/images/{self.image(number)}")["strokes"])


def open_page(browser: Any, server: Server, **options: Any) -> Any:
    """Return a page that shows an image; its errors are collected in ``page.errors``."""
    context = browser.new_context(**{"viewport": {"width": 1200, "height": 800}, **options})
    context.set_default_timeout(60_000)
    return open_in(context, server)


def open_in(context: Any, server: Server) -> Any:
    page = context.new_page()
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.goto(f"{server.url}#image={server.image()}")
    shown(page, server.stem())
    return page


def shown(page: Any, stem: str) -> None:
    """Wait until the image, its picture too, is on the screen."""
    page.wait_for_function("stem => document.getElementById('where').textContent.startsWith(stem + ' ')", arg=stem)
    for _ in range(100):
        if _find(page, "red", near=110) is not None:  # under a prediction too
            return
        page.wait_for_timeout(50)
    raise AssertionError("the picture does not appear")


def _find(page: Any, name: str, near: int = 70) -> tuple[float, float] | None:
    box = page.locator("#stage").bounding_box()
    picture = np.asarray(Image.open(io.BytesIO(page.locator("#stage").screenshot())).convert("RGB"), int)
    found = (np.abs(picture - np.array(_RGB[name])) < near).all(-1)
    if found.sum() < 20:
        return None
    rows, columns = np.nonzero(found)
    ratio = picture.shape[1] / box["width"]
    return box["x"] + (columns.mean() + 0.5) / ratio, box["y"] + (rows.mean() + 0.5) / ratio


def seen(page: Any) -> dict[str, tuple[float, float]]:
    """Return where on the screen the middles of the marks are, as an eye finds them."""
    return {name: place for name in MARKS if (place := _find(page, name)) is not None}


def drag(page: Any, places: Sequence[tuple[float, float]], *, up: bool = True) -> None:
    """Draw with the mouse."""
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=6)
    if up:
        page.mouse.up()


def saved(page: Any) -> None:
    """Wait until the page says that all is saved."""
    page.wait_for_selector("#save[data-state=saved]")


def set_width(page: Any, width_px: int) -> None:
    """Make the brush so wide with its keys."""
    for _ in range(40):
        shown = int(page.locator("#size-shown").inner_text().split()[0])
        if shown == width_px:
            return
        page.keyboard.press("]" if shown < width_px else "[")
    raise AssertionError(f"no brush of {width_px} px")


def assert_drawn(labels: np.ndarray, class_id: int, marks: Sequence[str], width_px: float, slack_px: float = 1.0) -> None:
    """The mask has the stroke through these marks: its inside is of the class, and beyond it there is nothing."""
    points = np.array([MARKS[name] for name in marks])
    inner = rasterise([Stroke(class_id, max(width_px - 2 * slack_px, 0.1), points, "brush", None, None)], labels.shape)
    outer = rasterise([Stroke(class_id, width_px + 2 * slack_px, points, "brush", None, None)], labels.shape)
    if width_px > 2 * slack_px:
        assert (labels[inner != UNLABELLED] == class_id).all()
    assert (labels[outer == UNLABELLED] == UNLABELLED).all()
    assert (labels == class_id).sum() >= len(marks) > 0
