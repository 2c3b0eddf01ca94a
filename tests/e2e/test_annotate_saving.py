"""Nothing is ever lost: undo, reloads, two tabs, a server that dies, no network at all."""

from __future__ import annotations

import numpy as np
import pytest

from tests.e2e.annotating import (
    assert_drawn,
    drag,
    open_in,
    saved,
    seen,
    set_width,
    shown,
)

pytestmark = pytest.mark.browser


def test_undo_and_redo_stroke_by_stroke(page, server):
    places = seen(page)
    for k, pair in enumerate((("red", "green"), ("green", "blue"), ("blue", "red"))):
        page.keyboard.press(str(k % 2 + 1))
        drag(page, [places[name] for name in pair])
    saved(page)
    masks = [server.labels()]
    for count in (2, 1, 0):
        page.keyboard.press("Control+z")
        saved(page)
        assert len(server.strokes()) == count
        masks.append(server.labels())
    assert (masks[-1] == 255).all()
    assert page.locator("#undo").is_disabled()
    for k in (2, 1, 0):
        page.keyboard.press("Control+Shift+z")
        saved(page)
        assert np.array_equal(server.labels(), masks[k])
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+y")
    saved(page)
    assert np.array_equal(server.labels(), masks[0])


def test_undo_survives_a_reload(page, server):
    places = seen(page)
    drag(page, [places["red"], places["green"]])
    drag(page, [places["green"], places["blue"]])
    page.locator("#clear").click()
    saved(page)
    page.reload()
    shown(page, server.stem())
    for count in (2, 1, 0):
        page.keyboard.press("Control+z")
        page.wait_for_function(
            "n => document.querySelector('.image[aria-selected=true] .facts').textContent.startsWith(n + ' stroke')",
            arg=str(count),
        )
        saved(page)
        assert len(server.strokes()) == count
    for count in (1, 2, 0):
        page.wait_for_selector("#redo:enabled")
        page.keyboard.press("Control+y")
        saved(page)
        assert len(server.strokes()) == count


def test_the_next_image_while_strokes_are_being_saved(page, server):
    def slow(route):
        page.wait_for_timeout(300)
        route.continue_()

    page.route("**/commands", slow)
    places = seen(page)
    drag(page, [places["red"], places["green"]])
    page.keyboard.press("d")
    shown(page, server.stem(1))
    page.keyboard.press("2")
    drag(page, [places["green"], places["blue"]])
    page.keyboard.press("a")
    shown(page, server.stem())
    saved(page)
    assert [s["class"] for s in server.strokes()] == [0]
    assert [s["class"] for s in server.strokes(1)] == [1]
    assert_drawn(server.labels(), 0, ("red", "green"), 5)
    assert_drawn(server.labels(1), 1, ("green", "blue"), 5)


def test_a_reload_in_the_middle_of_a_stroke(page, server):
    places = seen(page)
    drag(page, [places["red"], places["green"]])
    drag(page, [places["green"], places["blue"]], up=False)
    page.reload()
    shown(page, server.stem())
    page.mouse.up()
    assert len(server.strokes()) == 1
    drag(page, [places["blue"], places["red"]])
    saved(page)
    assert len(server.strokes()) == 2


def test_a_reload_before_the_answer_has_come(page, server):
    places = seen(page)
    page.route("**/commands", lambda route: route.abort())
    drag(page, [places["red"], places["green"]])
    drag(page, [places["green"], places["blue"]])
    page.wait_for_selector("#save[data-state=offline][data-count='2']")
    page.wait_for_timeout(200)
    page.unroute("**/commands")
    page.reload()
    shown(page, server.stem())
    saved(page)
    assert len(server.strokes()) == 2


def test_an_answer_that_is_lost_is_no_stroke_twice(page, server):
    places = seen(page)
    lost = []

    def deliver_and_lose(route):
        lost.append(route.fetch())
        route.abort()
        page.unroute("**/commands")

    page.route("**/commands", deliver_and_lose)
    drag(page, [places["red"], places["green"]])
    drag(page, [places["green"], places["blue"]])
    saved(page)
    assert len(lost) == 1
    assert len(server.strokes()) == 2
    assert len({stroke["id"] for stroke in server.strokes()}) == 2


@pytest.mark.parametrize("answer", ["both", "theirs"])
def test_two_tabs_on_one_image(page, server, answer):
    other = open_in(page.context, server)
    other.route("**/api/status*", lambda route: route.abort())  # it does not hear of the first one's stroke
    page.bring_to_front()
    places = seen(page)
    drag(page, [places["red"], places["green"]])
    saved(page)
    other.bring_to_front()
    other.keyboard.press("2")
    drag(other, [places["green"], places["blue"]])
    dialog = other.locator("#conflict")
    dialog.wait_for()
    assert len(server.strokes()) == 1
    dialog.locator(f"button[value={answer}]").click()
    saved(other)
    assert [s["class"] for s in server.strokes()] == ([0, 1] if answer == "both" else [0])
    other.keyboard.press("1")
    drag(other, [places["blue"], places["red"]])
    saved(other)
    assert len(server.strokes()) == (3 if answer == "both" else 2)
    page.bring_to_front()
    count = len(server.strokes())
    page.wait_for_function(
        "n => document.querySelector('.image[aria-selected=true] .facts').textContent.startsWith(n + ' ')", arg=str(count)
    )


def test_the_server_is_killed_and_started_again(page, server):
    places = seen(page)
    drag(page, [places["red"], places["green"]])
    saved(page)
    server.kill()
    page.keyboard.press("2")
    drag(page, [places["green"], places["blue"]])
    page.wait_for_selector("#save[data-state=offline]")
    assert "1 change kept" in page.locator("#save").inner_text()
    server.start()
    saved(page)
    assert [s["class"] for s in server.strokes()] == [0, 1]


def test_offline_a_reload_and_back(page, server):
    places = seen(page)
    page.context.set_offline(True)
    set_width(page, 7)
    drag(page, [places["red"], places["green"]])
    page.keyboard.press("Control+z")
    drag(page, [places["green"], places["blue"]])
    page.wait_for_selector("#save[data-state=offline][data-count='3']")
    page.wait_for_timeout(200)
    context = page.context
    page.close()
    context.set_offline(False)
    again = open_in(context, server)
    saved(again)
    assert len(server.strokes()) == 1
    assert_drawn(server.labels(), 0, ("green", "blue"), 7)
