"""A model that needs no network, and a server around it in this process."""

from __future__ import annotations

import contextlib
import io
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scribbleseg.reading import PLAIN, Reading

NAMES = ("background", "leaf", "stone")


@dataclass
class FakeEngine:
    """Says of every pixel that its brightest channel is its class. Counts what it is asked."""

    window_px: int | None = 32
    longest_px: int = 0
    reading: Reading = PLAIN
    names: tuple[str, ...] = NAMES
    kind: str = "fake"
    device: str = "cpu"
    origin: dict[str, Any] = field(default_factory=lambda: {"sha256": "0" * 64})
    batches: list[tuple[int, ...]] = field(default_factory=list)
    seconds: float = 0.0
    gate: threading.Event | None = None
    broken: bool = False

    def begin(self, rgb: np.ndarray) -> np.ndarray:
        return rgb

    def run(self, windows: np.ndarray) -> np.ndarray:
        self.batches.append(windows.shape[:3])
        time.sleep(self.seconds)
        if self.gate is not None:
            assert self.gate.wait(30)
        if self.broken:
            raise RuntimeError("the device is on fire")
        scores = np.exp(4 * windows.transpose(0, 3, 1, 2))
        return (scores / scores.sum(1, keepdims=True)).astype(np.float32)

    def end(self, probs: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        return probs


@contextlib.contextmanager
def serving(
    engine: FakeEngine | None = None, *, fetcher: Any = None, token: str = "", hosts: Any = (), **limits: Any
) -> Iterator[Any]:
    from starlette.testclient import TestClient

    from scribbleseg.serve.admission import Limits
    from scribbleseg.serve.app import create_app
    from scribbleseg.serve.predicting import Predictor

    engine = engine or FakeEngine()
    predictor = Predictor(engine, Limits(**limits))
    app = create_app(predictor, title="leaves", token=token, hosts=hosts, fetcher=fetcher)
    with TestClient(app, base_url="http://127.0.0.1:8421", raise_server_exceptions=False) as client:
        client.engine, client.predictor = engine, predictor
        yield client


def colours(height: int = 40, width: int = 60, seed: int = 0) -> np.ndarray:
    """A picture whose pixels have one bright channel each, in blocks."""
    ids = np.random.default_rng(seed).integers(0, 3, (height // 8 + 1, width // 8 + 1))
    ids = np.kron(ids, np.ones((8, 8), int))[:height, :width]
    return (40 + 200 * np.eye(3)[ids]).astype(np.uint8)


def encoded(rgb: np.ndarray, kind: str = "PNG", **more: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, format=kind, **more)
    return file.getvalue()


def opened(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture)


def make_model(folder: Path, window_px: int = 64, longest_px: int = 0) -> Path:
    """Write a small model with answers that differ from place to place."""
    import torch

    from scribbleseg.config import ModelConfig
    from scribbleseg.models.folder import TrainedModel, save_model
    from scribbleseg.models.segmenter import Segmenter

    stages = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8] * 4, "depths": [1] * 4, "layer_type": "basic"}
    settings = {"backbone": stages, "decoder": "fpn", "channels": 8, "feature_dim": 4}
    torch.manual_seed(0)
    segmenter = Segmenter(ModelConfig.model_validate(settings), len(NAMES)).eval()
    for parameter in segmenter.class_head.parameters():
        parameter.data *= 20
    save_model(folder, TrainedModel(segmenter, NAMES, window_px, longest_px))
    return folder


def is_an_error(answer: Any, status: int | None = None) -> dict[str, str]:
    assert 400 <= answer.status_code < 600 if status is None else answer.status_code == status, answer.text
    tree = answer.json()
    assert set(tree) == {"where", "expected", "got", "do"}
    assert all(isinstance(value, str) and value for value in tree.values())
    assert "Traceback" not in answer.text
    assert "0x" not in answer.text
    return tree
