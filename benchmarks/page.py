"""How fast the drawing page is: ``python -m benchmarks.page run [--backbone FOLDER]``; ``… write`` writes the tables again."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.first_overlay import overlay
from benchmarks.page_speed import speed
from scribbleseg.atomic import write_text
from scribbleseg.provenance import provenance

ROOT = Path(__file__).parents[1]
RESULT, PAGE = ROOT / "benchmarks" / "results" / "page.json", ROOT / "docs" / "how-to" / "annotate.md"
BEGIN, END = "<!-- page speed: begin -->", "<!-- page speed: end -->"


def run(backbone: Path | None) -> dict[str, Any]:
    """Measure everything, one after the other."""
    overlays = [overlay(None)] + ([overlay(backbone)] if backbone else [])
    return {"overlays": overlays, "drawing": [speed(), speed(2000, 5, 10_000)], "provenance": provenance()}


def table(found: dict[str, Any]) -> str:
    """Return the tables in Markdown."""
    lines = ["| pictures of 1184 × 888 | server ready, s | first overlay, s | after the next stroke, s |", "|---|---|---|---|"]
    for each in found["overlays"]:
        name = each["backbone"] or "filters alone"
        lines.append(f"| {name} | {each['server_ready_s']:.1f} | {each['first_s']:.1f} | {each['third_stroke_s']:.1f} |")
    large, many = found["drawing"]
    head = f"| | {large['side']} px a side, {large['strokes']} strokes | {many['images']:,} images in the list |"
    lines += ["", head, "|---|---|---|"]
    for key, words in {
        "pointer_to_ink_ms": "pointer event to ink on the canvas, ms, median / 95 %",
        "pointer_to_screen_ms": "pointer event to the frame that shows it, ms",
        "frame_while_zooming_ms": "a frame while zooming, ms",
    }.items():
        cells = [f"{each[key]['median']:.1f} / {each[key]['p95']:.1f}" for each in (large, many)]
        lines.append(f"| {words} | {cells[0]} | {cells[1]} |")
    last = {"memory_of_page_mb": "memory of the page's process, MB", "list_and_classes_after_s": "list and classes after, s"}
    last |= {"usable_after_s": "image can be drawn on after, s", "picture_after_s": "first sight of it after, s"}
    lines += [f"| {words} | {large[key]:.1f} | {many[key]:.1f} |" for key, words in last.items()]
    machine, commit = found["provenance"]["machine"], found["provenance"]["commit"]
    where = f"{machine['processor']}, {machine['cores']} cores, no GPU, headless Chromium drawing in software; commit {commit}"
    note = (
        "Ink: until the stroke is on its canvas. Frame: as the browser's compositor reports it (EventLatency) at 60 Hz; who "
        "moves the pen right after a frame waits 16.7 ms for the next one, whatever the page does."
    )
    return "\n".join([*lines, "", f"{where}, `python -m benchmarks.page run`.", note])


def main() -> None:
    """Run or write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["run", "write"])
    parser.add_argument("--backbone", type=Path)
    args = parser.parse_args()
    if args.what == "run":
        write_text(RESULT, json.dumps(run(args.backbone), indent=1) + "\n")
    head, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    found = json.loads(RESULT.read_text(encoding="utf-8"))
    write_text(PAGE, f"{head}{BEGIN}\n\n{table(found)}\n\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
