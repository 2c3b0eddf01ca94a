from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from tests.annotate.conftest import page_of
from tests.fake.drawing import add, picture_folder, send, stroke

JSON = {"Content-Type": "application/json", "If-Match": "0"}


def post(page, body, **headers):
    return page.post("/api/images/1/commands", content=body, headers=JSON | headers)


def is_an_error(answer):
    assert 400 <= answer.status_code < 500
    assert set(answer.json()) >= {"where", "expected", "got", "do"}
    assert "Traceback" not in answer.text
    assert len(answer.content) < 5000


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8321", "", "127.0.0.1:8321@evil", "a b"]
)
def test_requests_under_a_strange_name_are_refused(page, host):
    assert page.get("/api/project", headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:3000", "http://127.0.0.1:8322"])
def test_another_page_can_neither_read_nor_write(page, origin):
    is_an_error(page.get("/api/project", headers={"Origin": origin}))
    is_an_error(post(page, json.dumps({"commands": [add()]}), Origin=origin))
    assert page.get("/api/images/1").json()["version"] == 0


def test_the_page_itself_can(page):
    assert post(page, json.dumps({"commands": [add()]}), Origin="http://127.0.0.1:8321").status_code == 200


@pytest.mark.parametrize("headers", [{"X-Scribbleseg": "0"}, {"Content-Type": "text/plain"}, {"Content-Type": ""}])
def test_what_a_form_of_another_page_could_send_is_refused(page, headers):
    assert post(page, json.dumps({"commands": [add()]}), **headers).status_code == 415


def test_every_answer_has_the_policy(page):
    for path in ("/", "/api/project", "/api/nothing", "/static/nothing", "/api/images/1/view", "/api/images/999"):
        headers = page.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


def test_a_token_is_needed_once_and_becomes_a_cookie(folder):
    with page_of(folder, token="secret") as page:
        for query in ("", "?token=", "?token=wrong"):
            is_an_error(page.get(f"/api/project{query}"))
        first = page.get("/?token=secret")
        cookie = first.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert page.get("/api/project").json()["token_needed"]
        page.cookies.clear()
        is_an_error(page.get("/api/project"))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"commands": ' + b'{"a":' * 50_000,
        b"null",
        b"[]",
        b'{"commands": []}',
        b'{"commands": [{"id": "a", "op": "fly"}]}',
        b'{"commands": [{"id": "a", "op": "undo", "further": 1}]}',
        b'{"commands": [{"id": "../a", "op": "undo"}]}',
        b'{"commands": [{"id": "a", "op": "replace", "strokes": []}]}',
        b'{"commands": [{"id": "a", "op": "add", "stroke": {"class": 1, "width_px": NaN, "points": [[1, 1]]}}]}',
        b'{"commands": [{"id": "a", "op": "add", "stroke": {"class": 1, "width_px": 1, "points": [[1, Infinity]]}}]}',
        b'{"commands": [{"id": "a", "op": "add", "stroke": {"class": 1, "width_px": 1e999, "points": [[1, 1]]}}]}',
    ],
)
def test_bodies_that_are_no_commands(page, body):
    is_an_error(post(page, body))
    assert page.get("/api/images/1").json()["version"] == 0


@pytest.mark.parametrize(
    "changed",
    [
        {"class": 2},
        {"class": -1},
        {"class": 255},
        {"class": True},
        {"class": 10**30},
        {"class": "1"},
        {"width_px": 0},
        {"width_px": -1},
        {"width_px": 5000},
        {"points": []},
        {"points": [[1]]},
        {"points": [[1, 2, 3]]},
        {"points": [[1e7, 0]]},
        {"points": [[0, 0]] * (2**18 + 1)},
        {"tool": "bomb"},
        {"time": "yesterday"},
        {"author": "x" * 201},
        {"id": "a/../b"},
    ],
    ids=lambda changed: str(changed)[:40],
)
def test_strokes_that_nobody_draws(page, changed):
    is_an_error(post(page, json.dumps({"commands": [{"id": "a", "op": "add", "stroke": stroke() | changed}]})))
    assert page.get("/api/images/1").json()["strokes"] == []


def test_a_stroke_that_would_take_minutes_to_draw_is_refused(tmp_path):
    with page_of(picture_folder(tmp_path / "tall", 1, (400, 8))) as page:
        is_an_error(send(page, 1, add(1, [[0, 0], [0, 400]] * 30_000, 4000)))
        assert send(page, 1, add(1), version=0).status_code == 200


