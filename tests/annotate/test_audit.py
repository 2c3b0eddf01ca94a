from __future__ import annotations

import numpy as np
import pytest

from tests.annotate.conftest import page_of
from tests.fake.learning import Learned


@pytest.fixture
def page(folder):
    with page_of(folder, learner=Learned()) as client:
        yield client


def begin(page, number: int = 12, unit: str = "pixel") -> dict:
    answered = page.post("/api/audit", json={"number": number, "unit": unit})
    assert answered.status_code == 200, answered.text
    return answered.json()


def predicted(page, image: int, x: int, y: int) -> int:
    labels = Learned().prediction(image).labels
    width, height = (page.get(f"/api/images/{image}").json()[k] for k in ("width", "height"))
    return int(labels[y * labels.shape[0] // height, x * labels.shape[1] // width])


@pytest.mark.parametrize("unit", ["pixel", "patch"])
def test_points_lie_in_images_and_do_not_tell_the_prediction(page, unit):
    told = begin(page, unit=unit)
    assert 0 < len(told["items"]) <= 12
    for item in told["items"]:
        about = page.get(f"/api/images/{item['image']}").json()
        assert 0 <= item["x"] < about["width"]
        assert 0 <= item["y"] < about["height"]
        assert set(item) == {"item", "image", "x", "y", "radius"}


def test_all_right_and_all_wrong(page):
    for right in (True, False):
        for item in begin(page)["items"]:
            label = predicted(page, item["image"], item["x"], item["y"])
            given = label if right else 1 - label
            assert page.post("/api/audit/answers", json={"item": item["item"], "class": given}).status_code == 200
        result = page.get("/api/audit").json()
        assert result["accuracy"] == pytest.approx(1.0 if right else 0.0)
        assert result["answered"] == result["points"] == 12
        assert result["interval"][0] <= result["accuracy"] <= result["interval"][1]
        assert [each["name"] for each in result["classes"]] == ["background", "object"]


def test_the_reliability_curve_has_the_ranges_that_were_answered(page):
    for item in begin(page)["items"]:
        label = predicted(page, item["image"], item["x"], item["y"])
        page.post("/api/audit/answers", json={"item": item["item"], "class": 0 if label == 1 else label})
    curve = page.get("/api/audit").json()["reliability"]
    assert [row["n"] for row in curve] == [6, 6]
    assert [row["confidence"] for row in curve] == pytest.approx([200 / 255, 250 / 255])
    assert [row["accuracy"] for row in curve] == [1, 0]  # the surer class was wrong everywhere
    assert all(0 <= row["interval"][0] <= row["accuracy"] <= row["interval"][1] <= 1 for row in curve)


def test_without_probabilities_the_curve_is_empty(folder):
    class Silent(Learned):
        def prediction(self, image, kind=None):
            found = super().prediction(image, kind)
            if found is not None:
                found.sure = None
            return found

    with page_of(folder, learner=Silent()) as page:
        page.post("/api/audit/answers", json={"item": begin(page)["items"][0]["item"], "class": 0})
        assert page.get("/api/audit").json()["reliability"] == []


def test_an_audit_judges_one_kind_of_model(folder):
    class Two(Learned):
        """A network that is better, and has looked at image 2 alone."""

        def status(self):
            return super().status() | {"shown": {"kind": "network", "number": 4, "why": ""}}

        def prediction(self, image, kind=None):
            if image == 2 and kind != "instant":
                found = super().prediction(1)
                found.kind, found.number = "network", 4
                return found
            return None if kind == "network" else super().prediction(image)

    with page_of(folder, learner=Two()) as page:
        told = begin(page)
        assert {item["image"] for item in told["items"]} == {2}
        assert page.get("/api/audit").json()["models"] == ["network 4"]


def test_answers_survive_a_restart_and_may_be_changed(folder):
    with page_of(folder, learner=Learned()) as page:
        item = begin(page)["items"][0]["item"]
        for given in (0, 1):
            page.post("/api/audit/answers", json={"item": item, "class": given})
        before = page.get("/api/audit").json()
    with page_of(folder, learner=Learned()) as page:
        assert page.get("/api/audit").json() == before
        assert before["answered"] == 1


def test_an_undecided_point_is_left_out(page):
    item = begin(page)["items"][0]["item"]
    page.post("/api/audit/answers", json={"item": item, "class": None})
    result = page.get("/api/audit").json()
    assert (result["answered"], result["unanswered"], result["accuracy"]) == (0, 1, None)


@pytest.mark.parametrize("body", [{"item": 0, "class": 0}, {"item": 99, "class": 0}, {"item": 1, "class": 2}, {"item": 1}])
def test_answers_that_fit_nothing_are_refused(page, body):
    begin(page)
    assert page.post("/api/audit/answers", json=body).status_code == 422
    assert page.get("/api/audit").json()["answered"] == 0


def test_without_a_prediction_or_an_audit_it_says_so(folder):
    with page_of(folder) as page:
        told = page.post("/api/audit", json={"number": 5})
        assert told.status_code == 422
        assert "prediction" in told.json()["expected"]
        assert page.get("/api/audit").status_code == 422
        assert page.post("/api/audit", json={"number": 10**9}).status_code == 422


def test_a_folder_keeps_its_key(folder):
    keys = []
    for _ in range(2):
        with page_of(folder) as page:
            keys.append(page.get("/api/project").json()["key"])
    assert keys[0] == keys[1]
    assert len(keys[0]) == 32
    assert np.unique(list(keys[0])).size > 4
