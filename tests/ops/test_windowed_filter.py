from __future__ import annotations

import pytest
import torch

from scribbleseg.ops import windowed_filter
from scribbleseg.ops.backends import BY_NAME_ONLY
from scribbleseg.ops.windowed import BACKENDS


def make(size: tuple[int, int] = (7, 9), channels: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(4)
    values = torch.randn(2, channels, *size, generator=rng, dtype=torch.float64)
    guide = torch.randn(2, 2, *size, generator=rng, dtype=torch.float64)
    valid = torch.rand(2, *size, generator=rng) > 0.2
    return values, guide, valid


def loops(values, guide, valid, radius, dilation, sigma_px):
    """The definition, pair by pair."""
    result = values.clone()
    batch, _, height, width = values.shape
    offsets = [
        (dy * dilation, dx * dilation) for dy in range(-radius, radius + 1) for dx in range(-radius, radius + 1) if dy or dx
    ]
    for b in range(batch):
        for y in range(height):
            for x in range(width):
                total, mass = torch.zeros_like(values[b, :, y, x]), 0.0
                for dy, dx in offsets:
                    if 0 <= y + dy < height and 0 <= x + dx < width and valid[b, y, x] and valid[b, y + dy, x + dx]:
                        square = ((guide[b, :, y, x] - guide[b, :, y + dy, x + dx]) ** 2).sum() + (dy**2 + dx**2) / sigma_px**2
                        k = torch.exp(-0.5 * square)
                        total, mass = total + k * values[b, :, y + dy, x + dx], mass + k
                if mass:
                    result[b, :, y, x] = total / mass
    return result


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "triton"])
@pytest.mark.parametrize(("radius", "dilation"), [(1, 1), (2, 1), (1, 3)])
def test_equals_the_loops(radius, dilation, backend):
    reason = BACKENDS[backend].why_not(torch.device("cpu"))
    if reason is not None and not reason.startswith(BY_NAME_ONLY):
        pytest.skip(f"{backend}: {reason}")
    values, guide, valid = make()
    got = windowed_filter(values, guide, valid, radius=radius, dilation=dilation, sigma_px=2.5, backend=backend)
    tolerance = 1e-5 if backend == "compiled" else 1e-10
    torch.testing.assert_close(got, loops(values, guide, valid, radius, dilation, 2.5), atol=tolerance, rtol=tolerance)


def test_a_constant_stays_and_every_value_is_a_mean():
    values, guide, valid = make()
    ones = windowed_filter(torch.full_like(values, 3.0), guide, valid, radius=2)
    torch.testing.assert_close(ones, torch.full_like(values, 3.0))
    found = windowed_filter(values, guide, valid, radius=2)
    assert float(found.min()) >= float(values.min())
    assert float(found.max()) <= float(values.max())


def test_it_runs_where_nothing_may_be_differentiated_and_gives_no_gradient():
    values, guide, _ = make()
    expected = windowed_filter(values, guide, radius=2)
    with torch.inference_mode():
        assert torch.equal(windowed_filter(values * 1, guide * 1, radius=2), expected)
    assert not windowed_filter(values.requires_grad_(), guide.requires_grad_(), radius=2).requires_grad


def test_a_lone_pixel_keeps_its_value():
    values, guide, _ = make()
    lone = torch.zeros(2, 7, 9, dtype=torch.bool)
    lone[:, 3, 4] = True
    assert torch.equal(windowed_filter(values, guide, lone, radius=2), values)
