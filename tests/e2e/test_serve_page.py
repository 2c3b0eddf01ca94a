"""The prediction server's page in a real browser: no errors, nothing from elsewhere, a form that works under its policy."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from tests.serve.serving import FakeEngine, colours, encoded

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A server of a model that needs no network."""
    uvicorn = pytest.importorskip("uvicorn")
    from scribbleseg.serve.admission import Limits
    from scribbleseg.serve.app import create_app
    from scribbleseg.serve.predicting import Predictor
    from scribbleseg.web.listening import listening

    with listening("127.0.0.1", None, 8421) as listener:
        app = create_app(Predictor(FakeEngine(), Limits()), title="leaves")
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        server.should_exit = True
        thread.join()


def test_the_page_opens_and_its_form_shows_the_classes(browser, address):
    page = browser.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    assert page.locator("h1").inner_text() == "leaves"
    assert page.locator("h3").count() == 7
    assert "`" not in page.locator("main").inner_text()
    assert f"{address}v1/predict" in page.locator("pre").inner_text()
    assert [url for url in asked if not url.startswith("data:")] == [address, f"{address}style.css"]
    assert said == []
    page.set_input_files("input[type=file]", {"name": "a.png", "mimeType": "image/png", "buffer": encoded(colours())})
    page.get_by_text("Show their shares").click()
    page.wait_for_url("**/v1/predict**")
    assert '"name":"leaf"' in page.locator("body").inner_text()
    page.go_back()
    page.set_input_files("input[type=file]", {"name": "a.png", "mimeType": "image/png", "buffer": encoded(colours())})
    page.get_by_text("Show the classes on it").click()
    page.wait_for_url("**/v1/predict**")
    assert page.locator("img").evaluate("image => [image.naturalWidth, image.naturalHeight]") == [60, 40]
    page.close()
