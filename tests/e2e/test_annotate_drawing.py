"""Drawing in a real browser: what is drawn on the screen is what the server's mask has, whatever the view and the hand."""

from __future__ import annotations

import pytest

from scribbleseg.records import UNLABELLED
from tests.e2e.annotating import assert_drawn, drag, open_page, saved, seen, set_width

pytestmark = pytest.mark.browser


def draw(page, server, marks=("red", "green"), width_px=7, class_id=0):
    """Draw through marks as they are seen, and look at the mask."""
    set_width(page, width_px)
    page.keyboard.press(str(class_id + 1))
    places = seen(page)
    drag(page, [places[name] for name in marks])
    saved(page)
    assert_drawn(server.labels(), class_id, marks, width_px)
    assert page.errors == []


def test_with_the_mouse(browser, server):
    page = open_page(browser, server)
    draw(page, server, class_id=1)
    (stroke,) = server.strokes()
    assert (stroke["class"], stroke["width_px"], stroke["tool"]) == (1, 7, "brush")
    page.context.close()


@pytest.mark.parametrize("way", ["wheel", "keys", "pan", "space", "resize", "fit"])
def test_after_the_view_has_changed(browser, server, way):
    page = open_page(browser, server)
    places = seen(page)
    page.mouse.move(*places["red"])
    if way == "wheel":
        page.mouse.wheel(0, 300)
    elif way == "keys":
        page.keyboard.press("-")
        page.keyboard.press("-")
        page.keyboard.press("+")
    elif way in ("pan", "space"):
        page.keyboard.press("-")
        page.keyboard.down("Space") if way == "space" else page.keyboard.press("h")
        drag(page, [places["red"], (places["red"][0] + 37, places["red"][1] - 23)])
        page.keyboard.up("Space") if way == "space" else page.keyboard.press("b")
    elif way == "resize":
        page.set_viewport_size({"width": 950, "height": 620})
        page.wait_for_timeout(200)
    else:
        page.mouse.wheel(0, -500)
        page.keyboard.press("f")
    assert server.strokes() == []
    page.wait_for_timeout(100)
    draw(page, server, ("red", "blue", "green"))
    page.context.close()


def test_the_place_under_the_cursor_stays_when_zooming(browser, server):
    page = open_page(browser, server)
    before = seen(page)["blue"]
    page.mouse.move(*before)
    page.mouse.wheel(0, -120)
    page.wait_for_timeout(150)
    after = seen(page)["blue"]
    assert abs(after[0] - before[0]) < 2
    assert abs(after[1] - before[1]) < 2
    page.context.close()


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("size", [(400, 800), (820, 1100)])
def test_on_small_and_fine_screens(browser, server, scale, size):
    page = open_page(browser, server, viewport={"width": size[0], "height": size[1]}, device_scale_factor=scale)
    draw(page, server)
    page.context.close()


def test_a_line_one_pixel_wide_has_no_gaps(browser, server):
    page = open_page(browser, server)
    draw(page, server, width_px=1)
    labels = server.labels()
    columns = (labels == 0).any(0)
    assert columns[21:90].all()
    page.context.close()


def test_over_the_border_of_the_image(browser, server):
    page = open_page(browser, server)
    set_width(page, 7)
    places = seen(page)
    box = page.locator("#stage").bounding_box()
    drag(page, [places["red"], (box["x"] + 3, places["red"][1]), (box["x"] - 40, places["red"][1])])
    saved(page)
    labels = server.labels()
    assert (labels[30, :21] == 0).all()
    assert (labels[:, 30:] == UNLABELLED).all()
    assert min(x for x, _ in server.strokes()[0]["points"]) < 0
    page.context.close()


def test_a_click_is_a_dot(browser, server):
    page = open_page(browser, server)
    set_width(page, 5)
    page.mouse.click(*seen(page)["blue"])
    saved(page)
    assert len(server.strokes()[0]["points"]) == 1
    assert 13 <= (server.labels() == 0).sum() <= 25
    page.context.close()


def test_the_eraser_makes_pixels_unlabelled(browser, server):
    page = open_page(browser, server)
    places = seen(page)
    draw(page, server)
    page.keyboard.press("e")
    set_width(page, 20)
    page.mouse.click(*places["green"])
    saved(page)
    labels = server.labels()
    assert (labels[36:45, 86:95] == UNLABELLED).all()
    assert labels[30, 20] == 0
    page.context.close()


