from __future__ import annotations

import numpy as np
import pytest
import torch

from scribbleseg.errors import ConfigError
from scribbleseg.predict import predict_mask, probabilities
from scribbleseg.refine import REFINEMENTS, dense_crf, refined, tree
from tests.test_predict import PixelNetwork, model

SIZE = (24, 32)


def scene(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two halves of different colours, what a network thinks of them with a ragged border and some noise, and the truth."""
    rng = np.random.default_rng(seed)
    truth = np.zeros(SIZE, np.int64)
    truth[:, SIZE[1] // 2 :] = 1
    rgb = np.where(truth[..., None] == 1, [0.8, 0.3, 0.2], [0.2, 0.4, 0.7]) + rng.normal(0, 0.01, (*SIZE, 3))
    ragged = np.roll(truth, 2, 1)
    ragged[:, :4] = 0
    logit = np.where(ragged == 1, 0.7, -0.7) + rng.normal(0, 0.4, SIZE)
    logit[5:8, 4:7] = 1.5  # an island
    probs = torch.from_numpy(np.stack([-logit, logit])).float().softmax(0)
    return probs[None], torch.from_numpy(rgb.transpose(2, 0, 1)).float()[None].clamp(0, 1), torch.from_numpy(truth)


def mean_field(probs, rgb, weight, sigma_px, sigma_rgb, smooth_weight, smooth_sigma_px, num_steps):
    """The definition, pixel pair by pixel pair, in float64."""
    _, c, h, w = probs.shape
    y, x = np.mgrid[:h, :w].reshape(2, -1)
    places = np.stack([x, y], 1).astype(np.float64)
    colours = rgb[0].reshape(3, -1).T.double().numpy()
    far = ((places[:, None] - places[None]) ** 2).sum(-1)
    unlike = ((colours[:, None] - colours[None]) ** 2).sum(-1)
    appearance = np.exp(-0.5 * far / sigma_px**2 - 0.5 * unlike / sigma_rgb**2)
    near = np.exp(-0.5 * far / smooth_sigma_px**2)
    p = probs[0].reshape(c, -1).double().numpy().clip(1e-6)
    q = p
    for _ in range(num_steps):
        score = np.log(p) + weight * q @ appearance / appearance.sum(0) + smooth_weight * q @ near / near.sum(0)
        q = np.exp(score - score.max(0))
        q /= q.sum(0)
    return q.reshape(c, h, w)


NUMBERS = {"weight": 2.0, "sigma_px": 12.0, "sigma_rgb": 0.15, "smooth_weight": 0.7, "smooth_sigma_px": 2.0, "num_steps": 4}


def test_mean_field_is_its_definition():
    probs, rgb, _ = scene()
    got = dense_crf(probs, rgb, method="exact", **NUMBERS)[0].numpy()
    # The blur of rows and columns is cut at three sigmas, where a term is 1 %.
    np.testing.assert_allclose(got, mean_field(probs, rgb, **NUMBERS), atol=5e-3)


def test_the_lattice_is_close_to_all_pairs():
    probs, rgb, _ = scene()
    exact, lattice = (dense_crf(probs, rgb, method=method, **NUMBERS) for method in ("exact", "lattice"))
    assert (exact - lattice).abs().mean() < 0.02
    assert (exact.argmax(1) == lattice.argmax(1)).float().mean() > 0.97


@pytest.mark.parametrize("name", REFINEMENTS)
def test_borders_move_to_the_colours_edge_and_islands_vanish(name):
    probs, rgb, truth = scene()
    before = (probs[0].argmax(0) == truth).float().mean()
    after = (refined(name, probs[0], rgb[0].movedim(0, -1).numpy()).argmax(0) == truth).float().mean()
    assert before < 0.95
    assert after > 0.985


@pytest.mark.parametrize("name", REFINEMENTS)
def test_probabilities_stay_probabilities(name):
    probs, rgb, _ = scene(1)
    out = REFINEMENTS[name](probs, rgb)
    assert out.shape == probs.shape
    torch.testing.assert_close(out.sum(1), torch.ones(1, *SIZE), atol=1e-4, rtol=0)
    assert float(out.min()) >= 0


@pytest.mark.parametrize("name", REFINEMENTS)
def test_flipping_the_picture_flips_the_answer(name):
    probs, rgb, _ = scene(2)
    options = {"method": "exact"} if name == "dense_crf" else {}
    there = REFINEMENTS[name](probs.flip(3), rgb.flip(3), **options).flip(3)
    torch.testing.assert_close(there, REFINEMENTS[name](probs, rgb, **options), atol=1e-4, rtol=0)


def test_nothing_is_refined_by_no_weight_and_no_step():
    probs, rgb, _ = scene()
    torch.testing.assert_close(dense_crf(probs, rgb, num_steps=0), probs)
    torch.testing.assert_close(dense_crf(probs, rgb, weight=0, smooth_weight=0, method="exact"), probs, atol=1e-5, rtol=0)
    torch.testing.assert_close(tree(probs, rgb, sigma_rgb=1e-6), probs, atol=1e-5, rtol=0)


def test_unknown_names_are_told():
    probs, rgb, _ = scene()
    with pytest.raises(ConfigError, match="dense_crf"):
        refined("densecrf", probs[0], rgb[0].movedim(0, -1).numpy())


@pytest.mark.parametrize("name", ["tree", "window"])
def test_a_model_predicts_what_its_refined_probabilities_say(name):
    trained_model = model(PixelNetwork(), 64)
    rgb = np.random.default_rng(0).random((40, 48, 3)).astype(np.float32)
    expected = refined(name, probabilities(trained_model, rgb), rgb).argmax(0).numpy()
    assert (predict_mask(trained_model, rgb, name) == expected).all()
