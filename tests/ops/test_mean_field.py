from __future__ import annotations

import pytest
import torch

from scribbleseg.ops import window_mean_field
from tests.reference import mean_field as truth

SIZE = (12, 16)


def scene(seed: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    probs = torch.randn(2, 3, *SIZE, generator=rng, dtype=torch.float64).softmax(1)
    rgb = 0.3 * torch.rand(2, 3, *SIZE, generator=rng, dtype=torch.float64)
    valid = torch.ones(2, *SIZE, dtype=torch.bool)
    valid[0, :, -3:] = False
    return probs, rgb, valid


@pytest.mark.parametrize(("steps_across", "step"), [(16.0, 1), (8.0, 2), (1e9, 1)])
def test_equals_the_loops(steps_across, step):
    """Every pixel is connected to those of a grid around it, some pixels apart, and to none beyond the picture."""
    probs, rgb, valid = scene()
    numbers = {"weight": 3.0, "radius": 2, "sigma_rgb": 0.2, "num_steps": 2}
    got = window_mean_field(probs, rgb, valid, steps_across=steps_across, **numbers)
    for b in range(2):
        expected = torch.from_numpy(
            truth.window_mean_field(probs[b].numpy(), rgb[b].numpy(), valid[b].numpy(), step=step, **numbers)
        )
        torch.testing.assert_close(got[b][:, valid[b]], expected[:, valid[b]], atol=1e-5, rtol=0)


def test_without_a_mask_all_pixels_take_part():
    probs, rgb, valid = scene()
    everywhere = window_mean_field(probs, rgb, torch.ones_like(valid))
    torch.testing.assert_close(window_mean_field(probs, rgb), everywhere, atol=0, rtol=0)


def test_what_is_not_valid_changes_nothing_for_others():
    probs, rgb, valid = scene()
    there = window_mean_field(probs, rgb, valid)
    probs[0, :, :, -3:], rgb[0, :, :, -3:] = probs[0, :, :, -3:].flip(1), 0.9
    other = window_mean_field(probs, rgb, valid)
    torch.testing.assert_close(other[0][:, valid[0]], there[0][:, valid[0]], atol=1e-6, rtol=0)


def test_nothing_moves_by_no_weight_and_no_step():
    probs, rgb, _ = scene()
    torch.testing.assert_close(window_mean_field(probs, rgb, num_steps=0), probs)
    torch.testing.assert_close(window_mean_field(probs, rgb, weight=0.0), probs, atol=1e-5, rtol=0)


def test_a_border_moves_to_the_border_of_colours():
    """Two halves of two colours; what the probabilities say ends two pixels late."""
    rgb = torch.zeros(1, 3, 24, 32)
    rgb[..., 16:] = 0.8
    right = torch.full((1, 24, 32), 0.2)
    right[..., 18:] = 0.8
    found = window_mean_field(torch.stack([1 - right, right], 1), rgb).argmax(1)[0]
    expected = torch.arange(32).ge(16).long().expand(24, -1)
    assert torch.equal(found, expected)
