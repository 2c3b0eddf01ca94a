"""What tests ask of any page of ours in a browser."""

from __future__ import annotations

from typing import Any


def open_listening(browser: Any, url: str) -> tuple[Any, list[str], list[str]]:
    """Return the page once it is quiet, what it said (console, errors), and what it asked for besides data of its own."""
    page = browser.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url)
    page.wait_for_load_state("networkidle")
    return page, said, [address for address in asked if not address.startswith("data:")]


def assert_complete(page: Any) -> None:
    """Every picture is there and described, every head of a table says what it heads."""
    broken = "images => images.filter(i => !i.complete || i.naturalWidth === 0).length"
    assert page.locator("img").evaluate_all(broken) == 0
    assert page.locator("img:not([alt]), img[alt='']").count() == 0
    assert page.locator("th:not([scope])").count() == 0


def luminance(colour: str) -> float:
    """Return the relative luminance of an ``rgb(…)``."""
    parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def ratio(first: float, second: float) -> float:
    """Return the contrast of two luminances."""
    return (max(first, second) + 0.05) / (min(first, second) + 0.05)