def test_with_a_pen(browser, server):
    page = open_page(browser, server)
    set_width(page, 7)
    places = seen(page)
    session = page.context.new_cdp_session(page)

    def pen(kind, place, **more):
        event = {"type": kind, "x": place[0], "y": place[1], "pointerType": "pen", "force": 0.5, **more}
        session.send("Input.dispatchMouseEvent", event)

    pen("mousePressed", places["red"], button="left", buttons=1, clickCount=1)
    for k in range(1, 11):
        between = [a + (b - a) * k / 10 for a, b in zip(places["red"], places["green"], strict=True)]
        pen("mouseMoved", between, button="left", buttons=1)
    pen("mouseReleased", places["green"], button="left", buttons=0, clickCount=1)
    saved(page)
    assert_drawn(server.labels(), 0, ("red", "green"), 7)
    page.context.close()


POINTER = """([kind, x, y, more]) => document.getElementById("stage").dispatchEvent(new PointerEvent(kind, {
  bubbles: true, cancelable: true, isPrimary: true, pointerId: 7, clientX: x, clientY: y, ...more}))"""


def test_the_eraser_end_of_a_pen_erases(browser, server):
    page = open_page(browser, server)
    places = seen(page)
    draw(page, server)
    end = {"pointerType": "pen", "button": 5, "buttons": 32}
    page.evaluate(POINTER, ["pointerdown", *places["green"], end])
    page.evaluate(POINTER, ["pointerup", *places["green"], {**end, "buttons": 0}])
    saved(page)
    assert [stroke["tool"] for stroke in server.strokes()] == ["brush", "eraser"]
    assert server.labels()[40, 90] == UNLABELLED
    page.context.close()


def test_a_cancelled_stroke_is_dropped(browser, server):
    page = open_page(browser, server)
    places = seen(page)
    mouse = {"pointerType": "pen", "button": 0, "buttons": 1}
    page.evaluate(POINTER, ["pointerdown", *places["red"], mouse])
    page.evaluate(POINTER, ["pointermove", *places["green"], mouse])
    page.evaluate(POINTER, ["pointercancel", *places["green"], mouse])
    draw(page, server, ("blue", "green"))
    assert len(server.strokes()) == 1
    page.context.close()


def touch(session, kind, *places):
    points = [{"x": x, "y": y, "id": k} for k, (x, y) in enumerate(places)]
    session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


def test_one_finger_draws_and_two_move_and_zoom(browser, server):
    page = open_page(browser, server, has_touch=True)
    places = seen(page)
    session = page.context.new_cdp_session(page)
    zoom = page.locator("#zoom").inner_text()
    (rx, ry), (gx, gy) = places["red"], places["green"]
    touch(session, "touchStart", (rx, ry))
    touch(session, "touchStart", (rx, ry), (gx, gy))
    for k in range(1, 9):
        touch(session, "touchMove", (rx + 8 * k, ry + 3 * k), (gx - 8 * k, gy + 3 * k))
    touch(session, "touchEnd")
    page.wait_for_timeout(200)
    assert page.locator("#zoom").inner_text() != zoom
    assert server.strokes() == []
    set_width(page, 7)
    places = seen(page)
    (rx, ry), (gx, gy) = places["red"], places["green"]
    touch(session, "touchStart", (rx, ry))
    for k in range(1, 9):
        touch(session, "touchMove", (rx + (gx - rx) * k / 8, ry + (gy - ry) * k / 8))
    touch(session, "touchEnd")
    saved(page)
    assert_drawn(server.labels(), 0, ("red", "green"), 7)
    page.context.close()


def test_a_pen_at_240_hz_is_thinned_without_another_outcome(browser, server):
    page = open_page(browser, server)
    set_width(page, 7)
    places = seen(page)
    pen = {"pointerType": "pen", "button": 0, "buttons": 1}
    page.evaluate(POINTER, ["pointerdown", *places["red"], pen])
    page.evaluate(
        """([[x0, y0], [x1, y1]]) => { for (let k = 1; k <= 1000; k += 1) {
          const [x, y] = [x0 + (x1 - x0) * k / 1000, y0 + (y1 - y0) * k / 1000];
          document.getElementById("stage").dispatchEvent(new PointerEvent("pointermove", {
            bubbles: true, pointerId: 7, clientX: x, clientY: y, pointerType: "pen", buttons: 1})); } }""",
        [places["red"], places["green"]],
    )
    page.evaluate(POINTER, ["pointerup", *places["green"], {**pen, "buttons": 0}])
    saved(page)
    assert len(server.strokes()[0]["points"]) < 20
    assert_drawn(server.labels(), 0, ("red", "green"), 7)
    page.context.close()
