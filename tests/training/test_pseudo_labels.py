"""The options that make labels of their own: mean teacher, pseudo labels, two branches, random walker."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from scribbleseg.config import parse_config
from scribbleseg.data.folder import Dataset, open_dataset
from scribbleseg.data.images import read_index
from scribbleseg.data.loader import training_loader
from scribbleseg.errors import ConfigError, DataError
from scribbleseg.methods import METHODS
from scribbleseg.models.folder import load_model
from scribbleseg.training.module import SegmentationModule
from scribbleseg.training.run import train
from tests.fake.datasets import make_dataset
from tests.training.test_run import SMALL, weights

NAMES = ("background", "leaf", "stone")
METHODS_HERE = ("mean_teacher", "dfr_pseudo", "dual_branch", "dual_branch_soft")
OPTIONS: dict[str, dict[str, Any]] = {name: {"method": name} for name in METHODS_HERE} | {
    "random_walker": {"method": "partial_ce", "data": {"labels": "random_walker", "random_walker": {"min_probability": 0.5}}}
}
every_option = pytest.mark.parametrize("option", OPTIONS)
one_of_each = pytest.mark.parametrize("option", ["mean_teacher", "dfr_pseudo", "dual_branch", "random_walker"])


def small(root: Path, option: str, **changes: Any) -> Any:
    tree = {key: value for key, value in SMALL.items() if key != "losses"} | {"data": SMALL["data"] | {"root": str(root)}}
    for part in (OPTIONS[option], changes):
        for key, value in part.items():
            tree[key] = tree.get(key, {}) | value if isinstance(value, dict) else value
    return parse_config(tree)


def module_and_batch(root: Path, option: str, **changes: Any) -> tuple[SegmentationModule, Any]:
    config = small(root, option, **changes)
    torch.manual_seed(0)
    return SegmentationModule(config, NAMES), next(iter(training_loader(open_dataset(root), config, lambda: 0)))


@every_option
def test_a_run_writes_a_model_like_any_other(option: str, dataset_root: Path, tmp_path: Path) -> None:
    train(small(dataset_root, option), tmp_path / "run")
    train(small(dataset_root, option, method="partial_ce", data={"labels": "scribbles"}), tmp_path / "plain")
    mine, plain = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("run", "plain"))
    assert {k: v.shape for k, v in mine.items()} == {k: v.shape for k, v in plain.items()}, "no second branch"
    assert any(not torch.equal(mine[k], plain[k]) for k in mine), "and yet it learned something else"
    assert not any("branch" in key for key in json.loads((tmp_path / "run/model/config.json").read_text())["segmenter"])
    assert load_model(tmp_path / "run").names == NAMES
    head = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {f"train/{name}" for name in METHODS.get(option, {})} <= set(head)


@one_of_each
def test_an_interrupted_run_resumes_to_the_same_weights(
    option: str, dataset_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(dataset_root, option)
    train(config, tmp_path / "whole")
    step = SegmentationModule.training_step

    def die_at_three(self: SegmentationModule, batch: Any, batch_idx: int) -> Any:
        if self.global_step == 3:
            raise RuntimeError("the lights went out")
        return step(self, batch, batch_idx)

    monkeypatch.setattr(SegmentationModule, "training_step", die_at_three)
    with pytest.raises(RuntimeError, match="lights"):
        train(config, tmp_path / "cut")
    monkeypatch.undo()
    train(config, tmp_path / "cut", resume=True)
    assert (tmp_path / "cut" / "metrics.csv").read_text() == (tmp_path / "whole" / "metrics.csv").read_text()
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")


@one_of_each
def test_training_never_reads_masks(option: str, tmp_path: Path) -> None:
    with_masks = make_dataset(tmp_path / "a")
    without = shutil.copytree(with_masks, tmp_path / "b")
    shutil.rmtree(without / "masks")
    train(small(with_masks, option), tmp_path / "run_a")
    train(small(without, option), tmp_path / "run_b")
    assert weights(tmp_path / "run_a") == weights(tmp_path / "run_b")


def taught(module: SegmentationModule, batch: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """Return what one step's objective is given, and what the averaged network was."""
    seen: dict[str, Any] = {}
    module.averaged.register_forward_pre_hook(lambda _, given: seen.update(image=given[0], training=module.averaged.training))
    forward = module.objective.forward
    monkeypatch.setattr(module.objective, "forward", lambda output, *rest: forward(seen.setdefault("output", output), *rest))
    monkeypatch.setattr(module, "log", lambda *words, **more: None)
    module.on_train_batch_start(batch, 0)
    seen["total"] = module.training_step(batch, 0)
    return seen.get("output"), seen


