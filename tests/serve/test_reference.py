"""The document, the page and the docs say the same as the server does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import scribbleseg
from scribbleseg.serve.fetching import Fetcher
from scribbleseg.serve.outputs import OUTPUTS
from scribbleseg.serve.reference import CALLS, ERRORS, LABEL_STUDIO_CALLS
from tests.serve.serving import serving

DOCS = Path(scribbleseg.__file__).parents[2] / "docs" / "reference" / "serve-api.md"
ALL = (*CALLS, *LABEL_STUDIO_CALLS)

needs_docs = pytest.mark.skipif(not DOCS.is_file(), reason="installed without its docs")


@pytest.fixture(scope="module")
def client():
    with serving(fetcher=Fetcher("http://127.0.0.1:8080")) as client:
        yield client


def test_the_document_is_openapi_and_has_every_route(client):
    from openapi_spec_validator import validate

    document = client.get("/openapi.json").json()
    validate(document)
    told = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert told == {(call.method, call.path) for call in ALL}
    routes = {route.path for route in client.app.app.routes} - {"/style.css"}
    assert routes == {path for _, path in told}
    operation = document["paths"]["/v1/predict"]["post"]
    assert operation["parameters"][0]["schema"]["enum"] == list(OUTPUTS)
    assert set(operation["responses"]["200"]["content"]) == {form.media_type for form in OUTPUTS.values()}


def test_without_label_studio_its_routes_are_neither_there_nor_told():
    with serving() as client:
        assert not [path for path in client.get("/openapi.json").json()["paths"] if "label-studio" in path]


def test_the_page_works_without_a_network(client):
    text = client.get("/").text
    assert "<script" not in text
    assert re.findall(r'(?:src|href|action)="([^"]+)"', text) == [
        "data:,",
        "style.css",
        "openapi.json",
        "v1/predict?output=overlay",
        "v1/predict?output=json",
    ]
    assert "url(" not in client.get("/style.css").text
    for call in ALL:
        assert f"<code>{call.method} {call.path}</code>" in text


@needs_docs
def test_the_docs_have_every_call_status_form_and_number(client):
    text = DOCS.read_text(encoding="utf-8")
    told = set(re.findall(r"^\| `(GET|POST) (/[^`]*)` \|", text, re.M))
    assert told == {(call.method, call.path) for call in ALL}
    statuses = {int(found): words for found, words in re.findall(r"^\| (\d{3}) \| (.*) \|$", text, re.M)}
    assert statuses == ERRORS
    forms = {name: (media, words) for name, media, words in re.findall(r"^\| `(\w+)` \| `([^`]+)` \| (.*) \|$", text, re.M)}
    assert forms == {name: (form.media_type, form.words) for name, form in OUTPUTS.items()}
    own = set(re.findall(r"^# TYPE (scribbleseg_\w+)", client.get("/metrics").text, re.M))
    assert {name for name in own if not name.endswith("_created")} == set(re.findall(r"^\| `(scribbleseg_\w+)` \|", text, re.M))
