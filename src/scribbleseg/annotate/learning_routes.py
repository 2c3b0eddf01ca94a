"""Routes about what is learnt: state, training, where to draw next."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from scribbleseg.annotate.answers import Pool, answer
from scribbleseg.annotate.commands import parsed
from scribbleseg.annotate.learning import Learning
from scribbleseg.annotate.places import ENABLED, WHY
from scribbleseg.annotate.predicted import Progress
from scribbleseg.annotate.project import Project
from scribbleseg.errors import DataError


class Training(BaseModel):
    """What a page may ask of the background training."""

    model_config = ConfigDict(extra="forbid", strict=True)

    action: Literal["start", "stop", "resume"]
    max_steps: Annotated[int | None, Field(ge=1, le=1_000_000)] = None


def routes(project: Project, learner: Learning, progress: Progress) -> list[Route]:
    """Return the routes."""
    pool = Pool(4)

    def status(request: Request, body: bytes) -> Response:
        tree: dict[str, Any] = dict(learner.status())
        about = None
        if (text := request.query_params.get("image", "")).isdigit() and len(text) < 16:
            row = project.image(int(text))
            found = learner.prediction(row.id)
            about = {"version": row.version, "prediction_number": None if found is None else found.number}
        (revision,) = project.log.rows("SELECT COALESCE(MAX(seq), 0) FROM commands")[0]
        tree |= {"revision": revision + project.class_version, "image": about, "storage": project.files.problem}
        tree["exporting"] = progress.tree()
        return answer(tree)

    def train(request: Request, body: bytes) -> Response:
        order = parsed(Training, body)
        if order.action != "stop":
            project.files.flush()
        learner.train(order.action, order.max_steps)
        return answer({"training": learner.status()["training"]})

    def next_places(request: Request, body: bytes) -> Response:
        text = request.query_params.get("limit", "9")
        if not text.isdigit() or not 1 <= int(text[:4]) <= 100:
            raise DataError("limit", "a number from 1 to 100", ascii(text)[:20], "use the page")
        places = learner.places(int(text))
        rows = [{"image": p.image, "x0": p.x0, "y0": p.y0, "x1": p.x1, "y1": p.y1, "doubt": float(p.doubt)} for p in places]
        return answer(
            {
                "places": rows,
                "enabled": ENABLED,
                "why": WHY if rows else "no places yet: they follow the first prediction by some seconds",
            }
        )

    return [
        Route("/api/status", pool(status)),
        Route("/api/training", pool(train), methods=["POST"]),
        Route("/api/next", pool(next_places)),
    ]
