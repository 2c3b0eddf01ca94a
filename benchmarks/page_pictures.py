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

from tests.e2e.annotating import saved
from tests.e2e.test_annotate_film import Real

OUT = Path(__file__).parents[1] / "docs" / "images"
SIZE = (720, 540)


def leaves(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a picture of leaves on the ground, uint8 (h, w, 3), and where the leaves are."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[0 : SIZE[1], 0 : SIZE[0]].astype(float)
    ground = np.kron(rng.normal(0, 1, (34, 46)), np.ones((16, 16)))[: SIZE[1], : SIZE[0]]
    rgb = np.stack([126 + 9 * ground, 108 + 8 * ground, 84 + 7 * ground], -1)
    mask = np.zeros(y.shape, bool)
    for _ in range(7):
        cx, cy, a, b, turn = rng.uniform((40, 40, 45, 22, 0), (680, 500, 95, 48, 3.1))
        u, v = (x - cx) * np.cos(turn) + (y - cy) * np.sin(turn), (y - cy) * np.cos(turn) - (x - cx) * np.sin(turn)
        inside = (u / a) ** 2 + (v / b) ** 2 < 1
        vein = (np.abs(v) < 1.6) | (np.abs((u * 0.6 + np.abs(v)) % 22 - 11) < 0.9)
        colour = np.array([58, 122, 52]) + rng.normal(0, 16, 3)
        rgb[inside] = colour + np.where(vein, 34, 0)[inside][:, None]
        mask |= inside
    return (rgb + rng.normal(0, 2, rgb.shape)).clip(0, 255).astype(np.uint8), mask


def make_photos(root: Path, count: int = 8) -> Path:
    """Write such pictures."""
    root.mkdir()
    for k in range(count):
        Image.fromarray(leaves(k)[0]).save(root / f"leaf_{k:02d}.png")
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


def predicted(page: Any) -> None:
    """Wait until a prediction lies over the picture, of all strokes that there are."""
    page.wait_for_function("() => document.getElementById('prediction-told').textContent.includes('Learnt from')")
    page.wait_for_function("() => !document.getElementById('prediction-told').textContent.includes('Older than')")
    page.wait_for_timeout(1500)


def answered(page: Any, points: int) -> None:
    """Go through an audit, with the truth as the answers."""
    with page.expect_response(lambda answer: answer.url.endswith("/api/audit") and answer.request.method == "POST") as told:
        page.locator("#audit-start").click()
    masks = {k + 1: leaves(k)[1] for k in range(8)}
    for k, item in enumerate(told.value.json()["items"][:points]):
        page.wait_for_function("n => document.querySelector('.question').textContent.startsWith(n + ' of')", arg=str(k + 1))
        page.keyboard.press("2" if masks[item["image"]][item["y"], item["x"]] else "1")
    page.locator("#audit-result").wait_for()
    page.wait_for_timeout(1500)


STROKES = {
    0: [
        ("1", [(0.03, 0.06), (0.3, 0.04)]),
        ("1", [(0.55, 0.92), (0.76, 0.9)]),
        ("1", [(0.55, 0.3), (0.57, 0.6)]),
        ("1", [(0.05, 0.6), (0.12, 0.85)]),
        ("2", [(0.28, 0.42), (0.34, 0.5), (0.36, 0.44)]),
        ("2", [(0.67, 0.15), (0.7, 0.24)]),
        ("2", [(0.84, 0.48), (0.86, 0.6)]),
        ("2", [(0.9, 0.83), (0.95, 0.74)]),
        ("2", [(0.1, 0.2), (0.2, 0.31)]),
    ],
    1: [("1", [(0.05, 0.95), (0.05, 0.6)])],
}


def main(out: Path) -> None:
    folder = Path(tempfile.mkdtemp())
    server = Real(make_photos(folder / "leaves"))
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"])

        def opened(width: int, height: int, scheme: str, image: int = 1) -> Any:
            page = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme).new_page()
            page.set_default_timeout(180_000)
            page.goto(f"{server.url}#image={image}")
            page.wait_for_load_state("networkidle")
            page.wait_for_timeout(1500)
            return page

        page = opened(1360, 860, "light")
        for _ in range(7):
            page.keyboard.press("]")
        for image, strokes in STROKES.items():
            draw(page, strokes)
            if image == 0:
                page.keyboard.press("d")
                page.wait_for_timeout(1000)
        page.keyboard.press("a")
        page.locator("#opacity").fill("35")
        predicted(page)
        page.screenshot(path=out / "annotate-page.png")
        page.keyboard.press("v")
        page.locator("#selected-after").click()
        page.wait_for_timeout(500)
        page.screenshot(path=out / "annotate-select.png")
        page.keyboard.press("b")
        answered(page, 30)
        page.screenshot(path=out / "annotate-audit.png")
        page = opened(1180, 760, "dark", 2)
        page.keyboard.press("u")
        predicted(page)
        page.screenshot(path=out / "annotate-doubt.png")
        page = opened(400, 800, "light")
        predicted(page)
        page.screenshot(path=out / "annotate-phone.png")
        browser.close()
    for path in out.glob("annotate-*.png"):
        Image.open(path).convert("RGB").quantize(256, kmeans=2).save(path, optimize=True)
    server.stop()
    shutil.rmtree(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else OUT)
