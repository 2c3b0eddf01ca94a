from __future__ import annotations

import pytest
import torch

from scribbleseg.config import ModelConfig
from scribbleseg.models.branch import Branch
from scribbleseg.models.decoders import DECODERS
from scribbleseg.models.segmenter import Segmenter

TINY = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 8, 16, 16],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
}
PLAIN = {"model_type": "unet", "hidden_sizes": [8, 8, 16]}


def make(backbone=TINY, decoder="fpn", dropout=0.5, **changes) -> tuple[Segmenter, Branch]:
    torch.manual_seed(0)
    segmenter = Segmenter(ModelConfig(backbone=backbone, decoder=decoder, channels=8, feature_dim=4, **changes), 3)
    return segmenter, Branch(segmenter, dropout)


@pytest.mark.parametrize(("backbone", "decoder"), [(TINY, name) for name in DECODERS] + [(PLAIN, "unet")])
@pytest.mark.parametrize("size", [(32, 32), (40, 50)])
def test_its_scores_have_the_shape_of_the_first_branchs(backbone, decoder, size):
    segmenter, branch = make(backbone, decoder)
    output = segmenter(torch.rand(2, 3, *size), branch)
    assert output.branch_logits is not None
    assert output.branch_logits.shape == output.logits.shape
    assert not torch.allclose(output.branch_logits, output.logits), "weights of its own"


def test_without_one_there_are_no_scores_and_the_first_are_the_same():
    segmenter, branch = make()
    segmenter.eval()
    image = torch.rand(1, 3, 32, 32)
    alone, beside = segmenter(image), segmenter(image, branch)
    assert alone.branch_logits is None
    assert torch.equal(alone.logits, beside.logits)
    assert torch.equal(alone.features, beside.features)


def test_it_is_no_part_of_the_segmenter():
    segmenter, branch = make()
    before = set(segmenter.state_dict())
    segmenter(torch.rand(2, 3, 32, 32), branch)
    assert set(segmenter.state_dict()) == before
    assert not {id(p) for p in branch.parameters()} & {id(p) for p in segmenter.parameters()}


def test_channels_of_its_maps_are_dropped_in_training_alone():
    segmenter, branch = make(dropout=0.5)
    seen = []
    branch.decoder.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    maps = [torch.ones(2, c, 4, 4) for c in segmenter.map_channels]
    branch(maps)
    whole = torch.cat([m.flatten(2) for m in seen[0]], 1)
    assert {float(v) for v in whole.unique()} == {0.0, 2.0}, "what is left is doubled"
    assert torch.equal(whole.amin(-1), whole.amax(-1)), "a channel goes as a whole"
    branch.eval()
    branch(maps)
    assert all(torch.equal(m, n) for m, n in zip(seen[1], maps, strict=True))


def test_both_branches_train_the_backbone():
    segmenter, branch = make(dropout=0.0)
    segmenter(torch.rand(2, 3, 32, 32), branch).branch_logits.square().sum().backward()
    assert all(p.grad is not None for p in branch.parameters())
    assert any(p.grad is not None and bool((p.grad != 0).any()) for p in segmenter.backbone.parameters())
    assert all(p.grad is None for p in segmenter.decoder.parameters())
