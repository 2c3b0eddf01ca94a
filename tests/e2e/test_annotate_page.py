"""The rest of the page: classes, keys alone, overlay, training, places, audit, accessibility, hostile names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import scribbleseg.annotate
from tests.e2e.annotating import Server, drag, make_folder, open_in, open_page, saved, seen, shown

pytestmark = pytest.mark.browser

STATIC = Path(scribbleseg.annotate.__file__).parent / "static"
HOSTILE = "<img src=x onerror=window.hacked=1>"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Server]:
    """A server whose classes a test may change."""
    served = Server(make_folder(tmp_path / "photos", 3)).take()
    yield served
    served.kill()


@pytest.fixture
def classes(browser, own):
    opened = open_page(browser, own)
    yield opened
    assert opened.errors == []
    opened.context.close()


def two_strokes(page):
    places = seen(page)
    for key, pair in (("1", ("red", "green")), ("2", ("green", "blue"))):
        page.keyboard.press(key)
        drag(page, [places[name] for name in pair])
    saved(page)


def names(server):
    return [each["name"] for each in server.get("api/project")["classes"]]


def edit(page, number):
    page.locator(".classes li").nth(number).locator(".icon").click()


def add(page, name):
    count = page.locator(".classes li").count()
    page.get_by_role("button", name="Add a class").first.click()
    page.locator("#class-name").fill(name)
    page.keyboard.press("Enter")
    wait_for_classes(page, count + 1)


def wait_for_classes(page, count):
    page.wait_for_function("n => document.querySelectorAll('.classes li').length === n", arg=count)


def test_classes_are_added_renamed_recoloured_and_put_in_another_order(classes, own):
    red = seen(classes)["red"]
    two_strokes(classes)
    add(classes, "stem")
    assert names(own) == ["background", "object", "stem"]
    edit(classes, 2)
    classes.locator("#class-name").fill("stalk")
    classes.locator("#class-colour").fill("#112233")
    classes.locator("dialog .primary").click()
    classes.wait_for_function("() => document.querySelector('.classes').textContent.includes('stalk')")
    classes.wait_for_selector("dialog", state="detached")
    classes.wait_for_timeout(300)
    assert own.get("api/project")["classes"][2]["colour"] == "#112233"
    edit(classes, 1)
    classes.locator("dialog button[value=up]").click()
    classes.wait_for_function("() => document.querySelector('.classes li .name').textContent === 'object'")
    assert names(own) == ["object", "background", "stalk"]
    assert [s["class"] for s in own.strokes()] == [1, 0]
    classes.keyboard.press("1")
    drag(classes, [red])
    saved(classes)
    assert [s["class"] for s in own.strokes()] == [1, 0, 0]


def test_strokes_drawn_while_classes_get_another_order_keep_their_class(classes, own):
    red, blue = (seen(classes)[name] for name in ("red", "blue"))
    two_strokes(classes)
    slow = []

    def late(route):
        slow.append(route.fetch())  # as things were when it was asked for
        classes.wait_for_timeout(500)
        route.fulfill(response=slow[-1])

    classes.route(re.compile(r"/api/images/\d+$"), late)
    edit(classes, 1)
    classes.locator("dialog button[value=up]").click()
    classes.wait_for_function("() => document.querySelector('.classes li .name').textContent === 'object'")
    classes.keyboard.press("1")
    drag(classes, [red])  # before the page has read its strokes again
    saved(classes)
    drag(classes, [blue, red])
    saved(classes)
    assert slow
    classes.unroute_all(behavior="wait")
    assert classes.locator("#conflict").count() == 0
    assert [s["class"] for s in own.strokes()] == [1, 0, 0, 0]
    counts = "() => [...document.querySelectorAll('.classes .count')].map((each) => each.textContent).join()"
    classes.wait_for_function(f"() => ({counts})() === '3,1'")
    classes.keyboard.press("Control+z")
    saved(classes)
    classes.wait_for_function(f"() => ({counts})() === '2,1'")
    assert [s["class"] for s in own.strokes()] == [1, 0, 0]


@pytest.mark.parametrize("reload", [False, True])
def test_strokes_of_a_page_that_was_away_keep_their_class(classes, own, reload):
    red, blue = (seen(classes)[name] for name in ("red", "blue"))
    two_strokes(classes)
    away = re.compile("/api/(status|project|images/.*commands)")
    classes.route(away, lambda route: route.abort())
    classes.keyboard.press("2")
    drag(classes, [red, blue])
    classes.wait_for_selector("#save[data-state=offline]")
    other = open_in(classes.context, own)
    edit(other, 1)
    other.locator("dialog button[value=up]").click()
    other.wait_for_function("() => document.querySelector('.classes li .name').textContent === 'object'")
    assert [s["class"] for s in own.strokes()] == [1, 0]
    other.close()
    classes.unroute(away)
    if reload:
        classes.reload()
        shown(classes, own.stem())
    saved(classes)
    assert classes.locator("#conflict").count() == 0
    assert [s["class"] for s in own.strokes()] == [1, 0, 0]
    counts = "() => [...document.querySelectorAll('.classes .count')].map((each) => each.textContent).join() === '2,1'"
    classes.wait_for_function(counts)


@pytest.mark.parametrize(("what", "left"), [("merge", [0, 0]), ("delete", [0])])
def test_classes_are_merged_and_deleted(classes, own, what, left):
    two_strokes(classes)
    edit(classes, 1)
    assert classes.locator(f"dialog button[value={what}]").is_disabled()
    classes.keyboard.press("Escape")
    add(classes, "stem")
    edit(classes, 1)
    classes.locator(f"dialog button[value={what}]").click()
    classes.locator("dialog button[value=yes]").click()
    wait_for_classes(classes, 2)
    assert names(own) == ["background", "stem"]
    assert [s["class"] for s in own.strokes()] == left
    classes.wait_for_function("n => document.querySelector('.classes .count').textContent === n", arg=str(len(left)))


def test_a_hostile_class_name_is_text(classes, own):
    add(classes, HOSTILE)
    edit(classes, 2)
    assert HOSTILE in classes.locator("dialog h2").inner_text()
    classes.keyboard.press("Escape")
    classes.reload()
    shown(classes, own.stem())
    assert classes.locator(".classes li").nth(2).inner_text().startswith(HOSTILE)
    assert classes.evaluate("window.hacked") is None
    assert classes.locator(".classes img").count() == 0


def test_a_session_with_the_keyboard_alone(page, server):
    page.locator("#stage").focus()
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    for _ in range(5):
        page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("Enter")
    saved(page)
    (stroke,) = server.strokes()
    assert stroke["class"] == 1
    assert stroke["points"][0] == [60.5, 45.5]
    assert stroke["points"][-1][1] == 50.5
    assert server.labels()[45, 60] == 1
    page.keyboard.press("m")
    page.wait_for_selector("#done:checked")
    page.keyboard.press("d")
    page.wait_for_function("stem => document.getElementById('where').textContent.startsWith(stem)", arg=server.stem(1))
    page.locator("#image-list").focus()
    page.keyboard.press("End")
    page.wait_for_function("() => document.getElementById('where').textContent.startsWith('image_89')")
    page.keyboard.press("?")
    page.locator("#help-dialog").wait_for()
    page.keyboard.press("Escape")
    page.locator("#help-dialog").wait_for(state="detached")
    done = server.get("api/images")["done"]
    assert [done[server.image(k) - 1] for k in (0, 1)] == [True, False]


def test_a_key_typed_into_a_field_is_a_letter(page, server):
    page.locator("#search").fill("")
    page.keyboard.type("e1d")
    assert page.locator("#search").input_value() == "e1d"
    assert page.locator("#brush").get_attribute("aria-pressed") == "true"
    assert page.locator("#where").inner_text().startswith(server.stem())


def test_filters_of_the_list(classes, own):
    two_strokes(classes)
    classes.locator("#filter").select_option("undrawn")
    assert classes.locator(".image .name").all_inner_texts() == ["image_01", "image_02"]
    classes.locator("#filter").select_option("drawn")
    assert classes.locator(".image .name").all_inner_texts() == ["image_00"]
    classes.locator("#filter").select_option("all")
    classes.locator("#search").fill("_02")
    assert classes.locator(".image .name").all_inner_texts() == ["image_02"]


def overlay(page):
    """Return how many pixels of the overlay's canvas are set, and how opaque it is."""
    return page.evaluate(
        """() => { const c = document.getElementById("layer-overlay");
        const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data; let n = 0;
        for (let k = 3; k < d.length; k += 4) n += d[k] > 0; return [n, Number(getComputedStyle(c).opacity)]; }"""
    )


