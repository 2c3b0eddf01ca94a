"""The real command: it starts, answers over a socket, and stops as it should."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest

from scribbleseg.errors import ConfigError, DataError
from scribbleseg.models.folder import load_model
from scribbleseg.predict import predict_mask
from scribbleseg.serve.client import Client
from scribbleseg.serve.server import read_token
from tests.serve.serving import NAMES, colours, encoded, make_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("command") / "model")


@contextlib.contextmanager
def running(model, *words):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "scribbleseg", "serve", model, "--port", port, "--threads", 1, "--device", "cpu", *words]
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        said = []
        for line in process.stdout:
            said.append(line)
            if line.startswith("stop with"):
                break
        else:
            pytest.fail(process.stderr.read())
        yield process, port, "".join(said)
    finally:
        process.kill()
        process.communicate()


def test_it_answers_as_predict_does_and_leaves_when_told(model):
    with running(model) as (process, port, said):
        assert ", ".join(NAMES) in said
        client = Client(f"http://127.0.0.1:{port}")
        assert [each["name"] for each in client.model()["classes"]] == list(NAMES)
        for seed, size in enumerate([(40, 57), (150, 130)]):
            rgb = colours(*size, seed)
            expected = predict_mask(load_model(model), rgb)
            assert (client.mask(rgb) == expected).mean() > 0.999
            assert client.probabilities(encoded(rgb)).shape == (3, *size)
        with pytest.raises(DataError, match="PNG, JPEG"):
            client.predict(b"nothing")
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
        assert process.returncode == 0
        assert "stopped" in out
        assert err == ""


def test_what_was_taken_on_is_answered_after_sigterm(model):
    with running(model, "--batch-wait-ms", 0) as (process, port, _):
        body = encoded(colours(300, 300))
        answers = []

        def ask():
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
                connection.request("POST", "/v1/predict?output=json", body)
                answers.append(connection.getresponse().status)

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
            in_hand = 0
            while len(answers) + in_hand < 3:
                connection.request("GET", "/health/ready")
                in_hand = json.loads(connection.getresponse().read())["requests"]
        process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join(60)
        process.communicate(timeout=30)
        assert answers == [200] * 3
        assert process.returncode == 0


def test_beyond_this_computer_a_token_is_made_and_printed(model):
    with running(model, "--host", "0.0.0.0") as (_, port, said):
        token = said.splitlines()[0].removeprefix("token: ")
        assert len(token) > 20
        address = f"http://127.0.0.1:{port}"
        with pytest.raises(DataError, match="Authorization"):
            Client(address).model()
        assert Client(address, token).mask(np.zeros((9, 9, 3), np.uint8)).shape == (9, 9)


def test_mistakes_are_one_message(tmp_path, model):
    done = subprocess.run(
        [sys.executable, "-m", "scribbleseg", "serve", tmp_path / "none"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "check the path" in done.stderr


def test_a_file_with_a_token(tmp_path):
    (tmp_path / "token").write_text("secret\n")
    assert read_token(tmp_path / "token") == "secret"
    for text in ("", "two words", "é"):
        (tmp_path / "token").write_text(text)
        with pytest.raises(ConfigError, match="token"):
            read_token(tmp_path / "token")
    with pytest.raises(ConfigError, match="No such file"):
        read_token(tmp_path / "none")


def test_the_client_says_what_is_wrong():
    with pytest.raises(ConfigError, match="8421"):
        Client("127.0.0.1:8421")
    with pytest.raises(DataError, match="scribbleseg serve"):
        Client("http://127.0.0.1:9").model()
    with pytest.raises(DataError, match="float64"):
        Client("http://127.0.0.1:9").mask(np.zeros((2, 2, 3)))
