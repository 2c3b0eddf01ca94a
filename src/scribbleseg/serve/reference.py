"""What the server can be asked, once: the routes, the OpenAPI document and the page are made from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jinja2

from scribbleseg.serve.outputs import OUTPUTS
from scribbleseg.serve.pictures import MEDIA_TYPES

TEMPLATE = "serve.html.j2"

#: Status to what it means, of all answers that are errors.
ERRORS: dict[int, str] = {
    401: "the server listens beyond this computer, and the token is missing",
    403: "wrong `Host`, or the request of a web page",
    404: "no such address",
    405: "the address takes another method",
    406: "no form of answer that `output` or `Accept` names",
    413: "a body of too many bytes, or a picture of too many pixels; it was not decoded",
    415: "not PNG, JPEG, WebP or TIFF, nor a form",
    422: "a picture that is broken, or whose channels or values the model cannot use",
    500: "a failure of the program",
    503: "no room now: nothing was done, `Retry-After` says in how many seconds to ask again",
    504: "not done in time",
}


@dataclass(frozen=True)
class Call:
    """One address.

    Attributes:
        method: of HTTP.
        path: from the root.
        words: what it does.
        answers: media type to what the body is.
        errors: statuses beside those that every address has.
        queries: name to what it says and, where they are few, the values it may have.
        picture: whether its body is a picture.
        tree: whether its body is a JSON object.
    """

    method: str
    path: str
    words: str
    answers: Mapping[str, str]
    errors: tuple[int, ...] = ()
    queries: Mapping[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    picture: bool = False
    tree: bool = False


def _forms() -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for name, form in OUTPUTS.items():
        found.setdefault(form.media_type, []).append(f"{name}: {form.words}")
    return {media: "; ".join(words) for media, words in found.items()}


CALLS: tuple[Call, ...] = (
    Call(
        "POST",
        "/v1/predict",
        "Predict a picture: its bytes as the body, or a form with a file `image`.",
        _forms(),
        (401, 406, 413, 415, 422, 500, 503, 504),
        {"output": ("Form of the answer; `Accept` picks one where it is not given", tuple(OUTPUTS))},
        picture=True,
    ),
    Call(
        "GET",
        "/v1/model",
        "What the model is, and what the server takes.",
        {"application/json": "names, sizes, origin"},
        (401,),
    ),
    Call("GET", "/health/live", "Whether the server runs.", {"application/json": "status"}),
    Call("GET", "/health/ready", "Whether it takes pictures.", {"application/json": "status, requests in hand"}, (503,)),
    Call("GET", "/metrics", "Numbers for Prometheus.", {"text/plain": "Prometheus' own form"}, (401,)),
    Call("GET", "/openapi.json", "This, for programs.", {"application/json": "OpenAPI 3.1"}),
    Call("GET", "/", "This, for people, with a form to try it.", {"text/html": "a page without scripts"}),
)

#: The addresses that Label Studio asks, where the server is its backend.
LABEL_STUDIO_CALLS: tuple[Call, ...] = (
    Call("GET", "/label-studio/health", "Whether the backend runs.", {"application/json": "status"}, (401,)),
    Call(
        "POST", "/label-studio/setup", "Name the model's version.", {"application/json": "model_version"}, (401, 422), tree=True
    ),
    Call(
        "POST",
        "/label-studio/predict",
        "Predict the pictures of tasks.",
        {"application/json": "results: brush masks or polygons, one list a task"},
        (401, 413, 422, 500, 503, 504),
        tree=True,
    ),
    Call(
        "POST",
        "/label-studio/webhook",
        "Take note of an event; nothing is learnt.",
        {"application/json": "{}"},
        (401, 422),
        tree=True,
    ),
)


def openapi(calls: tuple[Call, ...], version: str) -> dict[str, Any]:
    """Return the OpenAPI document of some routes."""
    paths: dict[str, dict[str, Any]] = {}
    for call in calls:
        paths.setdefault(call.path, {})[call.method.lower()] = _operation(call)
    error = {
        "type": "object",
        "properties": {key: {"type": "string"} for key in ("where", "expected", "got", "do")},
        "required": ["where", "expected", "got", "do"],
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "scribbleseg",
            "version": version,
            "summary": "Dense segmentation by a network trained from scribbles.",
        },
        "paths": paths,
        "components": {
            "schemas": {"Error": error},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(call: Call) -> dict[str, Any]:
    binary = {"type": "string", "contentMediaType": "application/octet-stream"}
    answers: dict[str, Any] = {
        "200": {
            "description": "; ".join(call.answers.values()),
            "content": {media: {"schema": {} if media.endswith("json") else binary} for media in call.answers},
        }
    }
    for status in (403, *call.errors):
        content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
        answers[str(status)] = {"description": ERRORS[status], "content": content}
        if status == 503:
            answers["503"]["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds"}}
    found: dict[str, Any] = {"summary": call.words, "operationId": _id(call), "responses": answers}
    if 401 in call.errors:
        found["security"] = [{}, {"token": []}]
    if call.queries:
        found["parameters"] = [
            {"name": name, "in": "query", "description": words, "schema": {"type": "string", "enum": list(values)}}
            for name, (words, values) in call.queries.items()
        ]
    if call.picture:
        form = {"type": "object", "properties": {"image": binary}, "required": ["image"]}
        content = {media: {"schema": binary} for media in (*MEDIA_TYPES, "application/octet-stream")}
        found["requestBody"] = {"required": True, "content": content | {"multipart/form-data": {"schema": form}}}
    elif call.tree:
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}
    return found


def _id(call: Call) -> str:
    words = call.path.strip("/").replace(".", "/").replace("-", "/").split("/")
    return "_".join([call.method.lower(), *(word for word in words if word)])


def page(calls: tuple[Call, ...], title: str, names: Mapping[str, str], address: str, *, with_form: bool) -> str:
    """Return the page for people: one file beside its style, no scripts, nothing from elsewhere."""
    loader = jinja2.PackageLoader("scribbleseg", "templates")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.get_template(TEMPLATE)
    return template.render(
        calls=calls,
        title=title,
        names=names,
        address=address,
        errors=ERRORS,
        outputs=OUTPUTS,
        media=MEDIA_TYPES,
        with_form=with_form,
    )
