"""Routes that send pictures: views, tiles, thumbnails, labels, predictions."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from scribbleseg.annotate.answers import Pool, Work, answer, not_there, number_in
from scribbleseg.annotate.learning import Learning
from scribbleseg.annotate.pictures import Look, Pictures, encoded
from scribbleseg.annotate.project import Project
from scribbleseg.errors import DataError


def routes(project: Project, pictures: Pictures, learner: Learning) -> list[Route]:
    """Return the routes."""
    pool, quick = Pool(2), Pool(4)

    def view(request: Request, body: bytes) -> Response:
        image, look = number_in(request, "image"), look_of(request)
        return _kept(request, pictures.tag(image, look), lambda: pictures.view(image, look))

    def tile(request: Request, body: bytes) -> Response:
        image, look = number_in(request, "image"), look_of(request)
        level, x, y = (number_in(request, key) for key in ("level", "x", "y"))
        return _kept(request, pictures.tag(image, look), lambda: pictures.tile(image, look, level, x, y))

    def thumbnail(request: Request, body: bytes) -> Response:
        image = number_in(request, "image")
        return _kept(request, pictures.tag(image, Look()), lambda: (pictures.thumbnail(image), "image/jpeg"))

    def labels(request: Request, body: bytes) -> Response:
        image = number_in(request, "image")
        project.files.look(image)
        return _index(project.labels(image))

    def prediction(request: Request, body: bytes) -> Response:
        image = project.image(number_in(request, "image"))
        found = learner.prediction(image.id, _kind(request))
        if found is None:
            return not_there("prediction", "none yet")
        what = request.path_params.get("what")
        if what is not None:
            return _index(found.labels if what == "labels" else found.doubt)
        model = {"kind": found.kind, "number": found.number, "title": found.title}
        model |= {"trained_on": found.trained_on, "seen": found.seen}
        return answer(
            {
                "model": model,
                "version": found.version,
                "stale_strokes": max(0, image.version - found.version),
                "width": found.labels.shape[1],
                "height": found.labels.shape[0],
                "score": found.scores,
            }
        )

    at = "/api/images/{image}"
    return [
        Route(f"{at}/view", pool(view)),
        Route(f"{at}/tiles/{{level}}/{{x}}/{{y}}", pool(tile)),
        Route(f"{at}/thumbnail", pool(thumbnail)),
        Route(f"{at}/labels", quick(labels)),
        Route(f"{at}/prediction", quick(prediction)),
        Route(f"{at}/prediction/labels", quick(_with(prediction, "labels"))),
        Route(f"{at}/prediction/doubt", quick(_with(prediction, "doubt"))),
    ]


def look_of(request: Request) -> Look:
    """Return how a picture is to be shown.

    Raises:
        DataError: numbers that are none.
    """
    query = request.query_params
    try:
        low, high = (float(query[key]) if key in query else None for key in ("low", "high"))
        channels = tuple(int(part) for part in query["channels"].split(",")) if query.get("channels") else None
        if any(value is not None and not math.isfinite(value) for value in (low, high)):
            raise ValueError
        if channels is not None and (len(channels) not in (1, 3) or not all(0 <= c < 10_000 for c in channels)):
            raise ValueError
    except ValueError:
        raise DataError("view", "low=NUMBER, high=NUMBER, channels=0,1,2", ascii(str(query))[:100], "use the page") from None
    return Look(channels, low, high)


def _with(work: Work, what: str) -> Work:
    def asked(request: Request, body: bytes) -> Response:
        request.path_params["what"] = what
        return work(request, body)

    return asked


def _kind(request: Request) -> str | None:
    kind = request.query_params.get("model")
    if kind not in (None, "instant", "network"):
        raise DataError("model", "instant or network", ascii(kind)[:50], "use the page")
    return kind


def _kept(request: Request, tag: str, make: Callable[[], tuple[bytes, str]]) -> Response:
    """Answer that nothing changed where the browser has the picture already."""
    headers = {"etag": tag, "cache-control": "private, no-cache"}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    data, kind = make()
    return Response(data, media_type=kind, headers=headers)


def _index(labels: np.ndarray) -> Response:
    data, kind = encoded(np.ascontiguousarray(labels, dtype=np.uint8), lossy=False)
    return Response(data, media_type=kind)
