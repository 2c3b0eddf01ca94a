"""The backend as Label Studio asks it, and where it gets pictures from: nowhere but where it was told."""

from __future__ import annotations

import base64
import http.server
import json
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from scribbleseg.data.formats.brush_rle import decode_brush
from scribbleseg.errors import DataError
from scribbleseg.serve.fetching import Fetcher
from tests.serve.serving import NAMES, FakeEngine, colours, encoded, is_an_error, serving

RGB = colours()
TRUTH = RGB.argmax(-1)
INLINE = "data:image/png;base64," + base64.b64encode(encoded(RGB)).decode()

BRUSH = """<View><Image name="photo" value="$picture"/>
<BrushLabels name="tag" toName="photo"><Label value="Leaf"/><Label value="stone"/><Label value="other"/></BrushLabels></View>"""
POLYGONS = BRUSH.replace("BrushLabels", "PolygonLabels")


@pytest.fixture(scope="module")
def client():
    with serving(fetcher=Fetcher("http://127.0.0.1:1")) as client:
        yield client


def asked(client, tasks, config=BRUSH):
    return client.post("/label-studio/predict", json={"tasks": tasks, "label_config": config, "params": {"context": None}})


def task(value):
    return {"id": 7, "data": {"picture": value}}


def test_brush_masks_are_what_the_model_says(client):
    tree = asked(client, [task(INLINE)]).json()
    (made,) = tree["results"]
    assert (
        made["model_version"]
        == tree["model_version"]
        == client.post("/label-studio/setup", json={"schema": BRUSH}).json()["model_version"]
    )
    assert 0 < made["score"] <= 1
    assert [each["value"]["brushlabels"] for each in made["result"]] == [["Leaf"], ["stone"]]
    for each, class_id in zip(made["result"], (1, 2), strict=True):
        assert (each["from_name"], each["to_name"], each["type"]) == ("tag", "photo", "brushlabels")
        inside = decode_brush("answer", each["value"]["rle"], (each["original_height"], each["original_width"]))
        np.testing.assert_array_equal(inside, class_id == TRUTH)


def test_polygons_cover_what_has_no_holes(client):
    rgb = np.full((50, 80, 3), (240, 40, 40), np.uint8)
    rgb[10:30, 20:60] = 40, 240, 40
    value = "data:image/png;base64," + base64.b64encode(encoded(rgb)).decode()
    (region,) = asked(client, [task(value)], POLYGONS).json()["results"][0]["result"]
    assert (region["type"], region["value"]["polygonlabels"]) == ("polygonlabels", ["Leaf"])
    points = np.array(region["value"]["points"]) * (0.8, 0.5)
    assert sorted(map(tuple, points.round(6).tolist())) == [(20, 10), (20, 30), (60, 10), (60, 30)]


def test_a_picture_that_cannot_be_had_costs_its_own_task_alone(client):
    values = ["http://evil.example/a.png", INLINE, "data:image/png;base64,AAAA", "/etc/passwd", None, 3]
    results = asked(client, [task(value) for value in values]).json()["results"]
    assert [bool(each["result"]) for each in results] == [False, True, False, False, False, False]
    assert all(each["error"] for each in (results[0], *results[2:]))


@pytest.mark.parametrize(
    "config",
    [
        None,
        "",
        "<View",
        "<View/>",
        7,
        BRUSH.replace('toName="photo"', 'toName="video"'),
        BRUSH.replace("Leaf", "a").replace("stone", "b"),
        '<!DOCTYPE a [<!ENTITY b "cccc">]><View>&b;</View>',
    ],
)
def test_projects_that_do_not_fit_the_model(client, config):
    is_an_error(asked(client, [task(INLINE)], config), 422)
    if config:
        is_an_error(client.post("/label-studio/setup", json={"schema": config}), 422)


@pytest.mark.parametrize("path", ["setup", "predict", "webhook"])
@pytest.mark.parametrize("body", [b"", b"[", b"[]", b"null", b"[" * 100_000, b"\xff", b'{"tasks": 1}', b'{"tasks": [[]]}'])
def test_bodies_that_label_studio_does_not_send(client, path, body):
    answer = client.post(f"/label-studio/{path}", content=body)
    if answer.status_code != 200:
        is_an_error(answer, 422)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=30),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["data", "picture", "id"]), inner, max_size=3)
        ),
    )
)
def test_no_task_is_a_failure_of_the_program(client, value):
    answer = asked(client, [value, task(value), task(INLINE)])
    assert answer.status_code == 200
    assert answer.json()["results"][2]["result"]


