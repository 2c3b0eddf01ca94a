"""A training run as a user meets it: what it writes, that it learns, that it resumes, that it stops with a word."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scribbleseg.config import RunConfig, load_config, load_record, parse_config
from scribbleseg.data.images import write_png
from scribbleseg.errors import ConfigError, DataError, StorageError, TrainingError
from scribbleseg.evaluate import evaluate
from scribbleseg.methods import METHODS
from scribbleseg.models.backbone import build_backbone
from scribbleseg.models.folder import load_model
from scribbleseg.scores import summary
from scribbleseg.training.module import SegmentationModule
from scribbleseg.training.run import train
from scribbleseg.trees import merge
from tests.fake.datasets import make_dataset

SMALL: dict[str, Any] = {
    "data": {"crop_px": 32, "scale": [0.9, 1.1]},
    "model": {
        "backbone": {
            "model_type": "resnet",
            "embedding_size": 8,
            "hidden_sizes": [8, 8, 16, 16],
            "depths": [1, 1, 1, 1],
            "layer_type": "basic",
        },
        "channels": 8,
        "feature_dim": 4,
    },
    "losses": {
        "dynamic_feature": {"static": {"radius": 2}, "dynamic": {"radius": 2}},
        "feature_consistency": {"num_pixels": 32},
    },
    "training": {"max_steps": 6, "batch_size": 2, "val_every": 2, "progress_bar": False, "precision": "32"},
}


def small(root: Path, **changes: Any) -> RunConfig:
    return parse_config(merge(merge(SMALL, {"data": {"root": str(root)}}), changes))


def weights(run: Path) -> bytes:
    return (run / "model" / "model.safetensors").read_bytes()


def test_a_run_folder_holds_what_is_needed_to_use_and_to_repeat_it(dataset_root: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    model = train(small(dataset_root), out)
    assert model == out / "model"
    assert {p.name for p in model.iterdir()} == {"model.safetensors", "config.json", "preprocessor_config.json"}
    assert json.loads((model / "config.json").read_text())["id2label"] == {"0": "background", "1": "leaf", "2": "stone"}
    assert {p.name for p in (out / "checkpoints").iterdir()} == {"last.ckpt", "previous.ckpt", "best.ckpt"}
    record = json.loads((out / "run.json").read_text())
    assert record["seed"] == 0
    assert record["packages"]["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert str(Path.home()) not in (out / "run.json").read_text()
    again = load_config(out / "config.yaml")
    assert again.losses["dynamic_feature"].numbers()["dynamic"]["sigma_feature"] > 0, "every number is written out"
    rows = list(csv.DictReader((out / "metrics.csv").read_text().splitlines()))
    assert {"step", "train/total", "train/partial_cross_entropy", "train/dynamic_feature", "val/miou"} <= set(rows[0])
    assert [int(r["step"]) for r in rows if r["val/miou"]] == [1, 3, 5]


def test_training_never_reads_masks(tmp_path: Path) -> None:
    with_masks = make_dataset(tmp_path / "a")
    without = shutil.copytree(with_masks, tmp_path / "b")
    shutil.rmtree(without / "masks")
    train(small(with_masks), tmp_path / "run_a")
    train(small(without), tmp_path / "run_b")
    assert weights(tmp_path / "run_a") == weights(tmp_path / "run_b")


def test_masks_are_read_only_when_asked_for(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data")
    train(small(root), tmp_path / "scribbles")
    train(small(root, data={"labels": "masks"}), tmp_path / "masks")
    assert weights(tmp_path / "scribbles") != weights(tmp_path / "masks")


def test_same_seed_same_weights_other_seed_other_weights(dataset_root: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        train(small(dataset_root, seed=seed), tmp_path / name)
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    assert weights(tmp_path / "a") != weights(tmp_path / "c")


@pytest.mark.parametrize("workers", [0, 1])
def test_an_interrupted_run_resumes_to_the_same_weights(
    dataset_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    config = small(dataset_root, data={"num_workers": workers}, model={"dropout": 0.3})
    train(config, tmp_path / "whole")

    step = SegmentationModule.training_step

    def die_at_five(self: SegmentationModule, batch: Any, batch_idx: int) -> Any:
        if self.global_step == 5:
            raise RuntimeError("the lights went out")
        return step(self, batch, batch_idx)

    monkeypatch.setattr(SegmentationModule, "training_step", die_at_five)
    with pytest.raises(RuntimeError, match="lights"):
        train(config, tmp_path / "cut")
    monkeypatch.undo()
    assert not (tmp_path / "cut" / "model").exists()
    forgetful = small(dataset_root, data={"num_workers": workers, "cache_mib": 0}, model={"dropout": 0.3})
    train(forgetful, tmp_path / "cut", resume=True)  # what is kept in memory may differ: all else would be refused
    assert (tmp_path / "cut" / "metrics.csv").read_text() == (tmp_path / "whole" / "metrics.csv").read_text()
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")


def test_snapshots_are_the_averaged_networks_of_their_steps_also_after_an_interruption(
    dataset_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(dataset_root, training={"snapshots": 4})
    train(config, tmp_path / "whole")
    steps = config.training.max_steps
    expected = [f"{round(k * steps / 4):06d}" for k in range(4)]
    assert sorted(p.name for p in (tmp_path / "whole" / "snapshots").iterdir()) == expected
    torch.manual_seed(config.seed)
    untaught = SegmentationModule(config, ("a", "b", "c")).trained_model().segmenter.state_dict()
    first = load_model(tmp_path / "whole" / "snapshots" / "000000").segmenter.state_dict()
    assert all(torch.equal(first[key], untaught[key]) for key in first)
    step = SegmentationModule.training_step

    def die(self: SegmentationModule, batch: Any, batch_idx: int) -> Any:
        if self.global_step == steps - 1:
            raise RuntimeError("the lights went out")
        return step(self, batch, batch_idx)

    monkeypatch.setattr(SegmentationModule, "training_step", die)
    with pytest.raises(RuntimeError, match="lights"):
        train(config, tmp_path / "cut")
    monkeypatch.undo()
    train(config, tmp_path / "cut", resume=True)
    for name in expected:
        whole, cut = ((tmp_path / run / "snapshots" / name / "model.safetensors").read_bytes() for run in ("whole", "cut"))
        assert whole == cut
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")
    assert len({(tmp_path / "whole" / "snapshots" / name / "model.safetensors").read_bytes() for name in expected}) == 4


def test_a_run_killed_during_a_validation_does_that_validation_again(
    dataset_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(small(dataset_root), tmp_path / "whole")
    check = SegmentationModule.validation_step

    def die(self: SegmentationModule, *words: Any) -> None:
        if self.global_step == 4:
            raise RuntimeError("killed")
        check(self, *words)

    monkeypatch.setattr(SegmentationModule, "validation_step", die)
    with pytest.raises(RuntimeError, match="killed"):
        train(small(dataset_root), tmp_path / "cut")
    monkeypatch.undo()
    train(small(dataset_root), tmp_path / "cut", resume=True)
    for name in ("metrics.csv", "model/model.safetensors", "best/model.safetensors"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_full_disk_leaves_the_last_whole_checkpoint(
    dataset_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = torch.save
    written: list[Any] = []

    def fill_up(state: Any, place: Any, *words: Any, **more: Any) -> None:
        if len(written) == 2:  # best and last of the first validation
            Path(place).write_bytes(b"a stump")
            raise OSError(28, "No space left on device")
        written.append(place)
        save(state, place, *words, **more)

    monkeypatch.setattr(torch, "save", fill_up)
    with pytest.raises(StorageError, match="free some space and run again"):
        train(small(dataset_root), tmp_path / "run")
    monkeypatch.undo()
    assert not list((tmp_path / "run").rglob("*.part"))
    train(small(dataset_root), tmp_path / "run", resume=True)
    train(small(dataset_root), tmp_path / "whole")
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")


def test_a_run_that_died_before_its_first_checkpoint_can_be_started_again(
    dataset_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(self: SegmentationModule, batch: Any, batch_idx: int) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(SegmentationModule, "training_step", die)
    with pytest.raises(KeyboardInterrupt):
        train(small(dataset_root), tmp_path / "run")
    monkeypatch.undo()
    assert train(small(dataset_root), tmp_path / "run").is_dir()


def test_a_setting_the_network_refuses_leaves_no_folder_behind(dataset_root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a multiple of 32"):
        train(small(dataset_root, data={"crop_px": 50}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_resume_refuses_what_it_cannot_continue(dataset_root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"last\.ckpt"):
        train(small(dataset_root), tmp_path / "new", resume=True)
    train(small(dataset_root), tmp_path / "run")
    with pytest.raises(ConfigError, match="a run is in it"):
        train(small(dataset_root), tmp_path / "run")
    with pytest.raises(ConfigError, match="another seed"):
        train(small(dataset_root, seed=9), tmp_path / "run", resume=True)


def test_a_run_keeps_the_losses_it_was_trained_with_when_its_method_changes(
    dataset_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train(small(dataset_root), tmp_path / "run").parent
    before, trained = load_record(run), weights(run)
    monkeypatch.setitem(METHODS, before.method, METHODS[before.method] | {"total_variation": {"weight": 0.5}})
    assert load_record(run) == before
    with pytest.raises(ConfigError, match="another losses.total_variation"):
        train(small(dataset_root), run, resume=True)
    shutil.rmtree(run / "model")
    train(load_record(run), run, resume=True)
    assert weights(run) == trained


def test_nan_stops_the_run_and_names_step_and_images(
    dataset_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = SegmentationModule.training_step

    def poison_at_three(self: SegmentationModule, batch: Any, batch_idx: int) -> Any:
        if self.global_step == 3:
            with torch.no_grad():
                next(self.segmenter.parameters()).fill_(float("nan"))
        return step(self, batch, batch_idx)

    monkeypatch.setattr(SegmentationModule, "training_step", poison_at_three)
    with pytest.raises(TrainingError, match=r"step 4, batch of image_00\d, image_00\d") as caught:
        train(small(dataset_root), tmp_path / "run")
    assert "partial_cross_entropy=nan" in caught.value.got
    assert "last good checkpoint: of step 2" in caught.value.got
    assert "training.lr" in caught.value.do
    assert not (tmp_path / "run" / "model").exists()


def test_the_term_that_is_not_finite_is_told_apart_from_those_that_are(
    dataset_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scribbleseg.losses.dynamic_feature import DynamicFeatureLoss
    from scribbleseg.records import Terms

    terms = DynamicFeatureLoss.terms

    def infinite(self: DynamicFeatureLoss, *words: Any, **more: Any) -> Terms:
        found = terms(self, *words, **more)
        return Terms(found.sum * float("inf"), found.count)

    monkeypatch.setattr(DynamicFeatureLoss, "terms", infinite)
    with pytest.raises(TrainingError) as caught:
        train(small(dataset_root), tmp_path / "run")
    bad, _, sound = caught.value.got.partition(" (")
    assert bad == "dynamic_feature=inf"
    assert "partial_cross_entropy=" in sound
    assert "last good checkpoint: none yet" in sound


def test_a_gradient_that_is_not_finite_stops_the_run_before_it_spoils_a_checkpoint(
    dataset_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def poison(self: SegmentationModule, *words: Any) -> None:
        if self.global_step == 3:
            next(p for p in self.segmenter.parameters() if p.grad is not None).grad.fill_(float("nan"))

    monkeypatch.setattr(SegmentationModule, "on_before_optimizer_step", poison)
    with pytest.raises(TrainingError, match="step 4") as caught:
        train(small(dataset_root), tmp_path / "run")
    assert "a norm of nan, of a finite loss; last good checkpoint: of step 2" in caught.value.got
    state = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["global_step"] == 2
    assert all(torch.isfinite(value).all() for value in state["state_dict"].values())


def test_full_disk_ends_with_a_word_and_without_a_model(
    dataset_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("scribbleseg.models.folder.save_file", full)
    with pytest.raises(StorageError, match="No space left on device"):
        train(small(dataset_root), tmp_path / "run")
    assert not list((tmp_path / "run" / "model").glob("*.safetensors"))
    assert not list((tmp_path / "run").rglob("*.part"))


@pytest.mark.parametrize("folder", ["scribbles", "masks"])
def test_labels_of_another_size_are_found_before_the_first_step(folder: str, tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", num_images=8)
    stem = "image_003" if folder == "scribbles" else "image_005"  # in train, in val
    write_png(root / folder / f"{stem}.png", np.full((10, 12), 1, np.uint8))
    with pytest.raises(DataError, match=f"{folder}/{stem}"):
        train(small(root), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_misspelt_validation_split_is_named(dataset_root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="did you mean 'val'"):
        train(small(dataset_root, data={"val_split": "vall"}), tmp_path / "run")


def test_bad_labels_are_found_before_the_first_step(dataset_root: Path, tmp_path: Path) -> None:
    next((dataset_root / "scribbles").glob("image_001.png")).unlink()
    with pytest.raises(DataError, match="no such file"):
        train(small(dataset_root), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_does_not_decode_is_named_by_any_process(dataset_root: Path, tmp_path: Path, workers: int) -> None:
    for path in (dataset_root / "images").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"image_00\d\.png") as caught:
        train(small(dataset_root, data={"num_workers": workers}), tmp_path / "run")
    assert "decodes" in caught.value.expected


def test_four_images_can_be_learned_by_heart(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", num_images=8, size=(32, 32))
    config = small(
        root,
        training={"max_steps": 250, "lr": 5e-3, "val_every": 250, "ema_decay": 0.9},
        model={"dropout": 0.0},
        losses={"dynamic_feature": {"weight": 4.0}},  # windows as wide as these images smooth them at the method's 9.2
    )
    train(config, tmp_path / "run")
    scores = summary(evaluate(tmp_path / "run", root, split="train"))
    assert scores["num_images"] == 4
    assert scores["miou"] > 0.9, "strokes of two pixels' width decide the whole picture"


def test_the_regularizer_acts_on_unlabelled_pixels(dataset_root: Path) -> None:
    """Two gradients of one step: with the regularizer, pixels far from every stroke are moved too."""
    from scribbleseg.data.loader import training_loader

    batch = next(iter(training_loader(dataset_root_opened(dataset_root), small(dataset_root), lambda: 0)))
    reach = {}
    for method in ("partial_ce", "dfr"):
        losses = {} if method == "partial_ce" else SMALL["losses"]
        tree = merge(SMALL, {"data": {"root": str(dataset_root)}, "method": method}) | {"losses": losses}
        module = SegmentationModule(parse_config(tree), ("background", "leaf", "stone"))
        output = module.segmenter(batch.image)
        output.logits.retain_grad()
        module.objective(output, batch, 1.0)[0].backward()
        assert output.logits.grad is not None
        reach[method] = float(np.mean(output.logits.grad.abs().amax(1).numpy() > 0))
    assert reach["partial_ce"] < 0.5 < 0.9 < reach["dfr"]


def dataset_root_opened(root: Path) -> Any:
    from scribbleseg.data.folder import open_dataset

    return open_dataset(root)


@pytest.mark.parametrize(
    ("pretrained", "given", "expected"), [(False, {}, 1.0), (True, {}, 0.1), (True, {"backbone_lr_factor": 0.25}, 0.25)]
)
def test_the_backbone_has_a_rate_of_its_own(
    pretrained: bool, given: dict[str, float], expected: float, dataset_root: Path, tmp_path: Path
) -> None:
    settings = SMALL["model"]["backbone"]
    if pretrained:
        build_backbone(settings, pretrained=False).encoder.save_pretrained(tmp_path / "backbone")  # type: ignore[operator]
    model = {"backbone": str(tmp_path / "backbone") if pretrained else settings}
    module = SegmentationModule(small(dataset_root, training=given | {"lr": 0.01}, model=model), ("a", "b", "c"))
    groups = module.configure_optimizers()["optimizer"].param_groups
    backbone = {id(p) for p in module.segmenter.backbone.parameters()}
    rates = {bool(backbone & {id(p) for p in g["params"]}): g["initial_lr"] for g in groups}
    assert rates == {True: pytest.approx(0.01 * expected), False: pytest.approx(0.01)}
    assert sum(len(g["params"]) for g in groups) == len(list(module.segmenter.parameters()))


def test_sgd_has_its_momentum_and_the_same_groups(dataset_root: Path) -> None:
    sgd = SegmentationModule(small(dataset_root, training={"optimizer": "sgd", "momentum": 0.8, "lr": 0.01}), ("a", "b", "c"))
    adamw = SegmentationModule(small(dataset_root, training={"lr": 0.01}), ("a", "b", "c"))
    one, other = (m.configure_optimizers()["optimizer"] for m in (sgd, adamw))
    assert isinstance(one, torch.optim.SGD)
    assert {g["momentum"] for g in one.param_groups} == {0.8}
    for key in ("initial_lr", "weight_decay"):
        assert [g[key] for g in one.param_groups] == [g[key] for g in other.param_groups]
    assert [len(g["params"]) for g in one.param_groups] == [len(g["params"]) for g in other.param_groups]
