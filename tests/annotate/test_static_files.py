"""The page's own files: found, kept by the browser until one changes, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import scribbleseg.annotate

STATIC = Path(scribbleseg.annotate.__file__).parent / "static"


def test_every_file_that_the_page_names_is_there_and_kept(page):
    index = page.get("/")
    assert index.headers["cache-control"] == "no-cache"
    named = re.findall(r'(?:href|src)="(/static/[^"]+)"', index.text)
    assert len(named) > 30
    for path in named:
        answer = page.get(path)
        assert answer.status_code == 200, path
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_every_module_is_asked_for_at_once():
    index = (STATIC / "index.html").read_text(encoding="utf-8")
    named = re.findall(r'"/static/js/([^"]+)"', index)
    assert sorted(named) == sorted(path.name for path in (STATIC / "js").glob("*.js"))
    for path in (STATIC / "js").glob("*.js"):  # relative, so that they have the page's digest in their address
        assert not re.search(r"""["'`]/static""", path.read_text(encoding="utf-8")), path.name


def test_a_changed_file_has_another_address(tmp_path):
    starlette = pytest.importorskip("starlette.applications")
    from starlette.testclient import TestClient

    from scribbleseg.annotate.static_files import StaticFiles

    (tmp_path / "index.html").write_text('<script src="/static/a.js"></script>', encoding="utf-8")
    (tmp_path / "a.js").write_text("1", encoding="utf-8")
    client = TestClient(starlette.Starlette(routes=StaticFiles(tmp_path).routes()))
    before = client.get("/").text.split('"')[1]
    assert client.get(before).text == "1"
    (tmp_path / "a.js").write_text("22", encoding="utf-8")
    after = client.get("/").text.split('"')[1]
    assert after != before
    assert client.get(after).text == "22"
    old = client.get(before)  # a page that was loaded before: what there is, and not to be kept
    assert (old.text, old.headers["cache-control"]) == ("22", "no-cache")
    assert client.get(after + "x").status_code == 404
