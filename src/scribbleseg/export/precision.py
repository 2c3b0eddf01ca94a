"""Smaller ONNX files: halves, or 8 bits. What goes in and what comes out stays as it is."""

from __future__ import annotations

import math
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scribbleseg.export.whole import quiet

#: Layers whose weights are worth 8 bits, and which of their inputs these are.
LAYERS = ("Conv", "ConvTranspose", "MatMul", "Gemm")

#: Weights of fewer numbers stay as they are: beside them a scale a channel saves nothing.
SMALL = 1024


def to_float16(path: Path) -> None:
    """Turn a model's weights and arithmetic into halves: half the file.

    On a CPU ONNX Runtime computes most layers as float32 all the same, and converts there and back.
    """
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with quiet():  # it tells of every number that rounds to nothing
        onnx.save(convert_float_to_float16(onnx.load(path), keep_io_types=True), path)


def to_int8(path: Path, typical: Sequence[np.ndarray] | None) -> None:
    """Turn a model's weights into 8 bits with a scale for each channel, and the values between its layers too.

    Without pictures only the weights are stored so, and computed with as floats: a quarter of the file for the least loss.
    With pictures, from which the ranges are taken, ONNX Runtime quantizes the layers (QDQ), all but those that see the
    picture itself and the last one: on the ACDC U-Net these few made seven times the loss. Its third way, ranges found anew
    for each picture, took three times as long as float32 there (docs/how-to/export.md).

    Args:
        path: of the model; it is replaced.
        typical: pictures (H, W, 3) of the type that the model takes.
    """
    import onnx

    model = onnx.load(path)
    if typical is None:
        _store_weights(model)
        onnx.save(model, path)
    else:
        _quantize(path, _outer_layers(model), typical)


def _store_weights(model: Any) -> None:
    """Replace the layers' weights by whole numbers, and a step that multiplies them with their scales."""
    from onnx import helper, numpy_helper

    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    users: dict[str, list[tuple[Any, int]]] = defaultdict(list)
    for node in graph.node:
        for place, name in enumerate(node.input):
            users[name].append((node, place))
    steps = []
    for name, tensor in weights.items():
        array = numpy_helper.to_array(tensor)
        fits = all(node.op_type in LAYERS and place == 1 for node, place in users[name])
        if array.dtype != np.float32 or array.size < SMALL or not fits or not users[name]:
            continue
        axis = _channel_axis(users[name][0][0], array.ndim)
        numbers, scale = rounded(array, axis)
        graph.initializer.remove(tensor)
        stored = {f"{name}_int8": numbers, f"{name}_scale": scale}
        graph.initializer.extend(numpy_helper.from_array(value, key) for key, value in stored.items())
        steps.append(helper.make_node("DequantizeLinear", list(stored), [name], name=f"{name}_float", axis=axis))
    for step in reversed(steps):
        graph.node.insert(0, step)


def rounded(weights: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Return int8 numbers and a float32 scale for each entry of an axis, whose product is nearest to the weights."""
    others = tuple(k for k in range(weights.ndim) if k != axis)
    scale = np.maximum(np.abs(weights).max(others) / 127, np.finfo(np.float32).tiny).astype(np.float32)
    numbers = (weights / np.expand_dims(scale, others)).round().clip(-127, 127).astype(np.int8)
    return numbers, scale


def _channel_axis(node: Any, ndim: int) -> int:
    """Return the axis of a layer's weights that counts its outputs."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        return 0 if any(a.name == "transB" and a.i for a in node.attribute) else 1
    return 1 if node.op_type == "ConvTranspose" else ndim - 1


def _outer_layers(model: Any) -> list[str]:
    """Return the names of the layers that see the picture itself, by their three channels, and of the last one."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    layers = [node for node in model.graph.node if node.op_type in LAYERS and len(shapes.get(node.input[1], ())) > 1]
    first = [node.name for node in layers if node.op_type == "Conv" and shapes[node.input[1]][1] == 3]
    return [*first, layers[-1].name]


def _quantize(path: Path, kept: list[str], typical: Sequence[np.ndarray]) -> None:
    """Let ONNX Runtime quantize the layers but those kept, with ranges from pictures."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.feeds: Iterator[dict[str, np.ndarray]] = ({"image": rgb[None]} for rgb in typical)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.feeds, None)

    with quiet(), tempfile.TemporaryDirectory(dir=path.parent) as folder:
        quantized = Path(folder) / path.name
        quantize_static(
            path,
            quantized,
            Reader(),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            op_types_to_quantize=[kind for kind in LAYERS if kind != "ConvTranspose"],
            nodes_to_exclude=kept,
        )
        quantized.replace(path)


def windows(rgb: np.ndarray, side: int) -> list[np.ndarray]:
    """Return a picture's windows of at most ``side``, without overlap: what a model of windows sees of it."""
    rows, columns = (math.ceil(n / side) for n in rgb.shape[:2])
    return [rgb[i * side : (i + 1) * side, j * side : (j + 1) * side] for i in range(rows) for j in range(columns)]
