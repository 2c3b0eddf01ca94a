from __future__ import annotations

import contextlib

import pytest

from tests.fake.drawing import picture_folder

WRITING = {"X-Scribbleseg": "1"}


@contextlib.contextmanager
def page_of(root, **options):
    pytest.importorskip("starlette")
    from scribbleseg.annotate.project import Project

    with page_of_project(Project(root), options.pop("learner", None), **options) as client:
        yield client


@contextlib.contextmanager
def page_of_project(project, learner, **options):
    """Yield a client of a project's page; project and learner are closed afterwards."""
    from starlette.testclient import TestClient

    from scribbleseg.annotate.app import create_app

    app = create_app(project, learner, **options)
    with TestClient(app, base_url="http://127.0.0.1:8321", headers=WRITING, raise_server_exceptions=False) as client:
        client.project = project
        yield client


@pytest.fixture
def folder(tmp_path):
    return picture_folder(tmp_path / "pictures")


@pytest.fixture
def page(folder):
    with page_of(folder) as client:
        yield client
