from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import wilcoxon

from scribbleseg.cli import main
from scribbleseg.compare import Difference, compare, comparison_table
from scribbleseg.data.folder import open_dataset
from scribbleseg.errors import DataError
from scribbleseg.evaluate import score
from scribbleseg.metrics.image import Prediction
from scribbleseg.scores import read_scores, summary, write_scores
from tests.fake.datasets import make_dataset, write_lines


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = make_dataset(tmp_path_factory.mktemp("data") / "leaves", num_images=24, size=(20, 24))
    write_lines(root / "splits" / "test.txt", sorted(p.stem for p in (root / "masks").iterdir()))
    return root


def scores(root: Path, noise: float, seed: int = 0) -> dict:
    """A model that errs in a share of the pixels, more on some images than on others."""
    dataset = open_dataset(root)

    def predict(stem: str) -> Prediction:
        rng = np.random.default_rng([seed, *stem.encode()])
        truth = dataset.labels(stem, "masks")
        wrong = rng.random(truth.shape) < noise * (1 + rng.random())
        return Prediction(np.where(wrong, (truth + 1) % len(dataset.names), truth).astype(np.uint8))

    return summary(score(dataset, dataset.stems("test"), predict))


def of(found: list[Difference], name: str) -> Difference:
    return next(d for d in found if d.name == name)


def test_a_better_model_is_better_beyond_chance(root):
    worse, better = scores(root, 0.2), scores(root, 0.1, seed=1)
    d = of(compare(worse, better), "mIoU")
    assert (d.one, d.other) == (worse["miou"], better["miou"])
    assert d.difference == pytest.approx(better["miou"] - worse["miou"])
    assert d.interval[0] < d.difference < d.interval[1]
    assert d.interval[0] > 0
    pairs = [b["miou"] - a["miou"] for a, b in zip(worse["per_image"], better["per_image"], strict=True)]
    assert d.p == pytest.approx(wilcoxon(pairs).pvalue)
    assert (d.p < 0.001, d.cases) == (True, 24)


def test_equally_good_models_are_within_chance(root):
    d = of(compare(scores(root, 0.15), scores(root, 0.15, seed=2)), "mIoU")
    assert d.interval[0] < 0 < d.interval[1]
    assert d.p > 0.01


def test_a_model_with_itself(root):
    one = scores(root, 0.1)
    for d in compare(one, one):
        assert (d.difference, d.p) == (0, None)
        assert d.interval == (0, 0)


def test_the_order_of_the_images_does_not_matter(root):
    one, other = scores(root, 0.2), scores(root, 0.1)
    turned = other | {"per_image": other["per_image"][::-1]}
    assert compare(one, turned) == compare(one, other)


def test_other_images_are_refused(root):
    one = scores(root, 0.1)
    other = one | {"per_image": one["per_image"][1:]}
    with pytest.raises(DataError, match="1 images in one alone"):
        compare(one, other)
    with pytest.raises(DataError, match="other classes"):
        compare(one, one | {"classes": {"moss": {}}})


def test_volumes_are_compared_too(tmp_path):
    root = make_dataset(tmp_path / "scans", num_images=16, size=(20, 24), num_volumes=8)
    write_lines(root / "splits" / "test.txt", sorted(p.stem for p in (root / "masks").iterdir()))
    one, other = scores(root, 0.3), scores(root, 0.05)
    d = of(compare(one, other), "Dice a volume")
    assert d.cases == 8
    assert d.p < 0.05
    assert d.difference == pytest.approx(other["volume_dice"]["foreground"] - one["volume_dice"]["foreground"])


def test_from_the_command_line(root, tmp_path, capsys, monkeypatch):
    dataset = open_dataset(root)
    for name, shift in (("as-is", 0), ("shifted", 1)):
        found = score(dataset, dataset.stems("test"), lambda s, k=shift: Prediction(np.roll(dataset.labels(s, "masks"), k, 1)))
        write_scores(tmp_path / f"{name}.json", found, source=name, data="leaves", split="test")
    monkeypatch.setattr("sys.argv", ["scribbleseg", "compare", str(tmp_path / "as-is.json"), str(tmp_path / "shifted.json")])
    with pytest.raises(SystemExit, match="0"):
        main()
    text = capsys.readouterr().out
    assert "as-is" in text
    assert "< 0.001" in text
    assert comparison_table(compare(*(read_scores(tmp_path / f"{n}.json") for n in ("as-is", "shifted")))[:0], ("a", "b"))
    old = json.loads((tmp_path / "as-is.json").read_text())
    del old["replicates"]
    with pytest.raises(DataError, match="evaluate it again"):
        compare(old, old)
