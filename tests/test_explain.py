"""Explanation: the maps are the loss's own kernels, and what they say of classes is counted right."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from scribbleseg.config import ModelConfig, parse_config
from scribbleseg.explain import SEEN_PX, Look, affinity, kernels, leak, look, same_class, stages
from scribbleseg.losses.dynamic_feature import Kernel
from scribbleseg.models.folder import TrainedModel
from scribbleseg.models.segmenter import Segmenter
from scribbleseg.records import UNLABELLED
from tests.test_report import MODEL


@pytest.fixture(scope="module")
def model() -> TrainedModel:
    torch.manual_seed(0)
    return TrainedModel(Segmenter(ModelConfig.model_validate(MODEL), 3).eval(), ("a", "b", "c"), 64)


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).random((height, width, 3)).astype(np.float32)


def seen(height: int = 6, width: int = 7) -> Look:
    torch.manual_seed(1)
    return Look(torch.rand(3, height, width), torch.nn.functional.normalize(torch.randn(5, height, width), dim=0))


def test_a_look_is_the_networks_own_features_and_the_mean_colours(model):
    rgb = picture(64, 48)
    found = look(model, rgb)
    image = torch.from_numpy(rgb).movedim(-1, 0)[None]
    with torch.inference_mode():
        expected = model.segmenter(image).features[0]
    assert torch.allclose(found.features, expected, atol=1e-6)
    assert torch.allclose(found.rgb, torch.nn.functional.adaptive_avg_pool2d(image, expected.shape[-2:])[0], atol=1e-6)


def test_a_large_picture_is_seen_small_and_its_features_keep_unit_length(model):
    found = look(model, picture(700, 2 * SEEN_PX), grid=20)
    assert found.rgb.shape == (3, 14, 20)
    assert torch.allclose(found.features.norm(dim=0), torch.ones(14, 20), atol=1e-5)


@pytest.mark.parametrize("sigma_feature", [None, 0.4])
def test_affinity_is_the_kernel_without_its_distance(sigma_feature):
    view = seen()
    kernel = Kernel(sigma_rgb=0.2, sigma_feature=sigma_feature)
    found = affinity(view.guide(kernel), 2, 3)
    for y in range(6):
        for x in range(7):
            square = float(((view.rgb[:, y, x] - view.rgb[:, 2, 3]) / 0.2).square().sum())
            if sigma_feature:
                square += float(((view.features[:, y, x] - view.features[:, 2, 3]) / sigma_feature).square().sum())
            assert float(found[y, x]) == pytest.approx(math.exp(-0.5 * square), rel=1e-4, abs=1e-12)
    assert float(found[2, 3]) == 1


def test_the_share_on_its_class_leaves_out_the_cell_itself_and_what_is_unlabelled():
    alike = torch.tensor([[1.0, 0.5, 0.25, 0.25]])
    assert same_class(alike, np.array([[1, 1, 0, 0]]), 0, 0) == pytest.approx(0.5)
    assert same_class(alike, np.array([[1, 1, UNLABELLED, 0]]), 0, 0) == pytest.approx(2 / 3)
    assert math.isnan(same_class(alike, np.array([[UNLABELLED, 1, 0, 0]]), 0, 0))


def test_the_leak_is_the_mass_between_classes_pair_by_pair():
    view = seen()
    kernel = Kernel(radius=2, dilation=2, sigma_px=3.0, sigma_rgb=0.3, sigma_feature=0.5)
    labels = np.random.default_rng(3).integers(0, 3, (6, 7)).astype(np.uint8)
    labels[0, :3] = UNLABELLED
    guide = view.guide(kernel)
    across = whole = 0.0
    for y in range(6):
        for x in range(7):
            for dy in (-4, -2, 0, 2, 4):
                for dx in (-4, -2, 0, 2, 4):
                    v, u = y + dy, x + dx
                    if (dy or dx) and 0 <= v < 6 and 0 <= u < 7 and UNLABELLED not in (labels[y, x], labels[v, u]):
                        near = math.exp(-0.5 * (dy * dy + dx * dx) / 9)
                        k = near * float(affinity(guide, y, x)[v, u])
                        whole += k
                        across += k * bool(labels[y, x] != labels[v, u])
    assert leak(kernel, view, labels, 3) == (pytest.approx(across, rel=1e-4), pytest.approx(whole, rel=1e-4))


def test_kernels_are_those_of_the_run():
    found = kernels(parse_config({"losses": {"dynamic_feature": {"dynamic": {"sigma_feature": 0.7}}}}).losses)
    assert found is not None
    assert found["deep"].sigma_feature == 0.7
    assert found["shallow"].sigma_feature is None
    for other in ({"method": "partial_ce"}, {"losses": {"dynamic_feature": {"weight": 0.0}}}, {"method": "static"}):
        assert kernels(parse_config(other).losses) is None


def test_stages_are_in_the_order_of_steps(tmp_path: Path):
    for step in (500, 0, 1_000_000):
        (tmp_path / "snapshots" / f"{step:06d}").mkdir(parents=True)
    assert [step for step, _ in stages(tmp_path, 2_000_000)] == [0, 500, 1_000_000, 2_000_000]
    assert stages(tmp_path / "plain", 9) == [(9, tmp_path / "plain" / "model")]
