"""The drawing page in Firefox: what is drawn is what the server has, and what is shown after a reload."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from tests.e2e import firefox
from tests.e2e.annotating import _RGB, MARKS, Server, assert_drawn

pytestmark = [pytest.mark.browser, pytest.mark.skipif(firefox.FIREFOX is None, reason="no firefox on the PATH")]

SAVED = (
    "return document.getElementById('save')?.dataset.state === 'saved' && document.getElementById('where').textContent !== ''"
)
COUNT = "return document.querySelector('.image[aria-selected=true] .facts')?.textContent.startsWith(arguments[0] + ' stroke')"
CONTROL, DELETE = "\ue009", "\ue017"


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[firefox.Firefox]:
    with firefox.running(tmp_path_factory.mktemp("firefox") / "profile") as opened:
        yield opened


@pytest.fixture
def page(window: firefox.Firefox, server: Server) -> firefox.Firefox:
    """The page with an image of the test's own on the screen."""
    window.open("about:blank")
    window.open(f"{server.url}#image={server.image()}")
    window.wait("return document.getElementById('where')?.textContent.startsWith(arguments[0] + ' ')", server.stem())
    seen(window)
    return window


def seen(page: firefox.Firefox) -> dict[str, tuple[float, float]]:
    """Return where on the screen the middles of the marks are."""
    for _ in range(100):
        picture = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"), int)
        near = {name: (np.abs(picture - np.array(rgb)) < 70).all(-1) for name, rgb in _RGB.items()}
        large = {name: near[name][:, 240:880].sum() for name in MARKS}  # those in the list of images are small
        if min(large.values()) > 500:
            places = {}
            for name in MARKS:
                rows, columns = np.nonzero(near[name][:, 240:880])
                places[name] = (columns.mean() + 240.5, rows.mean() + 0.5)
            return places
    raise AssertionError(f"the picture does not appear: {large}")


def width(page: firefox.Firefox, wanted: int) -> None:
    for _ in range(40):
        shown = int(page.run("return document.getElementById('size-shown').textContent").split()[0])
        if shown == wanted:
            return
        page.press("]" if shown < wanted else "[")


@pytest.mark.parametrize("kind", ["mouse", "touch"])
def test_strokes_are_drawn_undone_and_there_after_a_reload(page, server, kind):
    width(page, 7)
    places = seen(page)
    page.drag([places["red"], places["green"]], kind)
    page.wait(SAVED)
    page.wait(COUNT, 1)
    assert_drawn(server.labels(), 0, ("red", "green"), 7)
    page.press("2")
    page.drag([places["green"], places["blue"]], kind)
    page.wait(COUNT, 2)
    page.wait(SAVED)
    before = server.labels()
    page.press(CONTROL, "z")
    page.wait(COUNT, 1)
    page.wait(SAVED)
    assert_drawn(server.labels(), 0, ("red", "green"), 7)
    page.press(CONTROL, "y")
    page.wait(COUNT, 2)
    page.wait(SAVED)
    assert np.array_equal(server.labels(), before)
    page.ask("WebDriver:Refresh")
    page.wait(SAVED)
    page.wait(COUNT, 2)
    assert len(server.strokes()) == 2


def test_the_overlay_and_the_stroke_that_is_selected(page, server):
    width(page, 7)
    places = seen(page)
    page.drag([places["red"], places["green"]])
    page.press("2")
    page.drag([places["green"], places["blue"]])
    page.wait("return document.getElementById('prediction-told').textContent.includes('no. 2')")
    page.wait("return !document.getElementById('layer-overlay').hidden")
    page.press("s")
    page.wait("return document.getElementById('layer-overlay').hidden")
    page.press("v")
    middle = tuple((a + b) / 2 for a, b in zip(places["green"], places["blue"], strict=True))
    page.drag([middle])
    page.wait("return document.querySelector('.halo:not([hidden])') && true")
    page.press(DELETE)
    page.wait(COUNT, 1)
    page.wait(SAVED)
    assert_drawn(server.labels(), 0, ("red", "green"), 7)
    assert page.run("return document.getElementById('notice').hidden")
