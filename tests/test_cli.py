"""The command line as a user types it: the whole path, and every mistake with its message and exit code 2."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from scribbleseg.cli import app, main
from scribbleseg.methods import METHODS
from tests.fake.datasets import make_dataset
from tests.training.test_run import SMALL


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: object) -> tuple[int, str, str]:
    """Run the program in this process and return exit code, output and errors."""
    monkeypatch.setattr(sys, "argv", ["scribbleseg", *map(str, words)])
    with pytest.raises(SystemExit) as left:
        main()
    out, err = capsys.readouterr()
    code = left.value.code
    return (code if isinstance(code, int) else 0), out, err


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda *words: run(capsys, monkeypatch, *words)


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    return path


def test_train_predict_evaluate_report(cli: Any, dataset_root: Path, settings: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    code, said, _ = cli(
        "train",
        "--data",
        dataset_root,
        "--out",
        out,
        "--config",
        settings,
        "--seed=5",
        "--training.max_steps",
        4,
        "--labels",
        "scribbles",
    )
    assert code == 0
    assert str(out / "model") in said
    saved = yaml.safe_load((out / "config.yaml").read_text())
    assert (saved["seed"], saved["training"]["max_steps"], saved["data"]["labels"]) == (5, 4, "scribbles")

    code, said, _ = cli("predict", "--model", out, "--input", dataset_root / "images", "--out", tmp_path / "masks")
    assert code == 0
    for image in (dataset_root / "images").iterdir():
        mask = pixels(tmp_path / "masks" / f"{image.stem}.png")
        assert mask.shape == pixels(image).shape[:2]
        assert set(np.unique(mask)) <= {0, 1, 2}
        assert pixels(tmp_path / "masks" / "overlays" / f"{image.stem}.png").shape == (*mask.shape, 3)

    code, said, _ = cli(
        "evaluate", "--model", out, "--data", dataset_root, "--split", "test", "--json", tmp_path / "model.json"
    )
    assert code == 0
    assert "mIoU" in said
    assert "leaf" in said
    code, _, _ = cli("evaluate", "--masks", tmp_path / "masks", "--data", dataset_root, "--json", tmp_path / "masks.json")
    assert code == 0
    by_model, by_masks = (json.loads((tmp_path / f"{k}.json").read_text()) for k in ("model", "masks"))
    assert by_model["confusion"] == by_masks["confusion"]

    code, said, _ = cli("report", out, "--out", tmp_path / "report.html")
    assert code == 0
    assert "<html" in (tmp_path / "report.html").read_text()


def test_resume_needs_no_settings_again(
    cli: Any, dataset_root: Path, settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    assert cli("train", "--data", dataset_root, "--out", out, "--config", settings)[0] == 0
    before = (out / "model" / "model.safetensors").read_bytes()
    shutil.rmtree(out / "model")
    # A version of the program in which the method has one loss more: the run keeps those it began with.
    monkeypatch.setitem(METHODS, "dfr", METHODS["dfr"] | {"total_variation": {"weight": 0.5}})
    assert cli("train", "--out", out, "--resume")[0] == 0
    assert (out / "model" / "model.safetensors").read_bytes() == before


def test_predictions_keep_the_names_and_sizes_of_odd_images(cli: Any, settings: Path, tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", size=(37, 53))
    out = tmp_path / "run"
    assert cli("train", "--data", root, "--out", out, "--config", settings, "--training.max_steps=2")[0] == 0
    odd = tmp_path / "odd"
    odd.mkdir()
    Image.fromarray(np.zeros((90, 141, 3), np.uint8)).save(odd / "a photo.v2.JPG", format="JPEG")
    assert cli("predict", "--model", out / "model", "--input", odd, "--out", tmp_path / "masks")[0] == 0
    assert pixels(tmp_path / "masks" / "a photo.v2.png").shape == (90, 141)


def test_masks_never_overwrite_the_images(cli: Any, dataset_root: Path, settings: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert cli("train", "--data", dataset_root, "--out", out, "--config", settings, "--training.max_steps=1")[0] == 0
    images = dataset_root / "images"
    before = {p: p.read_bytes() for folder in ("images", "scribbles", "masks") for p in (dataset_root / folder).iterdir()}
    for place in (images, dataset_root / "scribbles", dataset_root / "masks"):
        code, _, err = cli("predict", "--model", out, "--input", images, "--out", place)
        assert code == 2
        assert "another folder" in err
    overlays = Path(shutil.copytree(images, tmp_path / "out" / "overlays"))
    assert cli("predict", "--model", out, "--input", overlays, "--out", tmp_path / "out")[0] == 2
    kept = [p for folder in ("images", "scribbles", "masks") for p in (dataset_root / folder).iterdir()]
    assert {p: p.read_bytes() for p in kept} == before
    assert len(list((tmp_path / "out").rglob("*.*"))) == len(list(images.iterdir()))


MISTAKES: dict[str, tuple[Any, tuple[str, ...]]] = {
    "missing scribble": (lambda r: (r / "scribbles" / "image_000.png").unlink(), ("image_000.png", "no such file")),
    "scribble of another size": (
        lambda r: Image.fromarray(np.full((9, 9), 255, np.uint8)).save(r / "scribbles" / "image_000.png"),
        ("64 × 48", "9 × 9", "re-export"),
    ),
    "unknown class id": (
        lambda r: Image.fromarray(np.full((48, 64), 7, np.uint8)).save(r / "scribbles" / "image_000.png"),
        ("id 7", "0 background, 1 leaf", "names"),
    ),
    "nothing labelled at all": (
        lambda r: [Image.fromarray(np.full((48, 64), 255, np.uint8)).save(p) for p in (r / "scribbles").iterdir()],
        ("nothing labelled", "strokes of every class"),
    ),
    "one class only": (
        lambda r: [Image.fromarray(np.full((48, 64), 1, np.uint8)).save(p) for p in (r / "scribbles").iterdir()],
        ("only 'leaf'", "background too"),
    ),
    "image that does not decode": (
        lambda r: [p.write_bytes(p.read_bytes()[:200]) for p in (r / "images").iterdir()],
        ("images", "decodes"),
    ),
    "no dataset.yaml": (lambda r: (r / "dataset.yaml").unlink(), ("no dataset.yaml in it",)),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_data_ends_with_one_message(
    mistake: str, cli: Any, dataset_root: Path, settings: Path, tmp_path: Path
) -> None:
    spoil, words = MISTAKES[mistake]
    spoil(dataset_root)
    code, _, err = cli("train", "--data", dataset_root, "--out", tmp_path / "run", "--config", settings)
    assert code == 2
    assert "Traceback" not in err
    for word in (*words, "expected:", "got:", "to do:"):
        assert word in err
    assert not (tmp_path / "run" / "model").exists()


def test_a_missing_mask_is_named_when_masks_are_asked_for(cli: Any, dataset_root: Path, settings: Path, tmp_path: Path) -> None:
    next((dataset_root / "masks").glob("image_001.*")).unlink()
    code, _, err = cli("train", "--data", dataset_root, "--out", tmp_path / "run", "--config", settings, "--labels", "masks")
    assert code == 2
    assert "image_001.png" in err
    assert "masks" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--training.max_step=3"], "did you mean 'max_steps'?"),
        (["--trainig.max_steps=3"], "did you mean 'training'?"),
        (["--training.max_steps=many"], "'many'"),
        (["--losses.dynamic_featur.weight=1"], "did you mean 'dynamic_feature'?"),
        (["--losses.dynamic_feature.dynamic.sigma_rbg=1"], "sigma_rbg"),
        (["--labels", "dense"], "scribbles"),
        (["--model.decoder=upernett"], "did you mean 'upernet'?"),
        (["--model.backbone={model_type: swim}"], "did you mean 'swin'?"),
        (["seed"], "--key.sub=value"),
    ],
)
def test_a_wrong_setting_is_named_with_the_nearest_right_one(
    words: list[str], said: str, cli: Any, dataset_root: Path, settings: Path, tmp_path: Path
) -> None:
    code, _, err = cli("train", "--data", dataset_root, "--out", tmp_path / "run", "--config", settings, *words)
    assert code == 2
    assert said in err
    assert "Traceback" not in err


def test_a_model_folder_with_a_missing_file_is_refused(cli: Any, dataset_root: Path, settings: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert cli("train", "--data", dataset_root, "--out", out, "--config", settings, "--training.max_steps=1")[0] == 0
    for name in ("model.safetensors", "preprocessor_config.json", "config.json"):
        broken = shutil.copytree(out / "model", tmp_path / f"without {name}")
        (broken / name).unlink()
        code, _, err = cli("predict", "--model", broken, "--input", dataset_root / "images", "--out", tmp_path / "masks")
        assert code == 2
        assert name in err
        assert "no such file" in err
        assert not (tmp_path / "masks").exists()


def test_a_full_disk_is_said_plainly_and_leaves_no_half_file(
    cli: Any, dataset_root: Path, settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    assert cli("train", "--data", dataset_root, "--out", out, "--config", settings, "--training.max_steps=1")[0] == 0
    save = Image.Image.save

    def full(self: Image.Image, place: Any, *args: Any, **kwargs: Any) -> None:
        Path(place).write_bytes(b"half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    code, _, err = cli("predict", "--model", out, "--input", dataset_root / "images", "--out", tmp_path / "masks")
    monkeypatch.setattr(Image.Image, "save", save)
    assert code == 2
    assert "No space left on device" in err
    assert "Traceback" not in err
    left = [p.name for p in (tmp_path / "masks").rglob("*") if p.is_file() and not p.name.endswith(".lock")]
    assert left == ["predictions.jsonl"]  # which tells of no picture
    assert (tmp_path / "masks" / "predictions.jsonl").read_text(encoding="utf-8").count("\n") == 1


def test_ctrl_c_says_how_to_go_on(
    cli: Any, dataset_root: Path, settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scribbleseg.training.module import SegmentationModule

    step, last = SegmentationModule.training_step, 0

    def stop(self: Any, *words: Any) -> Any:
        if self.global_step == last:
            raise KeyboardInterrupt  # as a second Ctrl-C does
        return step(self, *words)

    monkeypatch.setattr(SegmentationModule, "training_step", stop)
    words = ["train", "--data", dataset_root, "--out", tmp_path / "run", "--config", settings, "--training.val_every=1"]
    code, _, err = cli(*words)
    assert code == 130
    assert "the same command, from the beginning" in err
    last = 2
    code, _, err = cli(*words)
    assert code == 130
    assert f"scribbleseg train --out {tmp_path / 'run'} --resume" in err


def test_simulated_strokes_can_be_trained_on(cli: Any, dataset_root: Path, settings: Path, tmp_path: Path) -> None:
    words = ["simulate", dataset_root, "--style", "straight", "--seed", 3, "--split", "train", "--split", "val", "--width", 2]
    code, out, _ = cli(*words)
    made = dataset_root / "simulated" / "straight-3"
    assert code == 0
    assert f"scribbleseg train --data {made}" in out
    assert sorted(p.stem for p in (made / "strokes").iterdir()) == ["image_000", "image_001", "image_002"]
    assert cli("train", "--data", made, "--config", settings, "--out", tmp_path / "run")[0] == 0
    code, _, err = cli(*words, "--drop", 0.5)
    assert code == 2
    assert "--out" in err


def test_an_interrupted_simulation_says_how_to_go_on(cli: Any, dataset_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*given: Any, **more: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("scribbleseg.data.simulate.run.simulate_dataset", stop)
    code, _, err = cli("simulate", dataset_root)
    assert code == 130
    assert "go on" in err


def test_print_config_shows_every_setting_and_is_read_back(cli: Any, settings: Path, tmp_path: Path) -> None:
    code, said, _ = cli("train", "--config", settings, "--print-config", "--seed=9", "--training.precision=32")
    assert code == 0
    (tmp_path / "again.yaml").write_text(said)
    again = cli("train", "--config", tmp_path / "again.yaml", "--print-config")[1]
    assert again == said
    assert yaml.safe_load(said)["seed"] == 9
    assert yaml.safe_load(said)["training"]["precision"] == "32"


def test_every_verb_has_help_and_the_list_is_complete() -> None:
    verbs = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    assert verbs == {
        "serve",
        "train",
        "check",
        "predict",
        "push",
        "evaluate",
        "compare",
        "export",
        "report",
        "bench",
        "annotate",
        "audit",
        "convert",
        "shard",
        "simulate",
        "demo",
        "doctor",
    }
    for command in app.registered_commands:
        assert command.callback is not None
        assert command.callback.__doc__


def test_help_does_not_load_torch() -> None:
    code = "import sys; sys.argv=['scribbleseg','--help']\ntry:\n import scribbleseg.cli as c; c.main()\nexcept SystemExit: pass\nassert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "train" in done.stdout


def test_doctor_names_versions_devices_and_backends(cli: Any) -> None:
    code, said, _ = cli("doctor")
    assert code == 0
    for word in ("torch", "transformers", "cpu", "cuda", "windowed_energy", "reference", "by name only", "tensorboard"):
        assert word in said
