"""The sheet of a check in a real browser: no errors, no requests, no sideways scrolling, text that stands out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scribbleseg.check.run import check
from scribbleseg.check.sheet import write_sheet
from tests.check.test_rules import change, copy_image, redraw, spoil_image
from tests.e2e.pages import assert_complete, luminance, open_listening, ratio
from tests.fake.datasets import make_dataset

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of a sheet with an error, warnings, a note, long names and pictures of several shapes."""
    root: Path = make_dataset(tmp_path_factory.mktemp("browser") / "data", num_images=16)
    spoil_image(root, "image_002")
    redraw(root, lambda a: np.where(a == 1, 2, a), only="image_001")
    copy_image(root, "image_004", "a_very_long_name_" * 6, "test")
    copy_image(root, "image_000", "twin", "train")
    change(root, names={0: "background", 1: "a" * 60, 2: "several words that name one class"})
    return write_sheet(root / "sheet.html", check(root, jobs=1)).as_uri()


def test_opens_without_errors_or_requests(browser, url):
    page, said, asked = open_listening(browser, url)
    assert said == []
    assert asked == [url]
    assert page.locator("img").count() > 10
    assert_complete(page)
    assert page.locator(".verdict").inner_text().startswith("Cannot be used: 1 image cannot be read")
    page.close()


@pytest.mark.parametrize("width", [400, 1200])
def test_only_boxes_scroll_sideways(browser, url, width):
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(url)
    for summary in page.locator("summary").all():
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_both_themes(browser, url, scheme):
    page = browser.new_page(color_scheme=scheme)
    page.goto(url)
    colour = "element => getComputedStyle(element).color"
    behind = luminance(page.locator("body").evaluate("element => getComputedStyle(element).backgroundColor"))
    assert (behind < 0.1) == (scheme == "dark")
    places = [
        "h1",
        ".verdict",
        ".error .sign",
        ".warning .sign",
        ".note-tone .sign",
        ".finding li",
        ".finding code",
        "thead th",
    ]
    for place in (*places, ".says li", "h4 small"):
        assert ratio(luminance(page.locator(place).first.evaluate(colour)), behind) >= 4.5, place
    page.close()
