"""The drawing page while somebody draws and zooms: see ``benchmarks/page.py``."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

from scribbleseg.data.vector import write_strokes
from scribbleseg.records import Stroke
from tests.e2e.annotating import Server, saved

#: For each pointer event that draws, how old it was when its ink was on a canvas.
_WATCH = """() => {
  const { stroke } = CanvasRenderingContext2D.prototype;
  let last = 0;
  window.ink = [];
  CanvasRenderingContext2D.prototype.stroke = function (...path) {
    stroke.apply(this, path);
    const { event } = window;
    if (!event || !event.type.startsWith("pointer") || event.timeStamp <= last) return;
    last = event.timeStamp;
    window.ink.push(performance.now() - last);
  };
}"""

#: When the rows of the list and the buttons of the classes are there; when the image is, so that it can be drawn on.
_STARTED = """
  window.started = {};
  const look = () => {
    const there = (name, selector) => { if (document.querySelector(selector)) window.started[name] ??= performance.now(); };
    there("list", ".image"); there("classes", ".pick"); there("image", "#where:not(:empty)");
    if (Object.keys(window.started).length < 3) setTimeout(look, 4);
  };
  look();
"""

_PAN = """async () => {
  const times = []; let last = await new Promise(requestAnimationFrame);
  const stage = document.getElementById("stage");
  for (let k = 0; k < 60; k += 1) {
    const turn = { deltaY: k % 20 < 10 ? -20 : 20, clientX: 700, clientY: 400, cancelable: true };
    stage.dispatchEvent(new WheelEvent("wheel", turn));
    const now = await new Promise(requestAnimationFrame);
    times.push(now - last); last = now;
  }
  return times;
}"""


def make_folder(root: Path, side: int, strokes: int, images: int) -> Path:
    """Write images, the first with strokes of 100 points each."""
    rng = np.random.default_rng(0)
    (root / "images").mkdir(parents=True)
    (root / "strokes").mkdir()
    coarse = rng.integers(0, 255, (side // 50, side // 50, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((side, side)).save(root / "images" / "image_00.png", compress_level=1)
    for k in range(1, images):
        Image.fromarray(coarse[:8, :8]).resize((64, 64)).save(root / "images" / f"image_{k:05d}.png")
    lines = []
    for _ in range(strokes):
        points = np.cumsum(rng.normal(0, side / 400, (100, 2)), 0) + rng.uniform(0, side, 2)
        lines.append(Stroke(0, 20.0, points.clip(0, side), "brush", None, None))  # one class: the stand-in predicts nothing
    write_strokes(root / "strokes" / "image_00.json", lines, (side, side))
    text = "name: speed\nnames: {0: background, 1: object}\nimages: images\nstrokes: strokes\nscribbles: scribbles\n"
    (root / "dataset.yaml").write_text(text + "splits: {train: train.txt}\n", encoding="utf-8")
    (root / "train.txt").write_text("image_00\n", encoding="utf-8")
    return root


def memory_mb(browser: Any) -> float:
    """Return the proportional memory of the largest page process."""
    told = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    sizes = []
    for process in told:
        if process["type"] == "renderer":
            text = Path(f"/proc/{process['id']}/smaps_rollup").read_text()
            sizes.append(int(re.search(r"Pss:\s+(\d+)", text)[1]) / 1024)
    return max(sizes)


def presented(events: list[dict[str, Any]]) -> list[float]:
    """Return milliseconds from each drag of the mouse to the frame that shows it, as the browser's compositor reports them."""
    begun: dict[tuple[int, str], float] = {}
    times = []
    for event in sorted((each for each in events if each["name"] == "EventLatency"), key=lambda each: each["ts"]):
        key = event["pid"], str(event.get("id") or event.get("id2"))
        if event["ph"] == "b" and event["args"].get("event_latency", {}).get("event_type") == "MOUSE_DRAGGED":
            begun[key] = event["ts"]
        elif event["ph"] == "e" and key in begun:
            times.append((event["ts"] - begun.pop(key)) / 1000)
    return times


def summary(times: list[float]) -> dict[str, float]:
    return {"median": round(float(np.median(times)), 2), "p95": round(float(np.percentile(times, 95)), 2), "n": len(times)}


def measure(server: Server) -> dict[str, Any]:
    """Draw and pan on the first image."""
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_context(viewport={"width": 1600, "height": 900}).new_page()
        page.set_default_timeout(120_000)
        page.add_init_script(_STARTED)
        page.goto(server.url)
        page.wait_for_function("() => Object.keys(window.started).length === 3")
        started = page.evaluate("window.started")
        page.wait_for_function("() => document.getElementById('preparing').hidden")
        shown = page.evaluate("performance.now()") / 1000
        page.wait_for_load_state("networkidle")
        page.wait_for_timeout(3000)
        page.evaluate(_WATCH)
        browser.start_tracing(page=page, categories=["input", "benchmark", "latency"])
        box = page.locator("#stage").bounding_box()
        for row in range(8):
            page.mouse.move(box["x"] + 100, box["y"] + 80 + 60 * row)
            page.mouse.down()
            for k in range(50):
                page.mouse.move(box["x"] + 100 + 12 * k, box["y"] + 80 + 60 * row + 20 * np.sin(k / 4))
            page.mouse.up()
        on_screen = presented(json.loads(browser.stop_tracing())["traceEvents"])
        saved(page)
        ink = page.evaluate("window.ink")
        pan = page.evaluate(_PAN)
        page.wait_for_timeout(2000)
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable")
        metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
        told = {
            "pointer_to_ink_ms": summary(ink),
            "pointer_to_screen_ms": summary(on_screen),
            "frame_while_zooming_ms": summary(pan),
            "memory_of_page_mb": round(memory_mb(browser), 1),
            "js_heap_mb": round(metrics["JSHeapUsedSize"] / 2**20, 1),
            "list_and_classes_after_s": round(max(started["list"], started["classes"]) / 1000, 2),
            "usable_after_s": round(started["image"] / 1000, 2),
            "picture_after_s": round(shown, 2),
        }
        browser.close()
    return told


def speed(side: int = 8000, strokes: int = 500, images: int = 1) -> dict[str, Any]:
    """Return what was measured on a folder of such images."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(make_folder(Path(folder) / "speed", side, strokes, images))
        try:
            return {"side": side, "strokes": strokes, "images": images, **measure(server), "load": os.getloadavg()[0]}
        finally:
            server.kill()
