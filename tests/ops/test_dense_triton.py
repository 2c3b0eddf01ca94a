"""The Triton backend of sums over all pairs against the PyTorch one: on a GPU where there is one, in the interpreter elsewhere.

Whether a kernel is interpreted is settled when its file is first read, which the table does late, so it is enough to ask
for it when the tests are collected.
"""

from __future__ import annotations

import importlib.util
import os

import pytest
import torch
from torch import Tensor

from scribbleseg.ops.dense import BACKENDS, dense_energy, dense_filter, gaussian_sum_triton
from scribbleseg.ops.dense_torch import gaussian_sum_torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    os.environ.setdefault("TRITON_INTERPRET", "1")
pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")

# B, G, N, I, J; a tile is 64 × 32 points, a group 64 channels
SHAPES = [(1, 1, 1, 1, 1), (2, 5, 22, 67, 131), (1, 3, 65, 64, 64), (1, 65, 17, 5, 70), (2, 2, 33, 129, 3)]


def make(shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    b, g, n, i, j = shape
    rng = torch.Generator().manual_seed(sum(shape))
    x, y = (torch.randn(b, g, k, generator=rng) / g**0.5 for k in (i, j))
    return x, y, torch.randn(b, n, j, generator=rng), torch.randn(b, n, i, generator=rng)


@pytest.fixture(autouse=True)
def poison():
    """Fill memory that is asked for without being written with NaN, so that what a kernel leaves out shows."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("pull", [False, True])
def test_equals_the_portable_backend(shape, pull):
    x, y, v, u = make(shape)
    up = u if pull else None
    got = gaussian_sum_triton(*(None if t is None else t.to(DEVICE) for t in (x, y, v, up))).cpu()
    true = gaussian_sum_torch(x.double(), y.double(), v.double(), None if up is None else up.double())
    assert got.dtype == torch.float32
    assert float((got - true).abs().max()) <= 2e-6 * float(true.abs().max()) + 1e-7


def test_a_kernel_of_long_guides_is_as_exact():
    # Guides far from the origin and close to each other: squares of ‖x‖² would have no digits left.
    x, y, v, _ = make((1, 3, 4, 20, 30))
    got = gaussian_sum_triton(x.to(DEVICE) + 2048, y.to(DEVICE) + 2048, v.to(DEVICE)).cpu()
    torch.testing.assert_close(got.double(), gaussian_sum_torch(x.double(), y.double(), v.double()), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("method", ["exact", "low_rank"])
def test_the_energy_and_its_gradients(method):
    rng = torch.Generator().manual_seed(3)
    probs, guide = torch.randn(2, 3, 7, 11, generator=rng).softmax(1), torch.randn(2, 4, 7, 11, generator=rng)
    valid = torch.rand(2, 7, 11, generator=rng) > 0.2
    results = []
    for backend in ("triton", "torch"):
        p, g = (t.clone().to(DEVICE).requires_grad_() for t in (probs, guide))
        energy = dense_energy(p, g, valid.to(DEVICE), method=method, backend=backend, num_landmarks=20)
        results.append((energy.detach(), *torch.autograd.grad(energy, (p, g))))
    for a, b in zip(*results, strict=True):
        assert float((a - b).abs().max()) <= 2e-5 * float(b.abs().max())


def test_it_is_picked_for_the_exact_method_on_a_gpu_alone():
    assert next(iter(BACKENDS["exact"])) == "triton"
    if DEVICE == "cpu":
        reason = BACKENDS["exact"]["triton"].why_not(torch.device("cpu"))
        assert reason is not None
        assert reason.startswith("by name only")


def test_nan_ends_in_nan():
    values, guide = torch.ones(1, 2, 5, 5, device=DEVICE), torch.zeros(1, 3, 5, 5, device=DEVICE)
    guide[0, 1, 2, 2] = torch.nan
    assert torch.isnan(dense_filter(values, guide, method="exact", backend="triton")).any()
