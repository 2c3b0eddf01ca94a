"""The whole story in a browser: open a folder, draw, see, correct, train a network, and see which of the two is shown."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from scribbleseg.data.images import write_png
from scribbleseg.data.synthetic import make_image
from tests.e2e.annotating import Server, drag, saved

pytestmark = pytest.mark.browser

#: Enough steps to go through everything; whether the network is better by then is not known here, and not needed.
STEPS = 25

SIZE_PX = 128

#: Strokes of each class: a quarter of them is held out, and four are needed for the network to be judged at all.
STROKES = 8

PATIENCE_S = 300


def make_pictures(root: Path) -> list[np.ndarray]:
    """Write two pictures of textures on a ground of the same colours; return what is object in them (1) and what is not."""
    truths = []
    for number in range(2):
        picture, mask = make_image(np.random.default_rng([4, number]), SIZE_PX)
        write_png(root / f"picture_{number}.png", picture)
        truths.append((mask > 0).astype(np.uint8))
    return truths


class Real(Server):
    """``scribbleseg annotate`` itself, with the learner and the training that everybody gets."""

    def start(self) -> None:
        path = str(Path(__file__).parents[2] / "src")
        command = [sys.executable, "-m", "scribbleseg", "annotate", str(self.folder), "--no-open", "--port", str(self.port)]
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

        def answers() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            try:
                return bool(self.get("api/project"))
            except OSError:
                return False

        until(answers)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE_S)

    def prediction(self, image: int, query: str = "") -> dict[str, Any] | None:
        try:
            return dict(self.get(f"api/images/{image}/prediction{query}"))
        except OSError:
            return None

    def miou(self, truths: list[np.ndarray]) -> float:
        """Return the mIoU of the instant model over all pictures, their counts put together."""
        counts = np.zeros((2, 2))
        for image, truth in enumerate(truths, 1):
            np.add.at(counts, (truth, self.get(f"api/images/{image}/prediction/labels?model=instant")), 1)
        both = np.diag(counts)
        return float(np.mean(both / (counts.sum(0) + counts.sum(1) - both)))


class Hand:
    """A hand that knows the truth and where the picture lies on the screen."""

    def __init__(self, page: Any, server: Real) -> None:
        self.page, self.server = page, server
        self.image = 1
        box = page.locator("#stage").bounding_box()
        middle = np.array([box["x"] + box["width"] / 2, box["y"] + box["height"] / 2])
        ends = [middle - 60, middle + 60]
        self.drag(ends)  # a line to see where it lands, taken back at once
        points = np.array(server.get("api/images/1")["strokes"][0]["points"], float)
        self.scale = (ends[1] - ends[0]) / (points[-1] - points[0])
        self.origin = ends[0] - points[0] * self.scale
        page.keyboard.press("Control+z")
        saved(page)

    def drag(self, places: list[np.ndarray]) -> None:
        drag(self.page, [(float(x), float(y)) for x, y in places])
        saved(self.page)

    def show(self, image: int) -> None:
        if image != self.image:
            self.page.keyboard.press("d" if image > self.image else "a")
        says(self.page, "where", f"picture_{image - 1} ")
        self.image = image

    def draw(self, label: int, where: np.ndarray) -> None:
        """Draw a horizontal stroke of a class along the longest row of a region's inside."""
        row, first, last = longest_row(where)
        self.page.keyboard.press(str(label + 1))
        middle = row + 0.5
        self.drag([np.array([x, middle]) * self.scale + self.origin for x in (first + 0.5, last + 0.5)])

    def colours(self, points: np.ndarray) -> np.ndarray:
        """Return the colours of the overlay's canvas at pixels (x, y) of the image: (N, 4)."""
        box = self.page.locator("#layer-overlay").bounding_box()
        places = (points + 0.5) * self.scale + self.origin - [box["x"], box["y"]]
        read = """(canvas, places) => {
          const ratio = canvas.width / canvas.getBoundingClientRect().width;
          const context = canvas.getContext('2d');
          return places.map(([x, y]) => [...context.getImageData(Math.floor(x * ratio), Math.floor(y * ratio), 1, 1).data]);
        }"""
        return np.array(self.page.locator("#layer-overlay").evaluate(read, places.tolist()))


def longest_row(where: np.ndarray) -> tuple[int, int, int]:
    """Return row, first and last column of the longest run of true pixels at least 2 px inside, if there are any so far in."""
    inside = ndimage.binary_erosion(where, iterations=2)
    inside = inside if inside.any() else where
    runs = []
    for row in range(len(inside)):
        pieces, number = ndimage.label(inside[row])
        for columns in (np.flatnonzero(pieces == k) for k in range(1, number + 1)):
            runs.append((len(columns), row, int(columns[0]), int(columns[-1])))
    return max(runs)[1:]


def wrong_place(truth: np.ndarray, labels: np.ndarray, label: int, drawn: np.ndarray) -> np.ndarray:
    """Return the largest piece of a class that is wrong, else of the class, where nothing is drawn yet."""
    free = ndimage.binary_erosion(truth == label, iterations=2) & (drawn == 255)
    pieces, number = ndimage.label(free & (labels != label))
    if not number:
        pieces, number = ndimage.label(free)
    sizes = np.bincount(pieces.ravel(), minlength=number + 1)[1:]
    return np.asarray(pieces == 1 + int(sizes.argmax()))


