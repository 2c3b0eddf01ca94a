"""A tiny model, pictures in folders, and a local S3."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.fake.models import make_model, make_pictures, picture


@pytest.fixture(scope="session")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and images in two folders; one of each size, so that fours share batches and break up."""
    root = tmp_path_factory.mktemp("many")
    make_model(root / "model", window_px=48)
    make_pictures(root / "images" / "a", 14)
    make_pictures(root / "images" / "b" / "c", 7)
    Image.fromarray(picture(3, (150, 140))).save(root / "images" / "a" / "picture_05x.png")
    return root


@pytest.fixture(scope="session")
def truth(places: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the plain loop makes of them, folder by folder."""
    from tests.distributed.test_blocks import plain

    return plain(places, places / "images", tmp_path_factory.mktemp("plain"))


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no Ray between fetching and worker."""
    from scribbleseg.distributed import evaluation, run
    from tests.distributed.without_ray import in_this_process

    monkeypatch.setattr(run, "run_blocks", in_this_process)
    monkeypatch.setattr(evaluation, "run_blocks", in_this_process)


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return a function that makes a bucket in a local S3, and says the query that leads there."""
    server = pytest.importorskip("moto.server", reason="needs moto[server]")
    boto3 = pytest.importorskip("boto3", reason="needs boto3")
    patch = pytest.MonkeyPatch()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        patch.setenv(name, value)
    running = server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    client = boto3.client("s3", endpoint_url=f"http://{host}:{port}")
    buckets = iter(range(1000))

    def bucket() -> tuple[str, str, Any]:
        name = f"bucket-{next(buckets)}"
        client.create_bucket(Bucket=name)
        return f"s3://{name}", f"?endpoint_override={host}:{port}&scheme=http&region=us-east-1", client

    yield bucket
    running.stop()
    patch.undo()
