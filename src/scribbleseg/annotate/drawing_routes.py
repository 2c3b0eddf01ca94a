"""Routes of the project itself: images, strokes, classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from scribbleseg.annotate.answers import Pool, answer, expected_version, failure, number_in
from scribbleseg.annotate.classes import MAX_CLASSES, ClassChange
from scribbleseg.annotate.commands import MAX_COMMANDS, parsed, read_commands
from scribbleseg.annotate.learning import Learning, tell
from scribbleseg.annotate.pictures import TILE_PX, WHOLE_PX, Pictures
from scribbleseg.annotate.project import Project, StaleError
from scribbleseg.annotate.security import MAX_BODY, MAX_IMPORT
from scribbleseg.annotate.strokes import told_of
from scribbleseg.data.formats import FORMATS
from scribbleseg.data.images import MAX_PIXELS
from scribbleseg.data.vector import MAX_POINTS, MAX_WIDTH_PX
from scribbleseg.palette import hex_colours

LIMITS = {
    "body": MAX_BODY,
    "import": MAX_IMPORT,
    "pixels": MAX_PIXELS,
    "points": MAX_POINTS,
    "width_px": MAX_WIDTH_PX,
    "commands": MAX_COMMANDS,
    "classes": MAX_CLASSES,
    "view_px": WHOLE_PX,
}


class Done(BaseModel):
    """The body of a done flag."""

    model_config = ConfigDict(extra="forbid", strict=True)

    done: bool


def routes(project: Project, pictures: Pictures, learner: Learning, token_needed: bool) -> list[Route]:
    """Return the routes."""
    pool = Pool(8)

    def about() -> dict[str, Any]:
        with project.log.lock:
            classes, version, counts = project.classes, project.class_version, project.strokes_by_class()
        rows = enumerate(zip(classes.uids, classes.names, classes.colours, counts, strict=True))
        return {
            "name": project.spec.name,
            "key": project.key,
            "title_version": version,
            "classes": [
                {"id": k, "key": key, "name": name, "colour": colour, "strokes": n} for k, (key, name, colour, n) in rows
            ],
            "class_ids": {str(key): k for key, k in classes.ids.items()},
            "num_images": project.log.rows("SELECT COUNT(*) FROM images WHERE position IS NOT NULL")[0][0],
            "class_version": version,
            "palette": hex_colours(24),
            "token_needed": token_needed,
            "formats": {"read": list(FORMATS), "write": [name for name, each in FORMATS.items() if each.writes]},
            "limits": LIMITS,
        }

    def about_image(image: int) -> dict[str, Any]:
        row, (height, width) = project.image(image), project.size(image)
        with project.log.lock:
            shown, base, version, _ = project.shown(image)
            drawing = project.drawing(image)
            can_undo, can_redo = drawing.can_undo, drawing.can_redo
        levels = pictures.levels(image)
        return {
            "id": image,
            "stem": row.stem,
            "width": width,
            "height": height,
            "version": version,
            "done": row.done,
            "has_base": base is not None,
            "tile_px": TILE_PX if levels > 1 else None,
            "levels": levels,
            "strokes": [told_of(d.stroke, d.id, label) | {"class_key": d.uid} for d, label in shown],
            "can_undo": can_undo,
            "can_redo": can_redo,
            "bands": pictures.bands(image),
            "problem": project.problem(image),
        }

    def show_project(request: Request, body: bytes) -> Response:
        return answer(about())

    def list_images(request: Request, body: bytes) -> Response:
        return answer(_columns(project, learner.doubts()))

    def show_image(request: Request, body: bytes) -> Response:
        image = number_in(request, "image")
        project.files.look(image)
        tell(learner, "look_at", image)
        return answer(about_image(image))

    def draw(request: Request, body: bytes) -> Response:
        image = number_in(request, "image")
        try:
            project.apply(image, expected_version(request), read_commands(body))
        except StaleError as error:
            told = {"where": error.where, "expected": error.expected, "got": error.got, "do": error.do}
            tree = answer({**told, "known": error.known, "image": about_image(image)})
            tree.status_code = 412
            return tree
        tell(learner, "strokes_changed", image)
        with project.log.lock:
            drawing, version = project.drawing(image), project.version(image)
            told_back = {"version": version, "can_undo": drawing.can_undo, "can_redo": drawing.can_redo}
            return answer({**told_back, "strokes": len(drawing.strokes)})

    def set_done(request: Request, body: bytes) -> Response:
        image = number_in(request, "image")
        done = parsed(Done, body).done
        project.set_done(image, done)
        return answer({"done": done})

    def change_classes(request: Request, body: bytes) -> Response:
        try:
            touched = project.change(expected_version(request), parsed(ClassChange, body))
        except StaleError as error:
            refusal = failure(error)
            tree = answer({"where": error.where, "expected": error.expected, "got": error.got, "do": error.do, **about()})
            tree.status_code = refusal.status_code
            return tree
        tell(learner, "classes_changed")
        return answer({**about(), "strokes_touched": touched})

    return [
        Route("/api/project", pool(show_project)),
        Route("/api/images", pool(list_images)),
        Route("/api/images/{image}", pool(show_image)),
        Route("/api/images/{image}/commands", pool(draw), methods=["POST"]),
        Route("/api/images/{image}/done", pool(set_done), methods=["PUT"]),
        Route("/api/classes", pool(change_classes), methods=["POST"]),
    ]


def _columns(project: Project, doubts: Mapping[int, float]) -> dict[str, Sequence[Any]]:
    """Return the list as columns, in the order of the names: without a record an image, in a third of the time."""
    rows = project.log.rows(
        "SELECT id, stem, num_strokes, done, version, has_base FROM images WHERE position IS NOT NULL ORDER BY position"
    )
    ids, stems, strokes, done, versions, bases = zip(*rows, strict=True)
    flags = {"done": [bool(flag) for flag in done], "has_base": [bool(flag) for flag in bases]}
    told = {"id": ids, "stem": stems, "strokes": strokes, "version": versions}
    return {**told, **flags, "doubt": [doubts.get(image) for image in ids]}
