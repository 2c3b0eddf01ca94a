"""One stroke is chosen, given another class or taken away: with the pointer, with keys alone, and undone."""

from __future__ import annotations

import numpy as np
import pytest

from scribbleseg.records import UNLABELLED
from tests.e2e.annotating import MARKS, assert_drawn, drag, open_in, saved, seen, set_width, shown

pytestmark = pytest.mark.browser


@pytest.fixture
def crossed(page, server):
    """A page with a stroke of class 0 from red to green, one of class 1 from green to blue on top of its end."""
    set_width(page, 7)
    places = seen(page)
    for key, pair in (("1", ("red", "green")), ("2", ("green", "blue"))):
        page.keyboard.press(key)
        drag(page, [places[name] for name in pair])
    saved(page)
    page.keyboard.press("v")
    return page, places


def middle(places, first, second):
    return tuple((a + b) / 2 for a, b in zip(places[first], places[second], strict=True))


def test_a_stroke_is_removed_and_what_was_under_it_comes_back(crossed, server):
    page, places = crossed
    before = server.labels()
    assert before[40, 90] == 1
    page.mouse.click(*middle(places, "green", "blue"))
    page.locator(".halo").wait_for()
    assert "object, 7 px" in page.locator("#selected").inner_text()
    page.keyboard.press("Delete")
    saved(page)
    assert_drawn(server.labels(), 0, ("red", "green"), 7)
    assert server.labels()[40, 90] == 0
    assert page.locator(".halo").is_hidden()
    page.keyboard.press("Control+z")
    saved(page)
    assert np.array_equal(server.labels(), before)
    page.keyboard.press("Control+Shift+z")
    saved(page)
    assert len(server.strokes()) == 1


def test_a_number_gives_the_stroke_another_class(crossed, server):
    page, places = crossed
    before = server.labels()
    page.mouse.click(*middle(places, "red", "green"))
    page.locator(".halo").wait_for()
    page.keyboard.press("2")
    saved(page)
    assert [s["class"] for s in server.strokes()] == [1, 1]
    assert np.array_equal(server.labels() == 1, before != UNLABELLED)
    assert page.locator("#selected-class").input_value() == "1"
    assert page.locator("#select").get_attribute("aria-pressed") == "true"
    page.keyboard.press("Control+z")
    saved(page)
    assert np.array_equal(server.labels(), before)


def test_with_the_buttons_of_the_bar_alone(crossed, server):
    page, _ = crossed
    page.locator("#selected-after").focus()
    page.keyboard.press("Enter")
    assert "background, 7 px" in page.locator("#selected").inner_text()
    page.keyboard.press("Enter")
    assert "object, 7 px" in page.locator("#selected").inner_text()
    page.locator("#selected-class").select_option("0")
    saved(page)
    assert [s["class"] for s in server.strokes()] == [0, 0]
    page.locator("#selected-remove").focus()
    page.keyboard.press("Enter")
    saved(page)
    assert len(server.strokes()) == 1
    assert page.evaluate("document.activeElement.id") == "selected-after"


def test_with_arrows_and_enter_in_the_image(crossed, server):
    page, _ = crossed
    page.locator("#stage").focus()
    for _ in range(40):
        page.keyboard.press("Shift+ArrowRight")
    x, y = (int(part) for part in page.locator("#spoken").inner_text().split(","))
    target = (90, 40)
    for key, steps in (("Right", target[0] - x), ("Left", x - target[0]), ("Down", target[1] - y), ("Up", y - target[1])):
        for _ in range(steps):
            page.keyboard.press(f"Shift+Arrow{key}")
    page.keyboard.press("Enter")
    assert "object" in page.locator("#selected").inner_text()
    page.keyboard.press("Backspace")
    saved(page)
    assert [s["class"] for s in server.strokes()] == [0]


