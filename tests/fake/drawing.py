"""Folders of pictures, and a client that draws on them as the page does."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow

NUMBERS = itertools.count()


def picture_folder(root: Path, number: int = 3, size: tuple[int, int] = (40, 60)) -> Path:
    """Make a folder with pictures p0.png … and nothing else."""
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for k in range(number):
        Pillow.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)).save(root / f"p{k}.png")
    return root


def stroke(
    label: int = 1, points: Any = ((5.5, 5.5), (30.25, 20.5)), width: float = 4.0, tool: str = "brush"
) -> dict[str, Any]:
    """Return a stroke as the page sends it."""
    return {"class": label, "width_px": width, "tool": tool, "points": [list(p) for p in points]}


def add(*args: Any, **kwargs: Any) -> dict[str, Any]:
    """Return the command that draws a stroke."""
    return {"id": f"c{next(NUMBERS)}", "op": "add", "stroke": stroke(*args, **kwargs)}


def op(name: str, **more: Any) -> dict[str, Any]:
    """Return another command."""
    return {"id": f"c{next(NUMBERS)}", "op": name, **more}


def send(client: Any, image: int, *commands: dict[str, Any], version: int | None = None) -> Any:
    """Send commands, at the present version if none is given, and return the response."""
    if version is None:
        version = client.get(f"/api/images/{image}").json()["version"]
    return client.post(f"/api/images/{image}/commands", json={"commands": list(commands)}, headers={"If-Match": str(version)})


def change(client: Any, **wanted: Any) -> Any:
    """Change the classes and return the response."""
    version = client.get("/api/project").json()["class_version"]
    return client.post("/api/classes", json=wanted, headers={"If-Match": str(version)})