def test_the_overlay_comes_and_obeys(page, server):
    assert overlay(page)[0] == 0
    two_strokes(page)
    page.wait_for_function("() => document.getElementById('prediction-told').textContent.includes('no. 2')")
    assert "Instant: 90 ± 3 % on 12 held-out strokes." in page.locator("#prediction-told").inner_text()
    page.wait_for_timeout(200)
    full, opacity = overlay(page)
    assert full > 10_000
    assert opacity == 0.5
    page.keyboard.press(".")
    assert overlay(page)[1] == 0.6
    page.keyboard.press("c")
    page.wait_for_timeout(100)
    assert 0 < overlay(page)[0] < full / 5
    page.keyboard.press("u")
    page.wait_for_timeout(100)
    assert page.locator("input[value=doubt]").is_checked()
    page.keyboard.down("x")
    page.wait_for_timeout(100)
    assert overlay(page)[0] == 0
    page.keyboard.up("x")
    page.wait_for_timeout(100)
    assert overlay(page)[0] > 0
    page.keyboard.press("s")
    page.wait_for_timeout(100)
    assert overlay(page)[0] == 0


def test_training_is_started_and_stopped(page, server):
    page.locator("#train").click()
    page.wait_for_function("() => document.getElementById('training-told').textContent.includes('step 40 of 100')")
    assert "75 s left" in page.locator("#training-told").inner_text()
    assert page.locator(".losses figure").count() == 1
    assert page.locator("#train").inner_text() == "Stop training"
    page.locator("#train").click()
    page.wait_for_function("() => document.getElementById('train').textContent === 'Go on training'")


