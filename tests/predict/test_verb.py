"""`scribbleseg predict` as a user types it: exit codes, messages, the table of outputs."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from scribbleseg.predict import OUTPUTS
from tests.fake.models import make_model, make_pictures, picture
from tests.test_cli import run


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda *words: run(capsys, monkeypatch, *words)


@pytest.fixture
def predict(cli: Any, tmp_path: Path) -> Any:
    make_model(tmp_path / "model")
    make_pictures(tmp_path / "images")
    own = ("predict", "--model", tmp_path / "model", "--input", tmp_path / "images", "--out", tmp_path / "out")
    return lambda *words: cli(*own, *words)


def test_what_can_be_written_is_listed(cli: Any) -> None:
    code, said, _ = cli("predict", "--list")
    assert code == 0
    assert all(f"\n{name} " in said for name in OUTPUTS)


def test_what_is_lacking_is_named(cli: Any, tmp_path: Path) -> None:
    code, _, err = cli("predict", "--model", tmp_path)
    assert code == 2
    assert "no --input, --out" in err


def test_the_same_again_does_nothing_and_says_so(predict: Any, tmp_path: Path) -> None:
    code, said, _ = predict("--outputs", "mask,uncertainty-tiff", "--flips", "horizontal", "--scales", "0.75,1")
    assert code == 0
    assert "5 images: " in said
    assert len(list((tmp_path / "out" / "uncertainty_tiff").iterdir())) == 5
    code, said, _ = predict("--outputs", "mask,uncertainty-tiff", "--flips", "horizontal", "--scales", "0.75,1")
    assert code == 0
    assert "5 images (5 were done before)" in said
    code, _, err = predict("--flips", "both")
    assert code == 2
    assert "flips: horizontal there, both now" in err
    assert "--overwrite" in err
    assert predict("--flips", "both", "--overwrite")[0] == 0
    assert not list((tmp_path / "out" / "uncertainty_tiff").iterdir())


def test_bad_images_are_left_out_and_named_at_the_end(predict: Any, tmp_path: Path) -> None:
    (tmp_path / "images" / "picture_01.png").write_bytes(b"no picture")
    code, said, err = predict()
    assert code == 1
    assert "4 images: " in said
    assert "left out: " in err
    assert "picture_01.png" in err
    assert "1 of 5 images were left out" in err
    assert len(list((tmp_path / "out").glob("*.png"))) == 4
    code, said, err = predict()
    assert (code, "4 were done before" in said) == (1, True), "it is tried again, and told again"


def test_strict_stops_at_the_first(predict: Any, tmp_path: Path) -> None:
    (tmp_path / "images" / "picture_00.png").write_bytes(b"no picture")
    code, said, err = predict("--strict")
    assert code == 2
    assert "picture_00.png" in err
    assert said == ""


def test_stopped_by_hand_says_how_to_go_on(predict: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from scribbleseg.predict import folder

    def interrupted(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(folder, "batch_probabilities", interrupted)
    code, _, err = predict()
    assert code == 130
    assert "Run the same again to go on" in err


@pytest.mark.skipif(os.name == "nt", reason="no signals")
def test_sigterm_ends_it_after_what_was_begun_and_the_same_again_does_the_rest(
    predict: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scribbleseg.predict import folder

    compute, calls, before = folder.batch_probabilities, [], signal.getsignal(signal.SIGTERM)

    def told(*words: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return compute(*words)

    make_pictures(tmp_path / "images", 30)
    monkeypatch.setattr(folder, "batch_probabilities", told)
    code, _, err = predict("--outputs", "mask,coco")
    assert code == 143
    assert "SIGTERM at picture_0" in err
    assert "run the same again" in err
    assert signal.getsignal(signal.SIGTERM) is before
    lines = (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()[1:]
    done = {path.stem for path in (tmp_path / "out").glob("*.png")}
    assert {Path(json.loads(line)["input"]).stem for line in lines} == done, "what is there is listed, and the reverse"
    assert 0 < len(done) < 30
    assert not list((tmp_path / "out").rglob("*.part"))
    code, said, _ = predict("--outputs", "mask,coco")
    assert code == 0
    assert f"30 images ({len(done)} were done before)" in said


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (("--outputs", "mask,maks"), "did you mean 'mask'"),
        (("--flips", "up"), "one of none, horizontal, vertical, both"),
        (("--scales", "0"), "from 0.25 to 4"),
        (("--scales", "big"), "numbers, as 0.75,1,1.25"),
        (("--refine", "magic"), "dense_crf"),
    ],
)
def test_mistakes_are_one_message(predict: Any, tmp_path: Path, words: tuple[str, ...], wrong: str) -> None:
    code, _, err = predict(*words)
    assert code == 2
    assert wrong in err
    assert not list((tmp_path / "out").glob("*.png"))


def test_evaluate_takes_the_same_views(cli: Any, dataset_root: Path, tmp_path: Path) -> None:
    make_model(tmp_path / "model")
    own = ("evaluate", "--model", tmp_path / "model", "--data", dataset_root, "--split", "train")
    plain, views = cli(*own), cli(*own, "--flips", "both", "--scales", "0.75,1")
    assert (plain[0], views[0]) == (0, 0)
    assert plain[1] != views[1]
    assert cli(*own, "--flips", "up")[0] == 2


def test_one_image_is_an_input_too(cli: Any, tmp_path: Path) -> None:
    make_model(tmp_path / "model")
    Image.fromarray(picture(0, (30, 40))).save(tmp_path / "one.jpg")
    code, _, _ = cli("predict", "--model", tmp_path / "model", "--input", tmp_path / "one.jpg", "--out", tmp_path / "out")
    assert code == 0
    assert (tmp_path / "out" / "one.png").is_file()
