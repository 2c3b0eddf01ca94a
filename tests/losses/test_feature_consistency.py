from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from scribbleseg.losses import FeatureConsistencyLoss, feature_consistency
from scribbleseg.losses.feature_consistency import pair_logistic
from tests.reference import losses as truth


def unit(*shape: int, seed: int = 0, dim: int = 1) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=dim)


PAIR_LABELS = [
    pytest.param([[0, 1, 2, 0, 1, 1, 0], [3, 3, 0, 0, 1, 2, 2]], id="mixed"),
    pytest.param([[0, 0, 0, 1], [1, 1, 1, 1]], id="one image of one class"),
    pytest.param([[2, 2, 2], [2, 2, 2]], id="equal pairs alone"),
    pytest.param([[0, 1, 2], [2, 1, 0]], id="unequal pairs alone"),
    pytest.param([[0, 1], [1, 1]], id="two pixels"),
]


@pytest.mark.parametrize("labels", PAIR_LABELS)
@pytest.mark.parametrize(("scale", "margin"), [(5.0, 0.3), (1.0, 0.0), (12.0, -0.2)])
def test_pair_logistic_equals_the_loops(labels, scale, margin):
    labels = torch.tensor(labels)
    features = unit(*labels.shape, 4, dim=2)
    expected = truth.pair_logistic(features, labels, scale, margin)
    assert pair_logistic(features, labels, scale, margin).tolist() == pytest.approx(expected, rel=1e-12)


def test_pair_logistic_gradcheck():
    labels = torch.tensor([[0, 1, 2, 0, 1], [1, 1, 1, 1, 1]])
    features = unit(2, 5, 3, dim=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: pair_logistic(z, labels, 5.0, 0.3), features)


def test_pair_logistic_does_not_see_order_or_numbering():
    labels, features = torch.tensor([[0, 1, 2, 0, 1, 1]]), unit(1, 6, 4, dim=2)
    value = float(pair_logistic(features, labels, 5.0, 0.3))
    order = torch.tensor([3, 5, 0, 1, 4, 2])
    assert float(pair_logistic(features[:, order], labels[:, order], 5.0, 0.3)) == pytest.approx(value, rel=1e-12)
    assert float(pair_logistic(features, torch.tensor([7, 0, 3])[labels], 5.0, 0.3)) == pytest.approx(value, rel=1e-12)


def test_pair_logistic_prefers_one_direction_a_class():
    labels = torch.tensor([[0, 0, 1, 1]])
    apart = torch.tensor([[[1.0, 0], [1, 0], [0, 1], [0, 1]]])
    mixed = torch.tensor([[[1.0, 0], [0, 1], [1, 0], [0, 1]]])
    assert float(pair_logistic(apart, labels, 5.0, 0.3)) < 0.5 * float(pair_logistic(mixed, labels, 5.0, 0.3))


