"""Real data and weights, where they lie beside the checkout; skipped elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from scribbleseg.config import parse_config
from scribbleseg.data.folder import open_dataset
from scribbleseg.data.images import read_index
from scribbleseg.data.training_labels import check_training_labels
from scribbleseg.models.folder import load_model
from scribbleseg.training.run import train
from scribbleseg.trees import merge
from tests.training.test_run import SMALL

SHARED = Path(__file__).parents[2] / "shared"
DEIT = SHARED / "weights" / "deit_tiny_backbone"

pytestmark = [
    pytest.mark.staged,
    pytest.mark.skipif(not (SHARED / "data").is_dir(), reason="the staged data are not beside this checkout"),
]


@pytest.mark.parametrize("name", ["acdc-scribble", "camvid", "ccp-people", "grabcut20-scribbles", "medscribble", "voc-animals"])
def test_staged_sets_open_and_their_scribbles_agree_with_their_masks(name: str) -> None:
    dataset = open_dataset(SHARED / "data" / name)
    split = next(iter(dataset.spec.splits))
    stems = dataset.stems(split)[:40]
    assert (check_training_labels(dataset, stems, "scribbles").pixels > 0).sum() >= 2
    right = total = 0
    for stem in stems:
        scribbles = dataset.labels(stem, "scribbles", dataset.rgb(stem).shape[:2])  # type: ignore[arg-type]
        mask = dataset.labels(stem, "masks")
        known = (scribbles != 255) & (mask != 255)
        right, total = right + int((scribbles == mask)[known].sum()), total + int(known.sum())
    assert right / total > 0.8


def test_acdc_slices_are_grouped_into_volumes() -> None:
    dataset = open_dataset(SHARED / "data" / "acdc-scribble")
    assert len({dataset.volume_of(stem) for stem in dataset.stems("test")}) == 20


def test_a_short_run_from_the_pretrained_backbone(tmp_path: Path) -> None:
    root = str(SHARED / "data" / "voc-animals")
    tree = merge(SMALL, {"data": {"root": root, "longest_px": 96, "crop_px": 64}, "model": {"backbone": str(DEIT)}})
    config = parse_config(merge(tree, {"training": {"max_steps": 2, "val_images": 2}}))
    model = load_model(train(config, tmp_path / "run"))
    assert model.names[1] == "cat"
    assert str(SHARED) not in (tmp_path / "run" / "model" / "config.json").read_text(), "a model folder stands on its own"
    assert model.segmenter.backbone.channels == (192, 192, 192, 192)
    probs = model.segmenter.probabilities(torch.rand(1, 3, 50, 70))
    assert probs.shape == (1, 7, 50, 70)


def test_palette_masks_are_read_as_ids() -> None:
    dataset = open_dataset(SHARED / "data" / "voc-animals")
    stem = dataset.stems("test")[0]
    assert read_index(dataset.root / "labels7" / f"{stem}.png").ndim == 2
