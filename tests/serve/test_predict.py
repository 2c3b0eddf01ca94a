"""What a client gets for its picture."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import tifffile

from scribbleseg.palette import class_colours
from tests.serve.serving import NAMES, FakeEngine, colours, encoded, is_an_error, opened, serving


@pytest.fixture(scope="module")
def client():
    with serving() as client:
        yield client


RGB = colours()
TRUTH = RGB.argmax(-1)


def ask(client, body, query="", **headers):
    return client.post(f"/v1/predict{query}", content=body, headers=headers)


@pytest.mark.parametrize(
    ("kind", "more"), [("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {}), ("TIFF", {"compression": "tiff_deflate"})]
)
@pytest.mark.parametrize("content_type", ["application/octet-stream", "image/png", "application/x-www-form-urlencoded", ""])
def test_the_mask_has_the_class_of_every_pixel(client, kind, more, content_type):
    answer = ask(client, encoded(RGB, kind, **more), **{"Content-Type": content_type})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/png"
    np.testing.assert_array_equal(opened(answer.content), TRUTH)


def test_jpeg_and_a_form(client):
    answer = client.post("/v1/predict", files={"image": ("photo.jpg", encoded(RGB, "JPEG", quality=95), "image/jpeg")})
    assert (opened(answer.content) == TRUTH).mean() > 0.95


def test_a_picture_on_its_side_is_answered_upright(client):
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    for kind in ("JPEG", "PNG"):
        answer = ask(client, encoded(RGB, kind, exif=exif))
        assert opened(answer.content).shape == (60, 40)


def test_every_form_of_answer(client):
    body = encoded(RGB)
    shares = ask(client, body, "?output=json").json()
    assert (shares["width"], shares["height"]) == (60, 40)
    assert [each["name"] for each in shares["classes"]] == list(NAMES)
    for k, each in enumerate(shares["classes"]):
        inside = k == TRUTH
        assert each["pixels"] == inside.sum()
        assert each["share"] == pytest.approx(inside.mean())
    overlay = opened(ask(client, body, "?output=overlay").content)
    expected = 0.45 * RGB + 0.55 * class_colours(3)[TRUTH]
    np.testing.assert_allclose(overlay, expected, atol=1)
    probs = np.load(io.BytesIO(ask(client, body, "?output=npy").content))
    assert probs.shape == (3, 40, 60)
    np.testing.assert_allclose(probs.sum(0), 1, atol=1e-5)
    stored = tifffile.imread(io.BytesIO(ask(client, body, "?output=tiff").content))
    np.testing.assert_array_equal(stored, probs)


def test_outlines_cover_their_class_and_nothing_else(client):
    from shapely import contains_xy, from_geojson

    answer = ask(client, encoded(RGB), "?output=geojson")
    assert answer.headers["content-type"] == "application/geo+json"
    y, x = np.mgrid[:40, :60] + 0.5
    found = np.full(TRUTH.shape, 255)
    for feature in answer.json()["features"]:
        inside = contains_xy(from_geojson(json.dumps(feature["geometry"])), x, y)
        found[inside] = NAMES.index(feature["properties"]["classification"]["name"])
    np.testing.assert_array_equal(found, TRUTH)


@pytest.mark.parametrize(
    ("accept", "given"),
    [
        ("*/*", "image/png"),
        ("application/json", "application/json"),
        ("text/html, application/json;q=0.9", "application/json"),
        ("application/geo+json", "application/geo+json"),
        ("image/*", "image/png"),
        ("image/tiff", "image/tiff"),
        ("application/x-npy", "application/x-npy"),
    ],
)
def test_accept_picks_the_form(client, accept, given):
    assert ask(client, encoded(RGB), Accept=accept).headers["content-type"] == given


def test_no_form_that_is_taken(client):
    is_an_error(ask(client, encoded(RGB), Accept="text/html"), 406)
    assert "did you mean 'overlay'" in is_an_error(ask(client, encoded(RGB), "?output=overly"), 406)["do"]


def test_more_windows_than_one_agree_with_prediction():
    engine = FakeEngine(window_px=16)
    rgb = colours(50, 70, 3)
    with serving(engine, max_batch=4) as client:
        probs = np.load(io.BytesIO(ask(client, encoded(rgb), "?output=npy").content))
    np.testing.assert_allclose(probs, FakeEngine().run(rgb[None] / np.float32(255))[0], atol=1e-5)
    assert max(shape[0] for shape in engine.batches) == 4
    assert {shape[1:] for shape in engine.batches} == {(16, 16)}


def test_the_windows_are_those_of_prediction_and_of_the_runner():
    from scribbleseg import runner
    from scribbleseg.predict import window_starts
    from scribbleseg.serve.windows import plan

    for length in (1, 5, 64, 65, 100, 1000):
        tops = [top for top, _ in plan(length, 1, 64).places]
        assert tops == window_starts(length, 64) == runner._starts(length, 64)
    np.testing.assert_array_equal(plan(7, 90, 64).weight, np.outer(runner._hill(7), runner._hill(64)))


def test_the_model_and_its_limits_are_told(client):
    told = client.get("/v1/model").json()
    assert [(each["id"], each["name"]) for each in told["classes"]] == list(enumerate(NAMES))
    assert told["window_px"] == 32
    assert told["limits"]["max_pixels"] == 2**24
    assert "/" not in json.dumps(told["origin"])


def test_health_and_numbers(client):
    assert client.get("/health/live").json() == {"status": "live"}
    assert client.get("/health/ready").status_code == 200
    ask(client, encoded(RGB))
    ask(client, b"nothing")
    client.get("/nowhere")
    text = client.get("/metrics").text
    assert 'scribbleseg_requests_total{code="200",route="/v1/predict"}' in text
    assert 'scribbleseg_requests_total{code="415",route="/v1/predict"}' in text
    assert 'scribbleseg_requests_total{code="404",route="other"}' in text
    assert "scribbleseg_requests_in_hand 0.0" in text
    assert "scribbleseg_pixels_in_hand 0.0" in text


def test_two_servers_in_a_process_count_for_themselves(client):
    with serving() as other:
        other.get("/v1/model")
        assert 'code="200",route="/v1/model"} 1.0' in other.get("/metrics").text


def test_a_model_that_fails_is_a_500_and_the_next_picture_is_answered():
    engine = FakeEngine(broken=True)
    with serving(engine) as client:
        assert "fire" not in json.dumps(is_an_error(ask(client, encoded(RGB)), 500))
        engine.broken = False
        assert ask(client, encoded(RGB)).status_code == 200
