"""Label Studio's backend: its four questions, answered by the predictor that everybody asks.

The protocol is that of https://github.com/HumanSignal/label-studio-ml-backend: JSON in, a list of results for each task out.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from scribbleseg.data.formats.label_studio import framed, region
from scribbleseg.data.formats.qupath import outline
from scribbleseg.errors import DataError
from scribbleseg.extras import library
from scribbleseg.serve.admission import BusyError
from scribbleseg.serve.calls import answering
from scribbleseg.serve.fetching import Fetcher
from scribbleseg.serve.outputs import Answer
from scribbleseg.serve.predicting import Predictor
from scribbleseg.trees import from_json

#: Tasks of one question: Label Studio sends a handful.
MAX_TASKS = 256

#: Points nearer than this to the line between their neighbours are left out of polygons, in pixels.
TOLERANCE_PX = 0.75


class Control(NamedTuple):
    """What the labelling configuration says of where results belong.

    Attributes:
        kind: ``brushlabels`` or ``polygonlabels``.
        name: of the control.
        picture: ``name`` of the image it belongs to.
        key: of a task's data under which the image is.
        labels: class id of the model to the label's name.
    """

    kind: str
    name: str
    picture: str
    key: str
    labels: dict[int, str]


def routes(predictor: Predictor, fetcher: Fetcher) -> list[Route]:
    """Return the backend's routes."""

    def asked(path: str, work: Callable[..., Awaitable[Response]], *more: object) -> Route:
        endpoint = answering(predictor, functools.partial(work, predictor, *more))
        return Route(f"/label-studio/{path}", endpoint, methods=["POST"])

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "UP", "model_class": "scribbleseg"})

    return [
        Route("/label-studio/health", health),
        asked("setup", _setup),
        asked("predict", _predict, fetcher),
        asked("webhook", _webhook),
    ]


def version(predictor: Predictor) -> str:
    """Return a name of the model that changes when the model does."""
    return f"scribbleseg-{str(predictor.engine.origin['sha256'])[:12]}"


async def _setup(predictor: Predictor, request: Request, until: float) -> Response:
    tree = await _tree(request)
    if tree.get("schema"):
        control(tree["schema"], predictor.engine.names)  # says at once what would fail at every task
    return JSONResponse({"model_version": version(predictor)})


async def _webhook(predictor: Predictor, request: Request, until: float) -> Response:
    await _tree(request)
    return JSONResponse({})


async def _predict(predictor: Predictor, fetcher: Fetcher, request: Request, until: float) -> Response:
    """Answer for each task, in their order; a picture that cannot be had or predicted gets no regions, and a reason."""
    tree = await _tree(request)
    tasks = tree.get("tasks")
    if not isinstance(tasks, list) or len(tasks) > MAX_TASKS:
        raise DataError("tasks", f"a list of at most {MAX_TASKS}", ascii(tasks)[:100], "send fewer at a time")
    found = control(tree.get("label_config"), predictor.engine.names)
    name, results = version(predictor), []
    for task in tasks:
        try:
            data = await predictor.beside(fetcher.fetch, _address(task, found.key))
            made: dict[str, Any] = await predictor.predict(data, until, functools.partial(regions, control=found))
        except BusyError:
            raise
        except DataError as error:
            made = {"result": [], "score": 0.0, "error": f"{error.where}: {error.expected}; {error.got}; {error.do}"}
        results.append({**made, "model_version": name})
    return JSONResponse({"results": results, "model_version": name})


def control(configuration: object, names: tuple[str, ...]) -> Control:
    """Return where the results of a model belong.

    Args:
        configuration: the project's labelling configuration, XML.
        names: of the model's classes.

    Raises:
        DataError: no XML, no brush or polygon labels for an image, or none of them is a class of the model.
    """
    parser = library("defusedxml.ElementTree", "label_config", "which reads it", "serve")
    wanted = "a labelling configuration with BrushLabels (or PolygonLabels) for an Image"
    try:
        root = parser.fromstring(configuration if isinstance(configuration, str) else "", forbid_dtd=True)
    except Exception as error:  # of the parser, of what it defuses, or of the text's encoding
        raise DataError(
            "label_config", wanted, f"no XML: {str(error)[:100]}", "look at the project's labelling setup"
        ) from None
    images = {node.get("name"): str(node.get("value", "")).lstrip("$") for node in root.iter("Image")}
    for tag in ("BrushLabels", "PolygonLabels"):
        for node in root.iter(tag):
            picture = str(node.get("toName"))
            if picture not in images:
                continue
            values = [str(label.get("value")) for label in node.iter("Label")]
            folded = {value.casefold(): value for value in reversed(values)}
            labels = {k: folded[n.casefold()] for k, n in enumerate(names) if n.casefold() in folded}
            if not labels:
                do = "name the labels as the model's classes; capitals do not matter"
                raise DataError("label_config", f"a label of {', '.join(names)}"[:400], ", ".join(values)[:200] or "none", do)
            return Control(tag.lower(), str(node.get("name")), picture, images[picture], labels)
    raise DataError("label_config", wanted, "none", "add BrushLabels to the project's labelling setup")


def regions(answer: Answer, control: Control) -> dict[str, Any]:
    """Return a prediction of Label Studio: the regions of one picture, and how sure the network is."""
    result: list[dict[str, Any]] = []
    for class_id, label in control.labels.items():
        inside = answer.labels == class_id
        if not inside.any():
            continue
        if control.kind == "brushlabels":
            result.append(region(label, inside, f"region{class_id}", control.name, control.picture))
        else:
            result += _polygons(label, inside, class_id, control)
    return {"result": result, "score": answer.confidence}


def _polygons(label: str, inside: np.ndarray, class_id: int, control: Control) -> list[dict[str, Any]]:
    """Return the outer outlines of a class, simplified; holes cannot be said in Label Studio's polygons."""
    shapely = library("shapely", "Label Studio's polygons", "which draws outlines", "serve")
    height, width = inside.shape
    found = []
    for number, shape in enumerate(shapely.get_parts(shapely.from_geojson(json.dumps(outline(inside))))):
        ring = shapely.simplify(shapely.get_exterior_ring(shape), TOLERANCE_PX)
        points = (shapely.get_coordinates(ring)[:-1] * (100 / width, 100 / height)).tolist()
        if len(points) < 3:
            continue
        value = {"points": points, "polygonlabels": [label], "closed": True}
        name = f"region{class_id}-{number}"
        found.append(framed("polygonlabels", value, inside.shape, name, control.name, control.picture))
    return found


def _address(task: object, key: str) -> str:
    data = task.get("data") if isinstance(task, dict) else None
    value = data.get(key) if isinstance(data, dict) else None
    if not isinstance(value, str):
        raise DataError(f"task: {key}", "the address of a picture", ascii(value)[:100], "look at the task's data")
    return value


async def _tree(request: Request) -> dict[str, Any]:
    body = await request.body()
    request.state.read.set()
    try:
        tree = from_json(body)
    except ValueError as error:
        got = f"no JSON at character {error.pos}" if isinstance(error, json.JSONDecodeError) else "no UTF-8, or too deep"
        raise DataError("body", "a JSON object", got, "send what Label Studio sends") from None
    if not isinstance(tree, dict):
        raise DataError("body", "a JSON object", type(tree).__name__, "send what Label Studio sends")
    return tree