def test_n_goes_to_the_next_place(page, server):
    page.keyboard.press("n")
    page.wait_for_function("() => document.getElementById('where').textContent.startsWith('image_89')")
    in_the_middle = """() => { const at = document.querySelector('.frame.current')?.getBoundingClientRect();
      const stage = document.getElementById('stage').getBoundingClientRect();
      return at && at.width > 0 && Math.abs(at.width - at.height) < 6
        && Math.abs(at.x + at.width / 2 - stage.x - stage.width / 2) < 3; }"""
    page.wait_for_function(in_the_middle)


def test_an_audit_with_the_number_keys(page, server):
    two_strokes(page)
    saved(page)
    strokes = server.strokes()
    page.locator("#audit-start").click()
    page.wait_for_function("() => document.querySelector('.question').textContent.startsWith('1 of 30')")
    page.keyboard.press("2")
    page.wait_for_function("() => document.querySelector('.question').textContent.startsWith('2 of 30')")
    page.keyboard.press("0")
    page.wait_for_function("() => document.querySelector('.question').textContent.startsWith('3 of 30')")
    page.get_by_role("button", name="Stop").last.click()
    result = page.locator("#audit-result")
    result.wait_for()
    told = server.get("api/audit")
    assert (told["answered"], told["unanswered"], told["points"]) == (1, 1, 30)
    assert f"{100 * told['accuracy']:.1f} % of the pixels are right" in result.inner_text()
    assert server.strokes() == strokes


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 820, 1600])
def test_axe_finds_nothing(browser, server, scheme, width):
    axe = pytest.importorskip("axe_core_python.sync_playwright", reason="axe-core-python is not installed")
    page = open_page(browser, server, viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True)
    two_strokes(page)
    page.wait_for_timeout(1300)

    def violations():
        found = axe.Axe().run(page)["violations"]
        return [(each["id"], [node["html"][:120] for node in each["nodes"]]) for each in found]

    assert violations() == []
    if width < 900:
        page.locator("#show-panels").click()
        page.wait_for_timeout(300)
        assert violations() == []
    page.locator("#help").click()
    page.wait_for_timeout(100)
    assert violations() == []
    page.keyboard.press("Escape")
    if width >= 900:
        edit(page, 1)
        assert violations() == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.context.close()


def test_the_documented_keys_are_those_of_the_page():
    keys = re.findall(r'\["([^"]+)", "\w+", "(keys\.\w+)"', (STATIC / "js" / "keys.js").read_text(encoding="utf-8"))
    words = dict(re.findall(r'"(keys\.\w+)": "([^"]+)"', (STATIC / "strings" / "en.json").read_text(encoding="utf-8")))
    assert len(keys) > 20
    path = Path(__file__).parents[2] / "docs" / "how-to" / "annotate.md"
    if not path.is_file():
        pytest.skip("the documentation is not beside the package")
    told = path.read_text(encoding="utf-8")
    for key, name in keys:
        assert re.search(rf"^\|.*`{re.escape(key)}`.*\| {re.escape(words[name])} \|$", told, re.MULTILINE), (key, name)


def test_no_module_makes_markup_of_data_and_none_is_long():
    modules = sorted((STATIC / "js").glob("*.js"))
    assert len(modules) > 20
    for path in modules:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text), path.name
        assert len(text.splitlines()) <= 350, path.name
    assert np.median([len(p.read_text(encoding="utf-8").splitlines()) for p in modules]) <= 130


def test_strokes_are_exported_and_a_refusal_is_told(page, server):
    two_strokes(page)
    page.locator("#export").click()
    with page.expect_download() as told:
        page.get_by_role("button", name="Download: Strokes").click()
    assert Path(told.value.path()).read_bytes()[:2] == b"PK"
    page.get_by_role("button", name="Download: Model").click()
    page.wait_for_selector("#notice[data-kind=error]")
    assert page.locator("dialog").count() == 0
