"""Make the pictures of docs/how-to/annotate.md: ``python -m benchmarks.page_pictures [OUT]``."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

from tests.e2e.annotating import Server, saved

OUT = Path(__file__).parents[1] / "docs" / "images"
SIZE = (720, 540)


def make_photos(root: Path, count: int = 8) -> Path:
    """Write pictures of round leaves on the ground."""
    root.mkdir()
    for k in range(count):
        rng = np.random.default_rng(k)
        y, x = np.mgrid[0 : SIZE[1], 0 : SIZE[0]].astype(float)
        ground = np.kron(rng.normal(0, 1, (34, 46)), np.ones((16, 16)))[: SIZE[1], : SIZE[0]]
        rgb = np.stack([126 + 9 * ground, 108 + 8 * ground, 84 + 7 * ground], -1)
        for _ in range(7):
            cx, cy, a, b, turn = rng.uniform((40, 40, 45, 22, 0), (680, 500, 95, 48, 3.1))
            u, v = (x - cx) * np.cos(turn) + (y - cy) * np.sin(turn), (y - cy) * np.cos(turn) - (x - cx) * np.sin(turn)
            inside = (u / a) ** 2 + (v / b) ** 2 < 1
            vein = (np.abs(v) < 1.6) | (np.abs((u * 0.6 + np.abs(v)) % 22 - 11) < 0.9)
            colour = np.array([58, 122, 52]) + rng.normal(0, 16, 3)
            rgb[inside] = colour + np.where(vein, 34, 0)[inside][:, None]
        noisy = rgb + rng.normal(0, 2, rgb.shape)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(root / f"leaf_{k:02d}.png")
    return root


def draw(page: Any, strokes: list[tuple[str, list[tuple[float, float]]]]) -> None:
    """Draw strokes given in shares of the picture."""
    box = page.locator("#stage").bounding_box()
    scale = min((box["width"] - 32) / SIZE[0], (box["height"] - 32) / SIZE[1])
    left = box["x"] + (box["width"] - scale * SIZE[0]) / 2
    top = box["y"] + (box["height"] - scale * SIZE[1]) / 2
    for key, points in strokes:
        page.keyboard.press(key)
        for k, (x, y) in enumerate(points):
            page.mouse.move(left + x * scale * SIZE[0], top + y * scale * SIZE[1], steps=1 if k == 0 else 12)
            if k == 0:
                page.mouse.down()
        page.mouse.up()
    saved(page)


def main(out: Path) -> None:
    folder = Path(tempfile.mkdtemp())
    server = Server(make_photos(folder / "leaves"))
    strokes = [
        ("1", [(0.03, 0.06), (0.3, 0.04)]),
        ("1", [(0.8, 0.95), (0.97, 0.9), (0.97, 0.7)]),
        ("2", [(0.28, 0.42), (0.34, 0.5), (0.38, 0.48)]),
        ("2", [(0.67, 0.15), (0.7, 0.24)]),
    ]
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"])

        def opened(width: int, height: int, scheme: str) -> Any:
            page = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme).new_page()
            page.goto(server.url)
            page.wait_for_load_state("networkidle")
            page.wait_for_timeout(1500)
            return page

        page = opened(1360, 860, "light")
        for _ in range(7):
            page.keyboard.press("]")
        draw(page, strokes)
        page.locator("#opacity").fill("35")
        page.wait_for_timeout(2500)
        page.screenshot(path=out / "annotate-page.png")
        page.locator("#audit-start").click()
        page.keyboard.press("1")
        page.wait_for_timeout(500)
        page.keyboard.press("2")
        page.locator("#audit-result").wait_for()
        page.screenshot(path=out / "annotate-audit.png")
        page = opened(1180, 760, "dark")
        page.keyboard.press("u")
        page.wait_for_timeout(1500)
        page.screenshot(path=out / "annotate-doubt.png")
        page = opened(400, 800, "light")
        page.wait_for_timeout(1500)
        page.screenshot(path=out / "annotate-phone.png")
        browser.close()
    for path in out.glob("annotate-*.png"):
        Image.open(path).convert("RGB").quantize(256).save(path, optimize=True)
    server.kill()
    shutil.rmtree(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else OUT)