def test_a_body_of_too_many_bytes_is_refused_before_it_is_read(page):
    assert post(page, b" " * (32 * 2**20 + 1)).status_code == 413

    def endless():
        for _ in range(40):
            yield b" " * 2**20

    assert page.post("/api/images/1/commands", content=endless(), headers=JSON).status_code == 413


@pytest.mark.parametrize("image", ["0", "-1", "99", "1.5", "abc", "9" * 40, "..%2f..%2fetc%2fpasswd", "%00", "١"])
@pytest.mark.parametrize("what", ["", "/view", "/thumbnail", "/labels", "/tiles/0/0/0", "/prediction"])
def test_images_that_do_not_exist(page, image, what):
    is_an_error(page.get(f"/api/images/{image}{what}"))


@pytest.mark.parametrize("place", ["1/0/0", "0/1/0", "0/0/1", "99/0/0", "0/-1/0", "999999999999/0/0"])
def test_tiles_that_do_not_exist(page, place):
    is_an_error(page.get(f"/api/images/1/tiles/{place}"))


@pytest.mark.parametrize(
    "query", ["low=nan", "low=5&high=4", "low=x", "channels=9", "channels=0,1", "channels=,", "channels=-1"]
)
def test_views_that_make_no_sense(page, query):
    is_an_error(page.get(f"/api/images/1/view?{query}"))


@pytest.mark.parametrize("path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static//etc/passwd"])
def test_no_file_beside_the_page_is_served(page, path):
    assert page.get(path).status_code == 404


def test_a_broken_picture_is_one_error_and_the_others_stay_usable(folder):
    (folder / "p0.png").write_bytes((folder / "p0.png").read_bytes()[:200])
    (folder / "p1.png").write_bytes(b"not a picture")
    with page_of(folder) as page:
        assert len(page.get("/api/images").json()["id"]) == 3
        for what in ("", "/view", "/thumbnail"):
            is_an_error(page.get(f"/api/images/2{what}"))
        is_an_error(page.get("/api/images/1/view"))
        assert page.get("/api/images/3/view").status_code == 200


def test_a_picture_that_claims_an_enormous_size_is_refused(folder):
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    (folder / "p0.png").write_bytes(png)
    with page_of(folder) as page:
        for what in ("", "/view", "/thumbnail", "/labels", "/tiles/0/0/0"):
            is_an_error(page.get(f"/api/images/1{what}"))
        is_an_error(send(page, 1, add(), version=0))


LEAF = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10)
TREE = st.recursive(LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3))
IDS = st.sampled_from(["a", "b", "c", "d"])
NUMBER = st.floats(-100, 100) | st.sampled_from([0, 1, 2, 5000, 1e6, -1e6])
STROKE = st.fixed_dictionaries(
    {
        "class": st.integers(-1, 4) | LEAF,
        "width_px": NUMBER | LEAF,
        "points": st.lists(st.lists(NUMBER, max_size=3), max_size=4) | TREE,
    },
    optional={"tool": st.sampled_from(["brush", "eraser", "x"]), "time": LEAF, "author": LEAF, "id": IDS, "more": TREE},
)
COMMAND = st.fixed_dictionaries(
    {"id": IDS | st.uuids().map(str), "op": st.sampled_from(["add", "undo", "redo", "clear", "remove", "reclass", "load"])},
    optional={"stroke": STROKE | IDS | TREE, "class": st.integers(-1, 3)},
)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory):
    with page_of(picture_folder(tmp_path_factory.mktemp("fuzz"))) as page:
        yield page


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(body=st.fixed_dictionaries({"commands": st.lists(COMMAND, max_size=4)}) | TREE, version=st.integers(-1, 5))
def test_whatever_is_sent_the_log_and_the_answers_agree(fuzzed, body, version):
    before = fuzzed.get("/api/images/1").json()
    answer = post(fuzzed, json.dumps(body), **{"If-Match": str(before["version"] if version < 2 else version)})
    after = fuzzed.get("/api/images/1").json()
    assert answer.status_code in (200, 412, 422)
    if answer.status_code != 200:
        assert after == before
    assert "Traceback" not in answer.text
    fuzzed.project._drawings.clear()  # what is in memory is what the log says
    assert fuzzed.get("/api/images/1").json() == after
    fuzzed.project.files.flush()