class TestMeanTeacher:
    late: dict[str, Any] = {"teacher_consistency": {"start": 0.5, "ramp": 0.0}}  # noqa: RUF012

    def test_the_teacher_is_the_average_in_evaluation_mode_under_noise(
        self, dataset_root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        module, batch = module_and_batch(dataset_root, "mean_teacher", training={"teacher_noise": 0.05}, model={"dropout": 0.9})
        with torch.no_grad():
            for parameter in module.averaged.parameters():
                parameter.mul_(1.1)
        module.train()
        output, seen = taught(module, batch, monkeypatch)
        noise = seen["image"] - batch.image
        assert 0 < float(noise.abs().max()) <= 0.1 + 1e-6
        assert 0 <= float(seen["image"].min()) <= float(seen["image"].max()) <= 1
        assert float(noise[(batch.image > 0.2) & (batch.image < 0.8)].std()) == pytest.approx(0.05, rel=0.15)
        assert not seen["training"]
        assert not output.teacher_logits.requires_grad
        with torch.no_grad():
            torch.testing.assert_close(output.teacher_logits, module.averaged(seen["image"]).logits)
            assert not torch.allclose(output.teacher_logits, module.segmenter.eval()(seen["image"]).logits)

    def test_the_noise_of_a_step_is_that_of_its_seed(self, dataset_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        module, batch = module_and_batch(dataset_root, "mean_teacher")
        first = taught(module, batch, monkeypatch)[1]["image"]
        monkeypatch.undo()
        torch.rand(7)
        assert torch.equal(first, taught(module, batch, monkeypatch)[1]["image"])

    def test_without_noise_it_sees_the_image(self, dataset_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        module, batch = module_and_batch(dataset_root, "mean_teacher", training={"teacher_noise": 0})
        assert torch.equal(taught(module, batch, monkeypatch)[1]["image"], batch.image)

    @pytest.mark.parametrize(("done", "asked"), [(0.0, False), (0.4, False), (0.5, True)])
    def test_it_is_asked_only_when_its_weight_has_begun(
        self, done: float, asked: bool, dataset_root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        module, batch = module_and_batch(dataset_root, "mean_teacher", losses=self.late)
        monkeypatch.setattr(SegmentationModule, "progress", done)
        output, seen = taught(module, batch, monkeypatch)
        assert ("image" in seen) == asked == (output.teacher_logits is not None)

    def test_only_the_student_learns(self, dataset_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        module, batch = module_and_batch(dataset_root, "mean_teacher", losses={"teacher_consistency": {"ramp": 0.0}})
        taught(module, batch, monkeypatch)[1]["total"].backward()
        assert all(p.grad is None for p in module.averaged.parameters())
        assert any(p.grad is not None for p in module.segmenter.parameters())


class TestPseudoLabels:
    def test_the_teacher_is_the_average_in_evaluation_mode_and_sees_the_true_colours(
        self, dataset_root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        losses = {"pseudo_label": {"start": 0.0, "ramp": 0.0, "confidence": 0.0}}
        module, batch = module_and_batch(dataset_root, "dfr_pseudo", losses=losses, model={"dropout": 0.9})
        with torch.no_grad():
            for parameter in module.averaged.parameters():
                parameter.mul_(1.1)
        module.train()
        output, seen = taught(module, batch, monkeypatch)
        assert torch.equal(seen["image"], batch.rgb)
        assert not torch.equal(batch.rgb, batch.image), "the student's colours are changed, or this shows nothing"
        assert not seen["training"]
        with torch.no_grad():
            torch.testing.assert_close(output.teacher_clean_logits, module.averaged(batch.rgb).logits)
        seen["total"].backward()
        assert all(p.grad is None for p in module.averaged.parameters())
        assert any(p.grad is not None for p in module.segmenter.parameters())

    @pytest.mark.parametrize(("done", "asked"), [(0.0, False), (0.3, False), (0.31, True), (1.0, True)])
    def test_it_is_asked_only_when_its_weight_has_begun(
        self, done: float, asked: bool, dataset_root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        module, batch = module_and_batch(dataset_root, "dfr_pseudo")
        monkeypatch.setattr(SegmentationModule, "progress", done)
        output, seen = taught(module, batch, monkeypatch)
        assert ("image" in seen) == asked == (output.teacher_clean_logits is not None)

    @pytest.mark.parametrize(
        ("method", "losses", "told"),
        [
            ("dfr_pseudo", {}, "pseudo_label takes"),
            ("dfr_pseudo", {"absent_class": {}}, "pseudo_label and absent_class take"),
            ("dfr_pseudo", {"pseudo_label": {"among": "all"}}, ""),
            ("dfr", {}, ""),
        ],
    )
    def test_who_drew_one_class_in_an_image_is_told_what_that_says(
        self, method: str, losses: dict[str, Any], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        root = make_dataset(tmp_path / "data")
        first = root / "scribbles" / f"{open_dataset(root).stems('train')[0]}.png"
        labels = read_index(first)
        Image.fromarray(np.where(labels == 1, labels, 255).astype(np.uint8)).save(first)
        train(small(root, "dfr_pseudo", method=method, losses=losses, training={"max_steps": 1}), tmp_path / "run")
        said = capsys.readouterr().err
        assert told in said
        assert ("1 of 2 images have strokes of one class alone" in said) == bool(told)


class TestDualBranch:
    @pytest.mark.parametrize(("option", "wanted"), [("dual_branch", True), ("mean_teacher", False)])
    def test_a_branch_is_there_only_where_a_loss_asks_for_it(self, option: str, wanted: bool, dataset_root: Path) -> None:
        module, _ = module_and_batch(dataset_root, option)
        assert (module.branch is not None) == wanted
        sizes = sum(p.numel() for g in module.configure_optimizers()["optimizer"].param_groups for p in g["params"])
        assert sizes == sum(p.numel() for p in module.parameters() if p.requires_grad), "it is trained, the average is not"

    def test_its_dropout_is_that_of_the_configuration(self, dataset_root: Path) -> None:
        module, _ = module_and_batch(dataset_root, "dual_branch", training={"branch_dropout": 0.25})
        assert module.branch is not None
        assert module.branch.drop.p == 0.25

    def test_the_first_branch_starts_as_it_would_alone(self, dataset_root: Path) -> None:
        two, _ = module_and_batch(dataset_root, "dual_branch")
        one, _ = module_and_batch(dataset_root, "mean_teacher")
        assert all(torch.equal(v, two.segmenter.state_dict()[k]) for k, v in one.segmenter.state_dict().items())

    def test_both_decoders_move(self, dataset_root: Path, tmp_path: Path) -> None:
        train(small(dataset_root, "dual_branch"), tmp_path / "run")
        state = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        begun = module_and_batch(dataset_root, "dual_branch")[0].state_dict()
        for part in ("branch.decoder", "branch.class_head", "segmenter.decoder", "segmenter.class_head"):
            assert any(not torch.equal(state[k], begun[k]) for k in state if k.startswith(part)), part


class TestFeaturesOfAnotherNetwork:
    """The kernel of the dynamic feature loss may be that of the average, or of the network as it began."""

    def test_the_first_network_stays_as_it_was_and_outlives_an_interruption(self, dataset_root: Path, tmp_path: Path) -> None:
        config = small(
            dataset_root,
            "mean_teacher",
            method="dfr",
            losses={"dynamic_feature": {"source": "first", "start": 0.0, "ramp": 0.0}},
        )
        torch.manual_seed(config.seed)
        begun = SegmentationModule(config, NAMES).state_dict()
        train(config, tmp_path / "run")
        state = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        first = [k for k in state if k.startswith("first.")]
        assert all(torch.equal(state[k], begun[k]) for k in first)
        assert any(not torch.equal(state[k.replace("first.", "segmenter.", 1)], begun[k]) for k in first)

    @pytest.mark.parametrize("source", ["teacher", "first"])
    def test_only_the_network_learns(self, source: str, dataset_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        numbers = {"dynamic_feature": {"source": source, "start": 0.0, "ramp": 0.0}}
        module, batch = module_and_batch(dataset_root, "mean_teacher", method="dfr", losses=numbers)
        monkeypatch.setattr(module, "log", lambda *words, **more: None)
        module.training_step(batch, 0).backward()
        others = [*module.averaged.parameters(), *(module.first.parameters() if module.first is not None else ())]
        assert all(p.grad is None for p in others)
        assert any(p.grad is not None for p in module.segmenter.parameters())

    def test_without_it_no_second_network_is_kept(self, dataset_root: Path) -> None:
        assert module_and_batch(dataset_root, "mean_teacher", method="dfr")[0].first is None


class TestRandomWalker:
    def test_the_run_folder_shows_what_was_learned_from(self, dataset_root: Path, tmp_path: Path) -> None:
        train(small(dataset_root, "random_walker"), tmp_path / "run")
        dataset = open_dataset(dataset_root)
        found = {p.stem for p in (tmp_path / "run" / "random_walker").iterdir()}
        assert found == set(dataset.stems("train")), "and of no other split"
        walked = Dataset(dataset.root, dataset.spec, tmp_path / "run" / "random_walker")
        for stem in found:
            labels = walked.labels(stem, "random_walker")
            assert (labels != 255).sum() > 5 * (dataset.labels(stem, "scribbles") != 255).sum()

    def test_the_run_folder_may_be_named_from_where_one_is(
        self, dataset_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        train(small(dataset_root, "random_walker"), "here")
        train(small(dataset_root, "random_walker"), tmp_path / "there")
        assert weights(tmp_path / "here") == weights(tmp_path / "there")

    def test_a_resumed_run_goes_on_with_the_labels_it_began_with(
        self, dataset_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        config = small(dataset_root, "random_walker")
        train(config, tmp_path / "run")
        before = weights(tmp_path / "run")
        monkeypatch.setattr("scribbleseg.data.random_walker.random_walker", lambda *words, **more: pytest.fail("walked again"))
        train(config, tmp_path / "run", resume=True)
        assert weights(tmp_path / "run") == before

    def test_a_new_run_in_the_place_of_a_dead_one_makes_its_own(self, dataset_root: Path, tmp_path: Path) -> None:
        out = tmp_path / "run"
        stem = open_dataset(dataset_root).stems("train")[0]
        (out / "random_walker").mkdir(parents=True)
        (out / "random_walker" / f"{stem}.png").write_bytes(b"left by another")
        train(small(dataset_root, "random_walker"), out)
        train(small(dataset_root, "random_walker"), tmp_path / "other")
        assert weights(out) == weights(tmp_path / "other")

    def test_without_scikit_image_no_folder_is_left_behind(
        self, dataset_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "skimage", None)
        monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
        with pytest.raises(ConfigError, match=r"scribbleseg\[walker\]"):
            train(small(dataset_root, "random_walker"), tmp_path / "run")
        assert not (tmp_path / "run").exists()
        train(small(dataset_root, "mean_teacher"), tmp_path / "run")

    def test_bad_scribbles_are_found_before_the_first_walk(self, tmp_path: Path) -> None:
        root = make_dataset(tmp_path / "data", num_images=8)
        (root / "scribbles" / "image_003.png").unlink()
        with pytest.raises(DataError, match=r"scribbles/image_003"):
            train(small(root, "random_walker"), tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_numbers_decide_the_labels(self, dataset_root: Path, tmp_path: Path) -> None:
        shares = []
        for name, least in (("a", 0.0), ("b", 0.9)):
            numbers = {"labels": "random_walker", "random_walker": {"beta": 1.0, "min_probability": least}}
            train(small(dataset_root, "random_walker", data=numbers), tmp_path / name)
            dataset = open_dataset(dataset_root)
            walked = Dataset(dataset.root, dataset.spec, tmp_path / name / "random_walker")
            shares.append(np.mean([(walked.labels(s, "random_walker") == 255).mean() for s in dataset.stems("train")]))
        assert shares[0] == 0 < 0.05 < shares[1]
