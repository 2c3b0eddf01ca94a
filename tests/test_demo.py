"""The demo: its data, its scribbles, and in `make slow` its claim."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from scribbleseg.data.folder import open_dataset
from scribbleseg.data.simulate.hurried import simulate_scribbles
from scribbleseg.data.synthetic import NAMES, make_dataset, make_image
from scribbleseg.demo import demo
from scribbleseg.errors import ConfigError
from scribbleseg.records import UNLABELLED


def test_the_same_seed_makes_the_same_files(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        make_dataset(tmp_path / name, seed=seed, sizes={"train": 2}, size=48)
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*.png"))
    assert len(files) == 6
    same = [(tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files]
    other = [(tmp_path / "a" / f).read_bytes() == (tmp_path / "c" / f).read_bytes() for f in files]
    assert all(same)
    assert not all(other)


def test_no_image_is_in_two_splits(tmp_path: Path) -> None:
    dataset = open_dataset(make_dataset(tmp_path / "d", sizes={"train": 3, "val": 3, "test": 3}, size=48))
    seen = [dataset.image_path(s).read_bytes() for split in ("train", "val", "test") for s in dataset.stems(split)]
    assert len(set(seen)) == 9


def test_colour_alone_does_not_tell_the_classes_apart() -> None:
    """The mean colour of a region says next to nothing of its class: class means over many regions agree."""
    colours: dict[int, list[np.ndarray]] = {c: [] for c in range(len(NAMES))}
    for n in range(80):
        picture, mask = make_image(np.random.default_rng(n), 64)
        for c in np.unique(mask):
            colours[int(c)].append(picture[mask == c].mean(0))
    means = np.array([np.mean(v, 0) for v in colours.values()])
    spread = np.mean([np.std(v, 0) for v in colours.values()])
    assert np.abs(means - means.mean(0)).max() < spread


@pytest.mark.parametrize("width", [1, 2, 3])
def test_a_simulated_stroke_is_never_wrong_and_every_region_gets_one(width: int) -> None:
    rng = np.random.default_rng(0)
    mask = np.zeros((60, 80), np.uint8)
    mask[5:30, 5:30], mask[10:50, 40:75], mask[:2, :2], mask[50:, :20] = 1, 2, 1, UNLABELLED
    scribbles = simulate_scribbles(mask, rng, width_px=width)
    drawn = scribbles != UNLABELLED
    assert (scribbles[drawn] == mask[drawn]).all()
    assert 0.005 < drawn.mean() < 0.15
    for c in (0, 1, 2):
        assert ndimage.label(scribbles == c, np.ones((3, 3)))[1] == 1


def test_a_short_demo_writes_scores_and_a_report(tmp_path: Path) -> None:
    result = demo(tmp_path / "demo", max_steps=2, progress_bar=False)
    assert set(result.scores) == {"partial cross-entropy", "DFR"}
    assert result.report.read_text(encoding="utf-8").count("<html") == 1
    with pytest.raises(ConfigError, match="files are in it"):
        demo(tmp_path / "demo", max_steps=2)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_dfr_is_clearly_better_in_the_demo(tmp_path: Path, seed: int) -> None:
    began = time.monotonic()
    scores = demo(tmp_path / "demo", seed=seed, progress_bar=False).scores
    print(
        f"demo seed {seed}: {time.monotonic() - began:.0f} s, " + ", ".join(f"{k} {v['miou']:.3f}" for k, v in scores.items())
    )
    assert scores["DFR"]["miou"] > scores["partial cross-entropy"]["miou"] + 0.03
