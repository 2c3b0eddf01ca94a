"""Routes of the audit: random points to judge, answers, and what follows from them."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from scribbleseg.annotate.answers import Pool, answer
from scribbleseg.annotate.commands import parsed
from scribbleseg.annotate.learning import Learning
from scribbleseg.annotate.project import Project
from scribbleseg.audit import points
from scribbleseg.audit.estimate import estimate
from scribbleseg.errors import DataError


class Wanted(BaseModel):
    """An audit that a page asks for."""

    model_config = ConfigDict(extra="forbid", strict=True)

    number: Annotated[int, Field(ge=1, le=10_000)]
    unit: Literal["pixel", "patch"] = "pixel"


class Answer(BaseModel):
    """What a person says of one point; None where nobody can tell."""

    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)

    item: Annotated[int, Field(ge=1)]
    label: Annotated[int | None, Field(ge=0, alias="class")]


def routes(project: Project, learner: Learning) -> list[Route]:
    """Return the routes. An audit's points are kept with the project, so that a reload or a restart loses no answer."""
    pool = Pool(2)

    def begin(request: Request, body: bytes) -> Response:
        wanted = parsed(Wanted, body)
        sample = points.Pool(project.names, wanted.number, wanted.unit, np.random.default_rng())
        sides, kinds = {}, set()
        shown = learner.status()["shown"]["kind"]  # of one kind of model alone, or the numbers would be of neither
        for row in project.images():
            found = learner.prediction(row.id, shown)
            if found is not None:
                sample.add(str(row.id), found.labels, None if found.sure is None else found.sure / np.float32(255))
                sides[str(row.id)] = found.labels.shape
                kinds.add(f"{found.kind} {found.number}")
        plan = sample.plan()
        if not plan.items:
            raise DataError("audit", "a prediction to judge", "none yet", "draw strokes of two classes, and wait")
        tree = plan.tree()
        for item in tree["items"]:  # from the prediction's grid to the image's pixels
            (high, wide), (height, width) = sides[item["image"]], project.size(int(item["image"]))
            item["x"] = min(int((item["x"] + 0.5) * width / wide), width - 1)
            item["y"] = min(int((item["y"] + 0.5) * height / high), height - 1)
            item["radius"] = round(item["radius"] * width / wide) if wanted.unit == "patch" else item["radius"]
        body_text = json.dumps({"plan": tree, "models": sorted(kinds), "images": len(sides)})
        number = project.log.execute("INSERT INTO audits (body) VALUES (?)", (body_text,))
        items = [
            {"item": item["number"], "image": int(item["image"]), "x": item["x"], "y": item["y"], "radius": item["radius"]}
            for item in tree["items"]
        ]
        return answer({"audit": number, "images": len(sides), "items": items})

    def newest() -> tuple[int, dict[str, object]]:
        rows = project.log.rows("SELECT id, body FROM audits ORDER BY id DESC LIMIT 1")
        if not rows:
            raise DataError("audit", "one that was begun", "none", "begin one")
        return int(rows[0][0]), json.loads(rows[0][1])

    def take(request: Request, body: bytes) -> Response:
        given = parsed(Answer, body)
        number, kept = newest()
        plan = points.Plan.from_tree(kept["plan"])  # type: ignore[arg-type]
        if given.item > len(plan.items) or (given.label is not None and given.label >= len(plan.names)):
            got = f"point {given.item}, class {given.label}"
            raise DataError("audit", f"one of {len(plan.items)} points and {len(plan.names)} classes", got, "load the page")
        statement = "INSERT INTO answers VALUES (?, ?, ?) ON CONFLICT (audit, item) DO UPDATE SET class = excluded.class"
        project.log.execute(statement, (number, given.item, given.label))
        return answer({"answered": len(project.log.rows("SELECT 1 FROM answers WHERE audit = ?", (number,)))})

    def result(request: Request, body: bytes) -> Response:
        number, kept = newest()
        plan = points.Plan.from_tree(kept["plan"])  # type: ignore[arg-type]
        given = dict(project.log.rows("SELECT item, class FROM answers WHERE audit = ?", (number,)))
        tree = estimate(plan, given).tree()
        return answer({"audit": number, "images": kept["images"], "models": kept["models"], "points": len(plan.items)} | tree)

    return [
        Route("/api/audit", pool(begin), methods=["POST"]),
        Route("/api/audit", pool(result)),
        Route("/api/audit/answers", pool(take), methods=["POST"]),
    ]
