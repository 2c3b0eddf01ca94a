"""One headless browser for a file of tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.e2e.annotating import Server, make_folder, open_page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """A headless Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium on the PATH")
    with playwright.sync_playwright() as p:
        opened = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The drawing page's server, one for a file of tests."""
    served = Server(make_folder(tmp_path_factory.mktemp("annotate") / "photos"))
    yield served
    served.kill()


@pytest.fixture
def server(running: Server) -> Server:
    """Three images of a test's own on it."""
    return running.take()


@pytest.fixture
def page(browser, server):
    """The drawing page, which must not have said a word."""
    opened = open_page(browser, server)
    yield opened
    assert opened.errors == []
    opened.context.close()