def test_beside_all_strokes_and_with_escape_nothing_is_selected(crossed, server):
    page, places = crossed
    page.mouse.click(*middle(places, "red", "green"))
    page.locator(".halo").wait_for()
    page.keyboard.press("Escape")
    assert page.locator(".halo").is_hidden()
    page.mouse.click(*middle(places, "red", "green"))
    page.mouse.click(places["red"][0], places["red"][1] + 200)
    assert page.locator(".halo").is_hidden()
    page.keyboard.press("Delete")
    page.keyboard.press("2")
    assert page.locator("#brush").get_attribute("aria-pressed") == "true"
    assert page.locator("#selected").is_hidden()
    assert len(server.strokes()) == 2


def test_where_an_eraser_was_its_stroke_is_chosen(page, server):
    set_width(page, 7)
    places = seen(page)
    drag(page, [places["red"], places["green"]])
    page.keyboard.press("e")
    set_width(page, 20)
    page.mouse.click(*places["green"])
    saved(page)
    page.keyboard.press("v")
    page.mouse.click(*places["green"])
    assert "Eraser, 20 px" in page.locator("#selected").inner_text()
    assert page.locator("#selected-class").is_hidden()
    page.keyboard.press("Delete")
    saved(page)
    assert_drawn(server.labels(), 0, ("red", "green"), 7)


def test_after_a_reload_and_on_another_image(crossed, server):
    page, places = crossed
    page.keyboard.press("s")  # no prediction over the marks
    page.mouse.click(*middle(places, "red", "green"))
    page.keyboard.press("d")
    shown(page, server.stem(1))
    assert page.locator(".halo").is_hidden()
    page.keyboard.press("a")
    shown(page, server.stem())
    page.reload()
    page.wait_for_function("() => document.getElementById('where').textContent !== ''")
    page.keyboard.press("s")
    shown(page, server.stem())
    page.keyboard.press("v")
    page.mouse.click(*middle(places, "red", "green"))
    page.keyboard.press("Delete")
    saved(page)
    assert [s["class"] for s in server.strokes()] == [1]
    page.keyboard.press("Control+z")
    page.wait_for_function("() => document.querySelector('.image[aria-selected=true] .facts').textContent.startsWith('2 ')")
    saved(page)
    assert [s["class"] for s in server.strokes()] == [0, 1]


def test_two_tabs_one_of_which_removes(crossed, server):
    page, places = crossed
    other = open_in(page.context, server)
    other.route("**/api/status*", lambda route: route.abort())
    page.bring_to_front()
    page.keyboard.press("b")
    drag(page, [places["blue"], places["red"]])
    saved(page)
    other.bring_to_front()
    other.keyboard.press("v")
    other.mouse.click(*middle(places, "red", "green"))
    other.keyboard.press("Delete")
    dialog = other.locator("#conflict")
    dialog.wait_for()
    dialog.locator("button[value=both]").click()
    saved(other)
    assert [s["class"] for s in server.strokes()] == [1, 1]
    assert server.labels()[int(MARKS["blue"][1]), int(MARKS["blue"][0])] == 1


def test_the_stroke_under_way_is_where_it_will_be(page, server):
    """Its own canvases, before the pen is lifted, have the pixels that the strokes' canvas has after."""
    set_width(page, 20)
    places = seen(page)
    ink = """() => { const stage = document.getElementById("stage").getBoundingClientRect(), found = {};
      for (const canvas of document.querySelectorAll("#layer-live canvas:not([hidden]), #layer-strokes")) {
        const box = canvas.getBoundingClientRect(), ratio = canvas.width / box.width;
        const { data, width } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        for (let k = 3; k < data.length; k += 4) if (data[k] > 250) {
          const x = ((k >> 2) % width) / ratio + box.x - stage.x, y = Math.floor((k >> 2) / width) / ratio + box.y - stage.y;
          found[`${Math.round(x)},${Math.round(y)}`] = 1; } }
      return Object.keys(found); }"""
    drag(page, [places[name] for name in ("red", "green", "blue")], up=False)
    page.wait_for_timeout(100)
    live = set(page.evaluate(ink))
    assert page.locator("#layer-live canvas:visible").count() > 1
    page.mouse.up()
    saved(page)
    page.wait_for_timeout(100)
    assert page.locator("#layer-live canvas:visible").count() == 0
    drawn = set(page.evaluate(ink))
    assert len(live) > 10_000
    assert len(live ^ drawn) < 0.02 * len(drawn)