def says(page: Any, id_: str, words: str) -> None:
    """Wait until a part of the page says something."""
    page.wait_for_function("([id, words]) => document.getElementById(id).textContent.includes(words)", arg=[id_, words])


def until(true: Any) -> None:
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.3)


def learnt(server: Real) -> None:
    """Wait until one instant model has learnt from every stroke and looked at every picture."""

    def known() -> bool:
        status, rows = server.get("api/status")["instant"], server.get("api/images")
        assert status["state"] != "failed", status
        told = [server.prediction(image, "?model=instant") for image in rows["id"]]
        return all(told) and [each["version"] for each in told] == rows["version"] and len(set(map(number_of, told))) == 1

    until(known)


def number_of(told: Any) -> int:
    return int(told["model"]["number"])


@pytest.fixture
def truths(tmp_path: Path) -> list[np.ndarray]:
    return make_pictures(tmp_path / "photos")


@pytest.fixture
def server(tmp_path: Path, truths: list[np.ndarray]) -> Iterator[Real]:
    served = Real(tmp_path / "photos")
    yield served
    served.stop()


def correct(hand: Hand, server: Real, truths: list[np.ndarray], strokes: int) -> None:
    """Draw so many strokes of each class in each picture where its prediction is wrong, and let them be learnt."""
    for image in (3 - hand.image, hand.image):
        hand.show(image)
        labels = server.get(f"api/images/{image}/prediction/labels?model=instant")
        for _ in range(strokes):
            for label in (0, 1):
                drawn = server.get(f"api/images/{image}/labels")
                hand.draw(label, wrong_place(truths[image - 1], labels, label, drawn))
    learnt(server)


def test_draw_see_correct_train_and_correct_again(browser, server, truths):
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    context.set_default_timeout(1000 * PATIENCE_S)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    # The page's button says no number of steps; a person would wait for 300.
    few = json.dumps({"action": "start", "max_steps": STEPS})
    page.route("**/api/training", lambda route: route.continue_(post_data=few))
    page.goto(server.url)
    says(page, "where", "picture_0 ")

    # Three strokes, and a prediction lies over the picture.
    hand = Hand(page, server)
    objects, number = ndimage.label(truths[0])
    sizes = np.bincount(objects.ravel(), minlength=number + 1)[1:]
    hand.draw(1, objects == 1 + int(sizes.argmax()))
    assert server.prediction(1) is None
    hand.draw(0, truths[0] == 0)
    hand.draw(0, (truths[0] == 0) & (server.get("api/images/1/labels") == 255))
    learnt(server)
    first = server.miou(truths)
    says(page, "prediction-told", "Instant, 3 strokes, no. ")
    assert 0.2 < first < 0.85, "these pictures are to be neither hopeless nor easy"

    # It is corrected where it is wrong.
    for _ in range(2):
        correct(hand, server, truths, STROKES // 4)
    assert server.miou(truths) > first + 0.03

    # A network is trained; it is shown if it is better on strokes that it has not seen, and only then.
    page.click("#train")
    says(page, "training-told", "Network: trained, ")
    says(page, "shown-told", "strokes it has not seen")
    until(lambda: page_shows(page, server, hand))

    # It is corrected again: the instant model follows at once, and whichever is better by then is shown.
    correct(hand, server, truths, 1)
    assert server.miou(truths) > first + 0.03
    until(lambda: page_shows(page, server, hand))
    assert errors == []
    context.close()


def page_shows(page: Any, server: Real, hand: Hand) -> bool:
    """Say whether the words and the overlay on the page are those of the model that is better on held-out strokes."""
    told = server.prediction(hand.image)
    assert told is not None
    scores = {kind: each["value"] for kind, each in told["score"].items()}
    if None in (scores.get("network"), scores.get("instant")):
        return False  # they are being weighed
    kind = "network" if scores["network"] > scores["instant"] else "instant"
    why, title = (page.locator(f"#{id_}").inner_text() for id_ in ("shown-told", "prediction-told"))
    words = "the network is better" if kind == "network" else "the network is not better"
    if (
        told["model"]["kind"] != kind
        or words not in why.lower()
        or not title.lower().startswith(told["model"]["title"].lower())
    ):
        return False
    labels = server.get(f"api/images/{hand.image}/prediction/labels?model={kind}")
    inside = np.flatnonzero((ndimage.minimum_filter(labels, 5) == ndimage.maximum_filter(labels, 5)).ravel())
    points = np.stack(np.divmod(inside[:: len(inside) // 200], SIZE_PX)[::-1], axis=1)
    wanted = [each["colour"] for each in server.get("api/project")["classes"]]
    wanted = np.array([[int(colour[at : at + 2], 16) for at in (1, 3, 5)] for colour in wanted])
    seen = hand.colours(points)
    return bool((seen[:, 3] > 0).all() and (np.abs(seen[:, :3] - wanted[labels[points[:, 1], points[:, 0]]]) <= 1).all())
