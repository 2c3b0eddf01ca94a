"""What stands beside and over the image: hints, the reliability curve, pictures in folders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.annotating import Server, drag, make_folder, open_page, saved, seen, set_width

pytestmark = pytest.mark.browser


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Server]:
    """A server on which nothing is drawn."""
    served = Server(make_folder(tmp_path / "photos", 3)).take()
    yield served
    served.kill()


def hint(page, words):
    page.wait_for_function("words => document.getElementById('hints').textContent.includes(words)", arg=words)


def test_hints_say_what_the_strokes_lack(browser, fresh):
    page = open_page(browser, fresh)
    places = seen(page)
    hint(page, "Draw a stroke over one thing")
    set_width(page, 20)
    page.keyboard.press("2")
    drag(page, [places["red"], places["green"], places["blue"], places["red"]])
    hint(page, "No “background” stroke yet. What you leave blank is unknown")
    page.keyboard.press("1")
    set_width(page, 3)
    page.mouse.click(*places["red"])
    hint(page, "“background” has about")
    saved(page)
    page.get_by_role("button", name="Put this hint away").click()
    assert page.locator("#hints p").count() == 0
    page.mouse.click(*places["green"])
    saved(page)
    page.keyboard.press("Control+z")
    page.wait_for_function("() => document.querySelector('.image[aria-selected=true] .facts').textContent.startsWith('2 ')")
    assert page.locator("#hints p").count() == 0
    assert page.errors == []
    page.context.close()


def test_a_background_alone_asks_for_the_other_class(browser, fresh):
    page = open_page(browser, fresh)
    places = seen(page)
    drag(page, [places["red"], places["green"]])
    hint(page, "A model needs strokes of “object” too")
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_reliability_curve_of_an_audit(browser, server, scheme):
    page = open_page(browser, server, color_scheme=scheme, bypass_csp=True)
    places = seen(page)
    for key, pair in (("1", ("red", "green")), ("2", ("green", "blue"))):
        page.keyboard.press(key)
        drag(page, [places[name] for name in pair])
    saved(page)
    page.locator("#audit-start").click()
    for n in range(1, 13):
        page.wait_for_function("n => document.querySelector('.question').textContent.startsWith(n + ' of')", arg=str(n))
        page.keyboard.press("1" if n % 3 else "2")
    page.wait_for_function("() => document.querySelector('.question').textContent.startsWith('13 of')")
    page.get_by_role("button", name="Stop and see the result").click()
    page.locator("#audit-result").wait_for()
    told = server.get("api/audit")["reliability"]
    assert told
    assert sum(row["n"] for row in told) == 12
    assert page.locator(".chart .dot").count() == len(told)
    rows = page.locator(".reliability tbody tr").all_inner_texts()
    assert [int(row.split()[-1]) for row in rows] == [row["n"] for row in told]
    low = page.locator(".chart .range").first.bounding_box()
    assert low["height"] > 10  # twelve answers say little
    axe = pytest.importorskip("axe_core_python.sync_playwright", reason="axe-core-python is not installed")
    assert [each["id"] for each in axe.Axe().run(page)["violations"]] == []
    page.context.close()


def test_of_pictures_in_folders_the_name_is_seen_and_the_folder_can_be_searched(browser, tmp_path):
    name = "a rather long name of a folder in which pictures of last summer are kept"
    make_folder(tmp_path / "photos" / name / "again", 2)
    make_folder(tmp_path / "photos" / "other", 2)
    server = Server(tmp_path / "photos")
    server.stem = lambda number=0: f"{name}/again/image_{number:02d}"
    try:
        page = open_page(browser, server)
        row = page.locator(".image[aria-selected=true]")
        assert row.locator(".name").get_attribute("title") == server.stem()
        box, file = row.bounding_box(), row.locator(".file").bounding_box()
        assert row.locator(".file").inner_text() == "image_00"
        assert file["x"] + file["width"] <= box["x"] + box["width"]
        assert row.locator(".folder").evaluate("node => node.scrollWidth > node.clientWidth")
        page.locator("#search").fill("OTHER/")
        assert page.locator(".image").count() == 2
        page.locator("#search").fill("again/image_01")
        page.locator(".image").click()
        page.wait_for_function("() => document.getElementById('where').textContent.includes('again/image_01')")
        places = seen(page)
        drag(page, [places["red"], places["green"]])
        saved(page)
        assert len(server.strokes(1)) == 1
        page.context.close()
    finally:
        server.kill()