def test_health_webhook_and_the_token():
    with serving(fetcher=Fetcher("http://h"), token="secret") as client:
        is_an_error(client.get("/label-studio/health"), 401)
        assert client.get("/label-studio/health", auth=("anybody", "secret")).json()["status"] == "UP"
        assert client.post("/label-studio/webhook", json={"action": "START_TRAINING"}, auth=("a", "secret")).json() == {}


def test_a_full_server_says_so_to_label_studio_too():
    with serving(FakeEngine(), fetcher=Fetcher("http://h"), max_requests=1) as client:
        with client.predictor.admission.request(1):
            is_an_error(asked(client, [task(INLINE)]), 503)
        assert asked(client, [task(INLINE)]).status_code == 200


@pytest.fixture
def studio():
    """A server that answers as Label Studio's would, and notes what it was asked."""
    asked: list[tuple[str, str, str | None]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(("GET", self.path, self.headers.get("Authorization")))
            if self.path.startswith("/data/elsewhere"):
                self.send_response(302)
                self.send_header("Location", "http://127.0.0.1:1/secret")
                self.end_headers()
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"x" * (2000 if "large" in self.path else 10))

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked.append(("POST", self.path, body.decode()))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"access": "short-lived"}).encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    server.asked = asked
    server.address = f"http://127.0.0.1:{server.server_port}"
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_pictures_come_from_label_studio_with_its_token(studio):
    fetcher = Fetcher(studio.address, "abc", None, 1000)
    assert fetcher.fetch("/data/upload/1/a%20b.png?x=1") == b"x" * 10
    assert fetcher.fetch(f"{studio.address}/data/upload/1/c.png") == b"x" * 10
    expected = [("GET", path, "Token abc") for path in ("/data/upload/1/a%20b.png?x=1", "/data/upload/1/c.png")]
    assert studio.asked == expected
    with pytest.raises(DataError, match="more"):
        fetcher.fetch("/data/upload/large.png")
    with pytest.raises(DataError, match="status 302"):
        fetcher.fetch("/data/elsewhere.png")


def test_a_personal_token_is_changed_for_a_short_lived_one(studio):
    Fetcher(studio.address, "a.b.c", None, 1000).fetch("/data/upload/1.png")
    assert studio.asked[0] == ("POST", "/api/token/refresh", '{"refresh": "a.b.c"}')
    assert studio.asked[1] == ("GET", "/data/upload/1.png", "Bearer short-lived")


@pytest.mark.parametrize(
    "value",
    [
        "http://evil.example/data/a.png",
        "//evil.example/data/a.png",
        "http://127.0.0.1:1/data/a.png",
        "https://127.0.0.1/data/a.png",
        "http://127.0.0.1@evil.example/data/a.png",
        "http://[::1/data/a.png",
        "http://127.0.0.1:99999/data/a.png",
        "file:///etc/passwd",
        "ftp://127.0.0.1/data/a.png",
        "s3://bucket/a.png",
        "/api/users",
        "/data/../api/users",
        "/data/%2e%2e/api/users",
        "/data/a\r\nX: y",
        "",
        "data:image/png,plain",
        "data:image/png;base64,!",
    ],
)
def test_nothing_else_is_ever_asked(studio, value):
    with pytest.raises(DataError):
        Fetcher(studio.address, "abc", None, 1000).fetch(value)
    assert studio.asked == []


def test_local_files_stay_in_their_folder(tmp_path):
    root = tmp_path / "root"
    (root / "deep").mkdir(parents=True)
    (root / "deep" / "a.png").write_bytes(b"picture")
    (tmp_path / "secret.png").write_bytes(b"secret")
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    (root / "large.png").write_bytes(b"x" * 2000)
    fetcher = Fetcher("", "", root, 1000)
    assert fetcher.fetch("/data/local-files/?d=deep/a.png") == b"picture"
    assert fetcher.fetch("http://studio:8080/data/local-files/?d=deep%2Fa.png") == b"picture"
    for name in ("../secret.png", "link.png", "/etc/passwd", "deep", "none.png", "", "large.png", "a%00b"):
        with pytest.raises(DataError):
            fetcher.fetch(f"/data/local-files/?d={name}")


def test_classes_of_the_model_are_found_whatever_their_capitals():
    from scribbleseg.serve.label_studio import control

    found = control(BRUSH, NAMES)
    assert found.labels == {1: "Leaf", 2: "stone"}
    assert (found.name, found.picture, found.key) == ("tag", "photo", "picture")
