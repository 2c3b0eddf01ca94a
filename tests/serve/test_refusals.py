"""Who is turned away, and with which words."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings, strategies as st

from tests.serve.serving import FakeEngine, colours, encoded, is_an_error, serving

PNG = encoded(colours(20, 30))
SAMPLES = [PNG, encoded(colours(20, 30), "JPEG"), encoded(colours(20, 30), "WEBP"), encoded(colours(20, 30), "TIFF")]


@pytest.fixture(scope="module")
def client():
    with serving(max_bytes=2**20, max_pixels=10_000) as client:
        yield client


def ask(client, body, query="", **headers):
    return client.post(f"/v1/predict{query}", content=body, headers=headers)


def bomb(side: int) -> bytes:
    """A PNG whose header claims many pixels, and which is cut short behind it."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    rest = b"IDAT" + zlib.compress(b"\0" * 1000)
    parts = [chunk, rest, b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(struct.pack(">I", len(p) - 4) + p + struct.pack(">I", zlib.crc32(p)) for p in parts)


@pytest.mark.parametrize("side", [101, 20_000, 100_000, 2**31 - 1])
def test_a_picture_of_too_many_pixels_is_refused_by_its_header(client, side, monkeypatch):
    import scribbleseg.serve.pictures as pictures

    monkeypatch.setattr(pictures, "decode", lambda *_: pytest.fail("it was decoded"))
    assert is_an_error(ask(client, bomb(side)))["where"] == "image"


def test_a_tiff_of_too_many_pixels_or_channels(client):
    for shape in ((200, 200, 3), (80, 80, 40)):
        file = io.BytesIO()
        kind = {"photometric": "rgb"} if shape[-1] == 3 else {"photometric": "minisblack", "planarconfig": "contig"}
        tifffile.imwrite(file, np.zeros(shape, np.uint8), compression="zlib", **kind)
        is_an_error(ask(client, file.getvalue()), 413)


def test_a_stack_is_not_one_picture(client):
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros((3, 20, 20), np.uint8), photometric="minisblack")
    assert "stack" in is_an_error(ask(client, file.getvalue()), 422)["got"]


def test_a_body_of_too_many_bytes(client):
    is_an_error(ask(client, b" " * (2**20 + 1)), 413)

    def endless():
        for _ in range(64):
            yield b" " * 2**16

    is_an_error(ask(client, endless()), 413)
    assert ask(client, PNG).status_code == 200


@pytest.mark.parametrize("body", [b"", b"GIF89a...", b"<svg/>", b"\x89PNG", b"\xff\xd8", b"%PDF-1.7", b"\0" * 100])
def test_bytes_that_are_no_picture(client, body):
    is_an_error(ask(client, body), 415)


def test_other_bodies(client):
    is_an_error(ask(client, b"{}", **{"Content-Type": "application/json"}), 415)
    is_an_error(client.post("/v1/predict", data={"image": "a"}, files={"other": b"x"}), 422)
    is_an_error(client.post("/v1/predict", files=[("image", b"x"), ("image", b"y")]), 422)
    is_an_error(ask(client, b"--x", **{"Content-Type": "multipart/form-data"}), 422)
    is_an_error(ask(client, b"--x", **{"Content-Type": "multipart/form-data; boundary=y"}), 422)
    is_an_error(ask(client, PNG, **{"Content-Length": "many"}))


@pytest.mark.parametrize("sample", SAMPLES, ids=["png", "jpeg", "webp", "tiff"])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.6, 0.9])
def test_a_picture_that_is_cut_short(client, sample, share):
    answer = ask(client, sample[: int(len(sample) * share)])
    if answer.status_code != 200:  # the last rows of some kinds may be missing
        is_an_error(answer)
        assert answer.status_code in (413, 415, 422)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_body_is_a_failure_of_the_program(client, data):
    body = bytearray(data.draw(st.sampled_from(SAMPLES)))
    for place, value in data.draw(st.lists(st.tuples(st.integers(0, len(body) - 1), st.integers(0, 255)), max_size=8)):
        body[place] = value
    body = bytes(body[: data.draw(st.integers(0, len(body)))]) + data.draw(st.binary(max_size=20))
    answer = ask(client, body)
    if answer.status_code != 200:
        is_an_error(answer)
        assert answer.status_code in (413, 415, 422)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=300), kind=st.sampled_from(["multipart/form-data; boundary=x", "image/png", "", "\x00"]))
def test_no_garbage_is_a_failure_of_the_program(client, body, kind):
    answer = ask(client, body, **{"Content-Type": kind})
    is_an_error(answer)
    assert answer.status_code < 500


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "127.0.0.1:8421@evil", "a b"])
def test_requests_under_a_strange_name(client, host):
    is_an_error(client.get("/v1/model", headers={"Host": host}), 403)


@pytest.mark.parametrize("headers", [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}])
def test_another_page_can_neither_read_nor_ask(client, headers):
    is_an_error(client.get("/v1/model", headers=headers), 403)
    is_an_error(ask(client, PNG, **headers), 403)


def test_addresses_and_methods_that_there_are_not(client):
    is_an_error(client.get("/v1/predict"), 405)
    is_an_error(client.post("/v1/model"), 405)
    for path in ("/v2/predict", "/../etc/passwd", "/%2e%2e/etc", "/label-studio/predict"):
        is_an_error(client.get(path), 404)


def test_every_answer_has_the_policy(client):
    for path in ("/", "/v1/model", "/nowhere", "/metrics"):
        headers = client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; style-src 'self';")
        assert headers["x-content-type-options"] == "nosniff"


def basic(token):
    import base64

    return "Basic " + base64.b64encode(f"anybody:{token}".encode()).decode()


def test_a_token_is_asked_for_everywhere_but_at_the_door():
    with serving(token="secret") as client:
        for value in (None, "", "Bearer", "Bearer wrong", "secret", basic("wrong"), "Basic !", "Bearer secret2"):
            headers = {} if value is None else {"Authorization": value}
            for path in ("/v1/model", "/metrics"):
                is_an_error(client.get(path, headers=headers), 401)
            is_an_error(ask(client, PNG, **headers), 401)
        for value in ("Bearer secret", "bearer  secret", basic("secret")):
            assert client.get("/v1/model", headers={"Authorization": value}).status_code == 200
        for path in ("/health/live", "/health/ready", "/openapi.json", "/", "/style.css"):
            assert client.get(path, headers={"Host": "gpu.example"}).status_code == 200
        assert "leaf" not in client.get("/").text


def test_values_that_the_model_cannot_use_are_the_pictures_fault():
    from scribbleseg.reading import Reading

    with serving(FakeEngine(reading=Reading.model_validate({"channels": [5]}))) as client:
        assert "channel" in is_an_error(ask(client, PNG), 422)["expected"]
