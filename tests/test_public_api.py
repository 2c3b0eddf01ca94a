"""The Python API does what the command line does."""

from __future__ import annotations

from pathlib import Path

from scribbleseg import api
from tests.fake.datasets import make_dataset
from tests.training.test_run import small


def test_every_public_name_is_documented() -> None:
    for name in api.__all__:
        assert getattr(api, name).__doc__, name


def test_the_whole_path_from_python(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "leaves")
    run = tmp_path / "run"
    api.train(small(root, training={"max_steps": 2}), str(run))
    scores = api.summary(api.evaluate(str(run), str(root), split="test"))
    assert 0 <= scores["miou"] <= 1
    masks = list(api.predict_folder(str(run), str(root / "images"), str(tmp_path / "masks")))
    assert [m.stem for m in masks] == [f"image_{n:03d}" for n in range(4)]
    model = api.load_model(str(run))
    stem = api.open_dataset(str(root)).stems("test")[0]
    probs = api.probabilities(model, api.open_dataset(root).rgb(stem))
    assert probs.shape == (3, 48, 64)
    page = api.report([str(run)], str(tmp_path / "report.html"), data=root)
    assert Path(page).is_file()
