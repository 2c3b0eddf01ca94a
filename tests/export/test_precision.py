"""Halves and 8 bits: smaller files, whose loss is measured."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from scribbleseg.errors import ModelError
from scribbleseg.export import precision as module
from scribbleseg.export.parity import LIMITS, Limits, Parity, compare, demand
from scribbleseg.export.precision import rounded, to_float16, to_int8, windows
from scribbleseg.models.folder import load_model
from scribbleseg.predict import probabilities
from scribbleseg.runner import Runner
from tests.fake.exported import picture

PICTURES = [picture(seed, (64, 80)) for seed in range(4)]


@pytest.fixture
def path(exported: Path, tmp_path: Path) -> Path:
    shutil.copyfile(exported / "onnx" / "model.onnx", tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.fixture
def all_weights(monkeypatch):
    """The network is too small for any of its weights to be worth 8 bits."""
    monkeypatch.setattr(module, "SMALL", 8)


def weights(path: Path, dtype: type) -> int:
    return sum(a.size for a in map(numpy_helper.to_array, onnx.load(path).graph.initializer) if a.dtype == dtype)


def found(exported: Path, path: Path, precision: str) -> Parity:
    run = Runner(path, 1).probabilities
    return compare(load_model(exported / "model"), run, PICTURES, precision, path)


def signature(path: Path) -> list[tuple[str, int]]:
    graph = onnx.load(path).graph
    return [(value.name, value.type.tensor_type.elem_type) for value in (*graph.input, *graph.output)]


def test_halves_take_and_return_what_the_original_does(exported, path):
    before, floats = signature(path), weights(path, np.float32)
    to_float16(path)
    assert signature(path) == before
    assert weights(path, np.float16) > 0.95 * floats
    result = found(exported, path, "float16")
    assert result.kept
    assert 0 < result.difference < 0.05
    assert Runner(path).names == Runner(exported / "onnx" / "model.onnx").names


def test_weights_of_8_bits(exported, path, all_weights):
    before, floats = signature(path), weights(path, np.float32)
    to_int8(path, None)
    assert signature(path) == before
    assert weights(path, np.int8) > 0.7 * floats
    assert weights(path, np.int8) + weights(path, np.float32) < 1.2 * floats
    result = found(exported, path, "int8")
    assert result.kept
    assert result.difference > 0


def test_values_of_8_bits_with_ranges_from_pictures(exported, path):
    before = signature(path)
    to_int8(path, [picture(seed, (48, 64)) for seed in range(10, 14)])
    assert signature(path) == before
    kinds = [node.op_type for node in onnx.load(path).graph.node]
    assert kinds.count("QuantizeLinear") >= 5
    assert [p.name for p in path.parent.iterdir()] == ["model.onnx"], "nothing is left beside it"
    result = found(exported, path, "int8")
    assert result.difference > 0
    assert result.miou > 0.3, result  # a network of noise has no margin at all


def test_layers_that_see_the_picture_and_the_last_one_stay_floats(path):
    model = onnx.load(path)
    kept = module._outer_layers(model)
    nodes = {node.name: node for node in model.graph.node}
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    seen = [shapes[nodes[name].input[1]] for name in kept]
    assert seen[-1][0] == 3, "the class head has three classes"
    assert all(shape[1] == 3 for shape in seen[:-1])
    assert len(seen) > 1


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_rounding_is_to_half_a_step(axis):
    array = np.random.default_rng(0).normal(size=(5, 7, 3)).astype(np.float32)
    array[0, 0] = 0
    array[2] = 0
    axis %= 3
    numbers, scale = rounded(array, axis)
    assert numbers.dtype == np.int8
    step = np.expand_dims(scale, tuple(k for k in range(3) if k != axis))
    assert (np.abs(numbers * step - array) <= step / 2 * 1.0001).all()


def test_windows_cover_a_picture_once():
    rgb = picture(0, (70, 33))
    parts = windows(rgb, 32)
    assert [p.shape[:2] for p in parts] == [(32, 32), (32, 1), (32, 32), (32, 1), (6, 32), (6, 1)]
    assert sum(p.size for p in parts) == rgb.size


def result(**changes: float) -> Parity:
    values = {"precision": "float16", "pictures": 1, "difference": 0.0, "other": 0.0, "miou": 1.0}
    return Parity(**(values | {"size_mb": 1.0, "ms": 1.0, "original_ms": 1.0} | changes))


@pytest.mark.parametrize(
    "bad", [{"difference": 0.051}, {"other": 0.0021}, {"miou": 0.97}, {"difference": float("inf")}, {"miou": float("nan")}]
)
def test_each_limit_counts(bad):
    demand(result(), Path("out"), "a model", "do")
    with pytest.raises(ModelError, match="answers as the original does"):
        demand(result(**bad), Path("out"), "a model", "do")


def test_limits_grow_with_what_is_left_out():
    f32, f16, i8 = (LIMITS[name] for name in ("float32", "float16", "int8"))
    assert f32.difference < f16.difference < i8.difference
    assert f32.other < f16.other < i8.other
    assert isinstance(f32, Limits)


def test_what_is_no_number_is_infinitely_far_off(exported, path):
    model = load_model(exported / "model")

    def broken(rgb: np.ndarray) -> np.ndarray:
        probs = probabilities(model, rgb).numpy()
        probs[0, 0, 0] = np.nan
        return probs

    assert compare(model, broken, PICTURES, "float32", path).difference == float("inf")


def test_parity_counts_pixels_and_classes(exported, path):
    """Against a count by hand: an eighth of the pixels gets another class."""
    model, rgb = load_model(exported / "model"), PICTURES[0]
    truth = probabilities(model, rgb).numpy().argmax(0)

    def wrong(rgb: np.ndarray) -> np.ndarray:
        mask = truth.copy()
        mask[:8] = (mask[:8] + 1) % 3
        return np.eye(3, dtype=np.float32)[mask].transpose(2, 0, 1)

    found = compare(model, wrong, [rgb], "float32", path)
    mask = wrong(rgb).argmax(0)
    ious = [
        ((mask == k) & (truth == k)).sum() / ((mask == k) | (truth == k)).sum()
        for k in range(3)
        if ((mask == k) | (truth == k)).any()
    ]
    assert found.other == pytest.approx(1 / 8)
    assert found.miou == pytest.approx(np.mean(ious))
    assert not found.kept