def make(size=(8, 8), grid=(4, 4), num_images=2, num_classes=3) -> dict[str, Any]:
    """A few strokes in every image, doubtful predictions, all valid."""
    rng = torch.Generator().manual_seed(4)
    labels = torch.full((num_images, *size), 255)
    labels[:, 0, :3], labels[:, size[0] // 2 + 1, 2:7] = 0, 2
    return {
        "logits": 0.1 * torch.randn(num_images, num_classes, *grid, generator=rng, dtype=torch.float64),
        "labels": labels,
        "features": unit(num_images, 4, *grid),
        "valid": torch.ones(num_images, *size, dtype=torch.bool),
        "progress": 0.0,
    }


def drawn_pixels(data: dict[str, Any], **numbers: Any) -> Tensor:
    """Say which pixels of the grid were drawn: the loss has a gradient there and nowhere else."""
    torch.manual_seed(0)
    features = data["features"].clone().requires_grad_()
    FeatureConsistencyLoss(**numbers)(**data | {"features": features}).backward()
    return features.grad.abs().sum(1) > 0


def grid_labels(labels: Tensor, h: int, w: int) -> Tensor:
    return torch.tensor([truth.cells(plane.tolist(), h, w, truth.cell_label) for plane in labels])


class TestSampling:
    def test_every_labelled_pixel_and_no_other_is_drawn(self):
        data = make()
        drawn = drawn_pixels(data, num_pixels=400)
        assert torch.equal(drawn, grid_labels(data["labels"], 4, 4) != 255)

    @pytest.mark.parametrize(("progress", "used"), [(0.0, False), (0.49, False), (0.5, True), (1.0, True)])
    def test_predictions_are_used_when_their_time_has_come(self, progress, used):
        data = make() | {"progress": progress}
        data["logits"][:, 1] = 50.0
        drawn = drawn_pixels(data, num_pixels=600, confident_after=0.5)
        labelled = grid_labels(data["labels"], 4, 4) != 255
        assert torch.equal(drawn, torch.ones_like(drawn) if used else labelled)

    def test_only_predictions_above_the_confidence_are_used(self):
        data = make() | {"progress": 1.0}
        data["logits"][:] = 0
        data["logits"][:, 1, 1, 0] = torch.log(torch.tensor(2 * 0.85 / 0.15))  # three classes: p = 0.85
        data["logits"][:, 1, 1, 3] = torch.log(torch.tensor(2 * 0.95 / 0.05))  # p = 0.95
        labelled = grid_labels(data["labels"], 4, 4) != 255
        assert not labelled[:, 1].any()
        expected = labelled.clone()
        expected[:, 1, 3] = True
        assert torch.equal(drawn_pixels(data, num_pixels=600, confidence=0.9, confident_after=0.0), expected)
        expected[:, 1, 0] = True
        assert torch.equal(drawn_pixels(data, num_pixels=600, confidence=0.8, confident_after=0.0), expected)

    def test_padding_is_never_drawn(self):
        data = make() | {"progress": 1.0}
        data["logits"][:, 1] = 50.0
        data["valid"][:, :, 6:] = False
        data["labels"][:, :, 6:] = 255
        drawn = drawn_pixels(data, num_pixels=600)
        assert not drawn[..., 3].any()
        assert drawn[..., :3].all()

    def draws(self, data: dict[str, Any], monkeypatch: pytest.MonkeyPatch, **numbers: Any) -> tuple[Tensor, Tensor]:
        seen = []
        monkeypatch.setattr(
            feature_consistency, "pair_logistic", lambda z, labels, s, m: seen.append((z, labels)) or z.sum((1, 2))
        )
        torch.manual_seed(0)
        FeatureConsistencyLoss(**numbers)(**data)
        return seen[0]

    def test_classes_are_drawn_equally_often(self, monkeypatch):
        data = make((16, 16), (16, 16), num_images=1)
        data["labels"][:] = 2
        data["labels"][0, 3, 3] = 0  # one pixel against 254
        data["labels"][0, 4, 4] = 255
        _, labels = self.draws(data, monkeypatch, num_pixels=4000)
        counts = torch.bincount(labels.flatten(), minlength=3)
        assert int(counts[1]) == 0
        assert float(counts[0]) / 4000 == pytest.approx(0.5, abs=0.04)

    def test_a_drawn_pixel_keeps_its_own_label_and_feature(self, monkeypatch):
        data = make((4, 4), (4, 4), num_images=2)
        data["labels"] = torch.randint(0, 3, (2, 4, 4), generator=torch.Generator().manual_seed(1))
        place = torch.arange(16, dtype=torch.float64).view(1, 1, 4, 4).expand(2, 4, 4, 4).contiguous()
        features, labels = self.draws(data | {"features": place}, monkeypatch, num_pixels=100, across_images=False)
        assert torch.equal(data["labels"].flatten(1).gather(1, features[..., 0].long()), labels)

    @pytest.mark.parametrize("across", [False, True])
    def test_pairs_cross_images_only_when_asked_to(self, across, monkeypatch):
        data = make((4, 4), (4, 4), num_images=2)
        data["labels"][0], data["labels"][1] = 0, 1  # each image holds one class: no pair within can differ
        _, labels = self.draws(data, monkeypatch, num_pixels=10, across_images=across)
        assert labels.shape == ((1, 20) if across else (2, 10))
        torch.manual_seed(0)
        features = data["features"].clone().requires_grad_()
        monkeypatch.undo()
        alike = torch.ones_like(features) / 2  # every pixel has the same feature: cosine 1
        value = float(FeatureConsistencyLoss(num_pixels=10, across_images=across)(**data | {"features": alike}))
        together, apart = (float(torch.nn.functional.softplus(torch.tensor(s * 5 * 0.7))) for s in (-1.0, 1.0))
        assert value == pytest.approx((together + apart) / 2 if across else together, rel=1e-5)

    def test_strokes_win_over_predictions(self, monkeypatch):
        data = make((4, 4), (4, 4), num_images=1) | {"progress": 1.0}
        data["labels"][:] = 2
        data["logits"][:, 1] = 50.0
        _, labels = self.draws(data, monkeypatch, num_pixels=50)
        assert set(labels.flatten().tolist()) == {2}


def test_no_gradient_flows_into_the_logits():
    data = make() | {"progress": 1.0}
    data["logits"][:, 1] = 50.0
    data["logits"].requires_grad_()
    data["features"].requires_grad_()
    FeatureConsistencyLoss()(**data).backward()
    assert data["logits"].grad is None
    assert float(data["features"].grad.abs().max()) > 0


@pytest.mark.parametrize("kind", ["nothing labelled", "one pixel an image", "all padding"])
def test_nothing_to_pair_is_zero_with_a_zero_gradient(kind):
    data = make()
    data["labels"][:] = 255
    if kind == "one pixel an image":
        data["labels"][:, 3, 3] = 1
    if kind == "all padding":
        data["valid"][:] = False
        data["logits"][:, 1] = 50.0
        data["progress"] = 1.0
    data["features"].requires_grad_()
    loss = FeatureConsistencyLoss()(**data)
    loss.backward()
    assert float(loss.detach()) == 0
    assert torch.equal(data["features"].grad, torch.zeros_like(data["features"]))


def test_an_image_without_strokes_adds_nothing_but_counts():
    data = make(num_images=2)
    data["labels"][1] = 255
    data["features"].requires_grad_()
    both = FeatureConsistencyLoss().terms(**data)
    both.sum.backward()
    assert int(both.count) == 2
    assert float(data["features"].grad[0].abs().max()) > 0
    assert torch.equal(data["features"].grad[1], torch.zeros_like(data["features"][1]))


def test_one_class_alone_still_pulls_together():
    data = make(num_images=1)
    data["labels"][data["labels"] == 2] = 255
    loss = FeatureConsistencyLoss(num_pixels=50)
    alike = torch.zeros_like(data["features"])
    alike[:, 0] = 1
    assert float(loss(**data | {"features": alike})) == pytest.approx(float(F.softplus(torch.tensor(-5.0 * 0.7))), rel=1e-6)


def test_same_seed_same_value():
    data = make()
    values = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        values.append(float(FeatureConsistencyLoss(num_pixels=9)(**data)))
    assert values[0] == values[1] != values[2]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gives_float32(dtype):
    data = make() | {"progress": 1.0}
    data |= {"logits": data["logits"].to(dtype), "features": data["features"].to(dtype).requires_grad_()}
    torch.manual_seed(0)
    loss = FeatureConsistencyLoss()(**data)
    loss.backward()
    assert loss.dtype == torch.float32
    torch.manual_seed(0)
    wide = data | {"logits": data["logits"].double(), "features": data["features"].detach().double()}
    assert float(loss.detach()) == pytest.approx(float(FeatureConsistencyLoss()(**wide)), rel=1e-5)
