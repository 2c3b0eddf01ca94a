from __future__ import annotations

from typer.testing import CliRunner

from scribbleseg.check.run import check
from scribbleseg.cli import app
from scribbleseg.training.run import train
from tests.annotate.conftest import page_of
from tests.fake.drawing import add, picture_folder, send
from tests.training.test_run import small


def test_what_was_drawn_passes_the_check_and_is_trained_on(tmp_path):
    folder = picture_folder(tmp_path / "pictures", 4, (64, 80))
    with page_of(folder) as page:
        for image in (1, 2, 3):
            send(page, image, add(1, ((5, 5), (70, 9)), 5), add(0, ((2, 50), (70, 50)), 5))
        page.project.dataset()
        found = check(folder, jobs=1)
        assert found.usable
        model = train(small(folder, training={"max_steps": 2, "val_every": 2}), tmp_path / "run")
    assert (model / "model.safetensors").is_file()


def test_the_command_says_what_is_wrong_and_helps(tmp_path):
    runner = CliRunner()
    assert "--no-open" in runner.invoke(app, ["annotate", "--help"]).output
    result = runner.invoke(app, ["annotate", str(tmp_path / "none"), "--no-open"])
    assert "a folder of pictures" in str(result.exception)
    assert not (tmp_path / "none").exists()


def test_a_missing_library_is_named_with_its_extra(tmp_path, monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = CliRunner().invoke(app, ["annotate", str(picture_folder(tmp_path)), "--no-open"])
    assert 'pip install "scribbleseg[annotate]"' in str(result.exception)
