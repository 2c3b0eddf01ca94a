"""The report in a real browser: no errors, no requests, no sideways scrolling, a control that works."""

from __future__ import annotations

import shutil
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


@pytest.fixture(scope="module")
def alike_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of a report of a run that kept one snapshot."""
    root: Path = tmp_path_factory.mktemp("alike")
    data = make_data(root / "data")
    run = make_run(root / "run", data)
    shutil.copytree(run / "model", run / "snapshots" / "000000")
    return report([run], root / "report.html", num_cases=1).as_uri()


def pixels(page, image) -> list[int]:
    """Return the opacities of a map, cell by cell."""
    draw = """async image => {
      await image.decode();
      const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
      const context = canvas.getContext("2d");
      context.drawImage(image, 0, 0);
      return [...context.getImageData(0, 0, canvas.width, canvas.height).data.filter((_, n) => n % 4 === 3)];
    }"""
    return image.evaluate(draw)


def test_a_click_compares_another_pixel_and_the_scripts_maps_are_those_of_the_report(browser, alike_url):
    page, said, _ = open_listening(browser, alike_url)
    assert page.locator("nav a[href='#alike']").count() == 1
    part = page.locator(".alike").first
    columns, rows, row, column = (int(part.get_attribute(f"data-{key}")) for key in ("columns", "rows", "row", "column"))
    maps = part.locator("img.alike-map")
    assert maps.count() == 3
    before = [pixels(page, maps.nth(k)) for k in range(3)]
    words = part.locator("figcaption").all_inner_texts()
    pad = part.locator(".alike-pad")
    box = pad.bounding_box()

    def click(y: int, x: int) -> None:
        pad.click(position={"x": (x + 0.5) / columns * box["width"], "y": (y + 0.5) / rows * box["height"]})

    click(0, 0)
    moved = [pixels(page, maps.nth(k)) for k in range(3)]
    assert all(m[0] == 255 for m in moved)
    assert all(m != b for m, b in zip(moved, before, strict=True))
    click(row, column)
    for now, then in zip((pixels(page, maps.nth(k)) for k in range(3)), before, strict=True):
        assert max(abs(a - b) for a, b in zip(now, then, strict=True)) <= 6  # features came as 8-bit numbers
    again = part.locator("figcaption").all_inner_texts()
    share = [[int(w.split("\n")[1].split(" %")[0]) for w in texts[1:]] for texts in (words, again)]
    assert again[0] == words[0]
    assert all(abs(a - b) <= 1 for a, b in zip(*share, strict=True))
    pad.focus()
    page.keyboard.press("ArrowRight")
    assert [pixels(page, maps.nth(k))[row * columns + column + 1] for k in range(3)] == [255] * 3
    assert said == []
    page.close()


def test_what_is_alike_is_there_without_scripts_too(browser, alike_url):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(alike_url)
    assert page.locator("img.alike-map").first.is_visible()
    assert page.locator(".alike-pad").first.is_disabled()
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_is_alike_keeps_anyone_from_nothing(browser, alike_url, scheme):
    page = browser.new_page(color_scheme=scheme)
    page.goto(alike_url)
    axe = pytest.importorskip("axe_core_python.sync_playwright", reason="axe-core-python is not installed")
    assert [v["id"] for v in axe.Axe().run(page)["violations"]] == []
    page.close()
