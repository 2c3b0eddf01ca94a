"""Seconds from the second stroke on the page to the first overlay: see ``benchmarks/page.py``.

Starts `scribbleseg annotate` on pictures of one megapixel, draws two strokes in a browser, waits, draws a third.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

from tests.e2e.annotating import free_port

SIZE = (1184, 888)
LONGEST_S = 120


def make_folder(root: Path, number: int = 4) -> Path:
    """Write pictures of discs on a ground of another colour, with noise."""
    root.mkdir()
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    for k in range(number):
        disc = np.hypot(y - SIZE[1] / 2, x - SIZE[0] / 2) < 200 + 20 * k
        rgb = np.where(disc[..., None], [170, 90, 60], [70, 120, 90]) + rng.normal(0, 12, (SIZE[1], SIZE[0], 3))
        Image.fromarray(rgb.clip(0, 255).astype(np.uint8)).save(root / f"picture_{k}.jpg", quality=92)
    return root


def measure(url: str) -> dict[str, float]:
    """Draw, and time what the page is told."""
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.goto(url)
        page.wait_for_selector(".image[aria-selected=true]")
        page.wait_for_timeout(2000)
        box = page.locator("#stage").bounding_box()
        middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)

        def draw(key: str, x: float, y: float) -> None:
            page.keyboard.press(key)
            page.mouse.move(middle[0] + x, middle[1] + y)
            page.mouse.down()
            page.mouse.move(middle[0] + x + 80, middle[1] + y + 10, steps=12)
            page.mouse.up()

        def wait(strokes: int) -> float:
            begun = time.monotonic()
            while time.monotonic() < begun + LONGEST_S:
                told = page.evaluate("fetch('/api/images/1/prediction').then((r) => (r.ok ? r.json() : null))")
                if told is not None and told["version"] >= strokes and told["stale_strokes"] == 0:
                    return round(time.monotonic() - begun, 2)
                time.sleep(0.05)
            raise SystemExit(f"no overlay after {LONGEST_S} s")

        draw("1", -300, -250)
        draw("2", -40, 0)
        first = wait(2)
        page.wait_for_timeout(20_000)  # until the other pictures have been looked at
        draw("2", -60, 60)
        found = {"first_s": first, "third_stroke_s": wait(3)}
        browser.close()
    return found


def overlay(backbone: Path | None) -> dict[str, Any]:
    """Return what was measured with such a backbone, or with filters alone."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        command = [sys.executable, "-m", "scribbleseg", "annotate", str(make_folder(Path(folder) / "pictures"))]
        command += ["--no-open", "--port", str(port)] + (["--backbone", str(backbone)] if backbone else [])
        started = time.monotonic()
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            url = f"http://127.0.0.1:{port}/"
            while True:
                try:
                    urllib.request.urlopen(url).close()
                    break
                except (urllib.error.URLError, ConnectionError):
                    time.sleep(0.05)
            ready = {"backbone": backbone.name if backbone else None, "server_ready_s": round(time.monotonic() - started, 2)}
            return ready | measure(url) | {"load": os.getloadavg()[0]}
        finally:
            server.terminate()
            server.wait()
