"""The server of the drawing page with a learner that knows the answer: ``python -m tests.e2e.annotate_server FOLDER PORT``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import uvicorn

from scribbleseg.annotate.app import create_app
from scribbleseg.annotate.project import Project


class FakeLearner:
    """Takes what is green for class 1 and all else for class 0, as soon as an image has strokes of two classes."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.state = "none"

    def strokes_changed(self, image: int) -> None:
        pass

    def classes_changed(self) -> None:
        pass

    def look_at(self, image: int) -> None:
        pass

    def close(self) -> None:
        pass

    def prediction(self, image: int, kind: str | None = None) -> Any:
        strokes = self.project.strokes(image)
        if len({s.label for s in strokes if s.tool == "brush"}) < 2:
            return None
        rgb = self.project.rgb(image)
        green = rgb[..., 1] - rgb[..., 0]
        return SimpleNamespace(
            labels=(green > 0).astype(np.uint8),
            doubt=(255 * np.exp(-12 * np.abs(green))).astype(np.uint8),
            sure=(255 - 127 * np.exp(-12 * np.abs(green))).astype(np.uint8),
            kind="instant",
            number=len(strokes),
            version=self.project.version(image),
            trained_on=1,
            seen=True,
            title="Instant model",
            scores={"instant": {"value": 0.9, "error": 0.03, "strokes": 12, "classes": 2}},
        )

    def predictions(self, images: Sequence[int]) -> Iterator[tuple[int, Any]]:
        return ((image, made) for image in images if (made := self.prediction(image)) is not None)

    def doubts(self) -> dict[int, float]:
        rows = self.project.log.rows("SELECT id FROM images WHERE num_strokes = 0")
        return {image: image / 10 for (image,) in rows}

    def status(self) -> dict[str, Any]:
        training = {"state": self.state, "step": 40, "max_steps": 100, "seconds_left": 75, "message": ""}
        training["losses"] = {"partial_ce": [1.1, 0.8, 0.5, 0.4]} if self.state != "none" else {}
        return {
            "instant": {"state": "ready", "seconds": 1.5},
            "training": training,
            "shown": {"kind": "instant", "number": 1, "why": "The network has no score yet."},
        }

    def train(self, action: str, max_steps: int | None = None) -> None:
        self.state = {"start": "running", "resume": "running", "stop": "stopped"}[action]

    def places(self, limit: int) -> list[Any]:
        last = self.project.images()[-1].id
        return [SimpleNamespace(image=last, x0=70, y0=20, x1=110, y1=60, doubt=0.8)]


def main(folder: str, port: str) -> None:
    project = Project(Path(folder))
    app = create_app(project, FakeLearner(project))
    uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="warning")


if __name__ == "__main__":
    main(*sys.argv[1:])
