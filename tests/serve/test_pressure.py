"""More than the server can do: what was taken on is answered, the rest is refused at once."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from scribbleseg.serve.admission import Admission, BusyError, Limits
from scribbleseg.serve.batching import Batcher, Job
from tests.serve.serving import FakeEngine, colours, encoded, is_an_error, opened, serving

RGB = [colours(30, 30, seed) for seed in range(12)]


def floats(rgb):
    return rgb / np.float32(255)


def waited(condition, seconds=20.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come to pass"
        time.sleep(0.005)


def later():
    return time.monotonic() + 30


def test_pictures_of_one_window_size_go_together_and_get_their_own_answers():
    engine = FakeEngine(gate=threading.Event())
    batcher = Batcher(engine, max_batch=8)
    jobs = [Job(floats(rgb), later()) for rgb in RGB]
    for job in jobs:
        batcher.submit(job)
    engine.gate.set()
    for job, rgb in zip(jobs, RGB, strict=True):
        np.testing.assert_array_equal(job.future.result(20).argmax(0), rgb.argmax(-1))
    assert sum(shape[0] for shape in engine.batches) == len(RGB)
    assert max(shape[0] for shape in engine.batches) == 8
    batcher.close()


def test_pictures_of_different_sizes_do_not_mix():
    engine = FakeEngine(gate=threading.Event())
    batcher = Batcher(engine, max_batch=8)
    rgbs = [colours(20 + 5 * (k % 2), 30, k) for k in range(6)]
    jobs = [Job(floats(rgb), later()) for rgb in rgbs]
    for job in jobs:
        batcher.submit(job)
    engine.gate.set()
    for job, rgb in zip(jobs, rgbs, strict=True):
        np.testing.assert_array_equal(job.future.result(20).argmax(0), rgb.argmax(-1))
    batcher.close()


def test_a_batch_waits_for_what_is_coming_but_not_for_nothing():
    engine = FakeEngine()
    alone = Batcher(engine, wait_s=1000, coming=lambda: 1)
    job = Job(floats(RGB[0]), later())
    alone.submit(job)
    job.future.result(20)
    alone.close()
    together = Batcher(engine, wait_s=1000, coming=lambda: 2)
    jobs = [Job(floats(rgb), later()) for rgb in RGB[:2]]
    together.submit(jobs[0])
    time.sleep(0.1)
    assert not jobs[0].future.done()
    together.submit(jobs[1])
    for job in jobs:
        job.future.result(20)
    assert engine.batches[-1][0] == 2
    together.close()


def test_work_that_nobody_waits_for_is_not_done():
    engine = FakeEngine(gate=threading.Event())
    batcher = Batcher(engine, max_batch=1)
    first, given_up, late, last = (
        Job(floats(RGB[0]), later()),
        Job(floats(RGB[1]), later()),
        Job(floats(RGB[2]), 0),
        Job(floats(RGB[3]), later()),
    )
    batcher.submit(first)
    waited(lambda: engine.batches)
    for job in (given_up, late, last):
        batcher.submit(job)
    given_up.future.cancel()
    engine.gate.set()
    last.future.result(20)
    assert len(engine.batches) == 2
    batcher.close()


def test_closing_fails_what_was_not_begun():
    engine = FakeEngine(gate=threading.Event())
    batcher = Batcher(engine, max_batch=1)
    jobs = [Job(floats(rgb), later()) for rgb in RGB[:3]]
    for job in jobs:
        batcher.submit(job)
    waited(lambda: engine.batches)
    threading.Timer(0.05, engine.gate.set).start()
    batcher.close(20)
    with pytest.raises(BusyError):
        jobs[2].future.result(20)
    with pytest.raises(BusyError):
        batcher.submit(Job(floats(RGB[0]), later()))
    assert not batcher.alive


def test_a_full_server_refuses_at_once_and_says_when_to_come_again():
    engine = FakeEngine(gate=threading.Event())
    with serving(engine, max_requests=3) as client, ThreadPoolExecutor(8) as pool:
        taken = [pool.submit(client.post, "/v1/predict", content=encoded(rgb)) for rgb in RGB[:3]]
        waited(lambda: client.predictor.admission.requests == 3)
        refused = client.post("/v1/predict", content=encoded(RGB[3]))
        is_an_error(refused, 503)
        assert int(refused.headers["retry-after"]) >= 1
        assert client.get("/health/live").status_code == 200
        assert client.get("/health/ready").json()["requests"] == 3
        engine.gate.set()
        for answer, rgb in zip(taken, RGB, strict=False):
            np.testing.assert_array_equal(opened(answer.result(20).content), rgb.argmax(-1))
        assert client.post("/v1/predict", content=encoded(RGB[3])).status_code == 200


def test_a_request_that_takes_too_long_is_given_up_and_leaves_no_trace():
    engine = FakeEngine(gate=threading.Event())
    with serving(engine, timeout_s=0.3) as client:
        is_an_error(client.post("/v1/predict", content=encoded(RGB[0])), 504)
        waited(lambda: client.predictor.admission.requests == 0)
        engine.gate.set()
        assert client.predictor.admission.pixels == client.predictor.admission.bytes == 0
        assert client.post("/v1/predict", content=encoded(RGB[0])).status_code == 200


def test_bytes_and_pixels_in_hand_are_limited():
    admission = Admission(Limits(max_bytes=100, max_pixels=1000, timeout_s=10))
    with admission.request(100), admission.request(100):
        assert (admission.requests, admission.bytes) == (2, 200)
        with pytest.raises(BusyError), admission.request(700):
            pass
    with admission.picture(1500), pytest.raises(BusyError), admission.picture(501):
        pass
    assert (admission.requests, admission.bytes, admission.pixels) == (0, 0, 0)


def test_what_would_not_be_done_in_time_is_not_taken_on():
    admission = Admission(Limits(timeout_s=10))
    admission.learn(100, 1)
    with admission.picture(900):
        assert admission.wait_s == pytest.approx(9)
        with pytest.raises(BusyError, match="9 s") as found, admission.picture(200):
            pass
        assert found.value.retry_s == 9
    with admission.picture(5000):  # alone, anything is tried
        pass


def test_a_client_that_leaves_makes_room():
    import asyncio

    engine = FakeEngine(gate=threading.Event())

    async def leaving():
        from scribbleseg.serve.app import create_app
        from scribbleseg.serve.predicting import Predictor

        predictor = Predictor(engine, Limits())
        app = create_app(predictor)
        messages = [{"type": "http.request", "body": encoded(RGB[0])}]
        sent = []

        async def receive():
            if messages:
                return messages.pop()
            while not engine.batches:
                await asyncio.sleep(0.005)
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)

        headers = [(b"host", b"127.0.0.1"), (b"content-length", b"5")]
        scope = {"type": "http", "method": "POST", "path": "/v1/predict", "query_string": b"", "headers": headers}
        await asyncio.wait_for(
            app(scope | {"http_version": "1.1", "root_path": "", "raw_path": b"/v1/predict"}, receive, send), 20
        )
        assert sent[0]["status"] == 499
        assert predictor.admission.requests == predictor.admission.pixels == 0
        engine.gate.set()
        predictor.batcher.close(20)

    asyncio.run(leaving())


def test_who_still_waits_when_the_server_stops_is_told():
    engine = FakeEngine(gate=threading.Event(), window_px=8)
    with serving(engine, max_batch=1) as client, ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(client.post, "/v1/predict", content=encoded(rgb)) for rgb in RGB[:2]]
        waited(lambda: len(client.predictor.batcher) == 2)
        client.predictor.batcher.close(0)
        for answer in waiting:
            is_an_error(answer.result(20), 503)
        is_an_error(client.get("/health/ready"), 503)
        is_an_error(client.post("/v1/predict", content=encoded(RGB[2])), 503)
        engine.gate.set()
