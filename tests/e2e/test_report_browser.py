"""The report in a real browser: no errors, no requests, no sideways scrolling, a control that works."""

from __future__ import annotations

from pathlib import Path

import pytest

from scribbleseg.report.page import report
from tests.e2e.pages import assert_complete, luminance, open_listening, ratio
from tests.test_report import make_data, make_run

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of a report of two runs, one with a long name."""
    root: Path = tmp_path_factory.mktemp("browser")
    data = make_data(root / "data", {0: "background", 1: "a" * 60, 2: "several words that name one class"})
    runs = [make_run(root / "first", data, method="partial_ce"), make_run(root / "second", data, seed=1, noise=0.05)]
    return report(runs, root / "report.html", titles=["first", "second_" * 12], num_cases=2).as_uri()


def test_opens_without_errors_or_requests(browser, url):
    page, said, asked = open_listening(browser, url)
    assert said == []
    assert [a[:80] for a in asked] == [url[:80]]
    assert page.locator("table").count() == 9
    for table in page.locator("table").all():
        assert table.is_visible()
    assert_complete(page)
    page.close()


@pytest.mark.parametrize("width", [400, 1200])
def test_only_boxes_scroll_sideways(browser, url, width):
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(url)
    page.locator("summary").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wide = "boxes => boxes.filter(b => b.scrollWidth > b.clientWidth).length"
    if width == 400:
        assert page.locator(".box").evaluate_all(wide) > 0
    page.close()


def test_the_control_moves_the_overlays_and_not_the_strokes(browser, url):
    page = browser.new_page()
    page.goto(url)
    overlay, strokes = page.locator("img.overlay").first, page.locator("img.strokes").first
    opacity = "image => getComputedStyle(image).opacity"
    before = overlay.screenshot()
    assert overlay.evaluate(opacity) == "0.6"
    page.get_by_label("colours").fill("0")
    assert overlay.evaluate(opacity) == "0"
    assert strokes.evaluate(opacity) == "1"
    assert page.locator("#opacity-shown").inner_text() == "0 %"
    assert overlay.screenshot() != before
    page.close()


def test_without_scripts_the_pictures_are_there_and_the_control_is_not(browser, url):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(url)
    assert page.locator("img.overlay").first.is_visible()
    assert not page.locator("#opacity").is_visible()
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_both_themes_also_in_the_curves(browser, url, scheme):
    page = browser.new_page(color_scheme=scheme)
    page.goto(url)
    colour = "element => getComputedStyle(element).color"
    behind = luminance(page.locator("body").evaluate("element => getComputedStyle(element).backgroundColor"))
    assert (behind < 0.1) == (scheme == "dark")
    for place in ("h1", ".lead", ".note", ".caveats li", "thead th", "nav a", "td b", ".tiles figcaption span"):
        assert ratio(luminance(page.locator(place).first.evaluate(colour)), behind) >= 4.5, place
    drawn = page.locator(".curves svg text").first.evaluate("element => getComputedStyle(element).fill")
    assert ratio(luminance(drawn), behind) >= 4.5
    page.close()
