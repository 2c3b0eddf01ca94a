from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from scribbleseg.config import ModelConfig
from scribbleseg.data.folder import open_dataset
from scribbleseg.data.images import Image, read_index, write_png
from scribbleseg.errors import DataError, ScribblesegError
from scribbleseg.evaluate import evaluate, score
from scribbleseg.metrics import counts
from scribbleseg.metrics.image import BORDER_PX, Prediction
from scribbleseg.models.folder import TrainedModel, save_model
from scribbleseg.models.segmenter import Segmenter
from scribbleseg.scores import read_scores, summary, write_scores
from tests.fake.datasets import make_dataset, write_lines

SIZE = (20, 30)


def masks_data(root: Path, masks: dict[str, np.ndarray], **kind: object) -> Path:
    """A data set whose test split holds these masks."""
    make_dataset(root, num_images=1, size=SIZE, **kind)
    for stem, mask in masks.items():
        write_png(root / "masks" / f"{stem}.png", mask)
    write_lines(root / "splits" / "test.txt", list(masks))
    return root


def predictions(folder: Path, masks: dict[str, np.ndarray]) -> Path:
    for stem, mask in masks.items():
        write_png(folder / f"{stem}.png", mask)
    return folder


def area(c: int, num_pixels: int, elsewhere: int = 0) -> np.ndarray:
    """A map with the first pixels of class c."""
    labels = np.full(SIZE, elsewhere, np.uint8)
    labels.ravel()[:num_pixels] = c
    return labels


class TestScores:
    def test_the_masks_themselves_score_1(self, dataset_root):
        tree = summary(evaluate(dataset_root / "masks", dataset_root, split="train"))
        for key in ("miou", "mean_dice", "foreground_dice", "pixel_accuracy", "border_miou"):
            assert tree[key] == 1.0
        assert tree["num_images"] == 2
        assert tree["num_pixels"] == 2 * 48 * 64
        assert all(image["miou"] == image["pixel_accuracy"] == 1.0 for image in tree["per_image"])

    def test_pixels_are_pooled_not_averaged_over_images(self, tmp_path):
        # Image a: class 1 has 100 pixels, all found. Image b: 2 pixels, both missed. Pooled IoU 100/102, mean of images 1/2.
        root = masks_data(tmp_path / "data", {"a": area(1, 100), "b": area(1, 2)}, num_classes=2)
        found = predictions(tmp_path / "out", {"a": area(1, 100), "b": area(1, 0)})
        tree = summary(evaluate(found, root))
        assert tree["classes"]["leaf"]["iou"] == pytest.approx(100 / 102)
        assert tree["classes"]["leaf"]["dice"] == pytest.approx(200 / 202)
        pooled = (100 / 102 + 1098 / 1100) / 2
        of_images = (1.0 + (0 + 598 / 600) / 2) / 2
        assert tree["miou"] == pytest.approx(pooled)
        assert np.mean([image["miou"] for image in tree["per_image"]]) == pytest.approx(of_images)
        assert abs(pooled - of_images) > 0.2

    def test_confusion_rows_are_the_truth(self, tmp_path):
        root = masks_data(tmp_path / "data", {"a": area(1, 10)}, num_classes=2)
        scores = evaluate(predictions(tmp_path / "out", {"a": area(1, 4)}), root)
        assert scores.confusion.tolist() == [[590, 0], [6, 4]]
        assert summary(scores)["confusion"] == [[590, 0], [6, 4]]
        leaf = summary(scores)["classes"]["leaf"]
        assert (leaf["pixels"], leaf["precision"], leaf["recall"]) == (10, 1.0, 0.4)

    def test_unlabelled_pixels_of_the_mask_are_left_out(self, tmp_path):
        mask = area(1, 300)
        mask[-1] = 255
        root = masks_data(tmp_path / "data", {"a": mask}, num_classes=2)
        wrong_there = area(1, 300)
        wrong_there[-1] = 1
        scores = evaluate(predictions(tmp_path / "out", {"a": wrong_there}), root)
        assert counts.pixel_accuracy(scores.confusion) == 1.0
        assert int(scores.confusion.sum()) == 600 - 30

    def test_border_scores_see_the_border_alone(self, tmp_path):
        mask = np.zeros(SIZE, np.uint8)
        mask[:, 15:] = 1
        wrong_far = mask.copy()
        wrong_far[:, 0] = 1  # 15 pixels away from the border
        wrong_near = mask.copy()
        wrong_near[:, 14] = 1
        root = masks_data(tmp_path / "data", {"a": mask}, num_classes=2)
        far = summary(evaluate(predictions(tmp_path / "far", {"a": wrong_far}), root))
        near = summary(evaluate(predictions(tmp_path / "near", {"a": wrong_near}), root))
        assert far["border_miou"] == 1.0
        assert far["miou"] == pytest.approx(near["miou"])
        # 20 rows, BORDER_PX columns of each class, one of class 0 lost to class 1
        assert near["border_miou"] == pytest.approx(((BORDER_PX - 1) / BORDER_PX + BORDER_PX / (BORDER_PX + 1)) / 2)
        assert near["border_px"] == BORDER_PX

    def test_absent_class_is_null_and_not_in_the_mean(self, tmp_path):
        root = masks_data(tmp_path / "data", {"a": area(1, 10)}, num_classes=3)
        tree = summary(evaluate(root / "masks", root))
        undefined = ("iou", "dice", "precision", "recall", "border_iou", "boundary_iou", "hd95", "assd")
        counted = {"pixels": 0, "cases": 0, "missed": 0, "iou_interval": [None, None]}
        assert tree["classes"]["stone"] == counted | dict.fromkeys(undefined)
        assert tree["miou"] == 1.0

    def test_progress_is_told(self, dataset_root):
        told = []
        evaluate(dataset_root / "masks", dataset_root, split="train", progress=lambda *p: told.append(p))
        assert told == [(1, 2), (2, 2)]


class TestVolumes:
    def test_volume_dice_is_the_dice_of_the_stacked_slices(self, tmp_path):
        root = make_dataset(tmp_path / "data", num_images=8, size=SIZE, num_volumes=2)
        stems = sorted(p.stem for p in (root / "masks").iterdir())
        write_lines(root / "splits" / "test.txt", stems)
        rng = np.random.default_rng(0)
        truth = {s: read_index(root / "masks" / f"{s}.png") for s in stems}
        found = {
            s: np.where(rng.random(SIZE) < 0.1 * (1 + n), rng.integers(0, 3, SIZE), truth[s]).astype(np.uint8)
            for n, s in enumerate(stems)
        }
        tree = summary(evaluate(predictions(tmp_path / "out", found), root))
        expected = {}
        for volume in ("volume00", "volume01"):
            t, p = (np.stack([m[s] for s in stems if s.startswith(volume)]) for m in (truth, found))
            expected[volume] = [2 * ((t == c) & (p == c)).sum() / ((t == c).sum() + (p == c).sum()) for c in range(3)]
        assert [v["volume"] for v in tree["per_volume"]] == ["volume00", "volume01"]
        for v in tree["per_volume"]:
            assert [v[name] for name in ("background", "leaf", "stone")] == pytest.approx(expected[v["volume"]])
        by_class = np.mean(list(expected.values()), 0)
        assert tree["volume_dice"]["num_volumes"] == 2
        assert [tree["volume_dice"]["classes"][n] for n in ("background", "leaf", "stone")] == pytest.approx(by_class.tolist())
        assert tree["volume_dice"]["foreground"] == pytest.approx(by_class[1:].mean())
        assert tree["volume_dice"]["foreground"] != pytest.approx(tree["foreground_dice"], abs=1e-4), "not the pooled Dice"

    def test_a_class_that_one_volume_lacks(self, tmp_path):
        root = masks_data(
            tmp_path / "data", {"volume00_0": area(1, 50), "volume01_0": area(0, 0)}, num_classes=2, num_volumes=1
        )
        tree = summary(evaluate(predictions(tmp_path / "out", {"volume00_0": area(1, 50), "volume01_0": area(0, 0)}), root))
        assert tree["per_volume"][1]["leaf"] is None
        assert tree["volume_dice"]["classes"]["leaf"] == 1.0

    def test_no_volumes_no_volume_scores(self, dataset_root):
        tree = summary(evaluate(dataset_root / "masks", dataset_root))
        assert "volume_dice" not in tree
        assert "per_volume" not in tree


class TestErrors:
    def out(self, dataset_root: Path, tmp_path: Path) -> Path:
        return Path(shutil.copytree(dataset_root / "masks", tmp_path / "out"))

    def test_missing_prediction(self, dataset_root, tmp_path):
        out = self.out(dataset_root, tmp_path)
        (out / "image_001.png").unlink()
        with pytest.raises(DataError, match=r"image_001\n(.|\n)*no such file"):
            evaluate(out, dataset_root, split="train")

    def test_wrong_size(self, dataset_root, tmp_path):
        out = self.out(dataset_root, tmp_path)
        write_png(out / "image_001.png", np.zeros((64, 48), np.uint8))
        with pytest.raises(DataError, match=r"a prediction of \(48, 64\), as the mask(.|\n)*\(64, 48\)") as error:
            evaluate(out, dataset_root, split="train")
        assert "image_001" in str(error.value)

    @pytest.mark.parametrize("strange", [3, 255])
    def test_id_that_is_too_large(self, dataset_root, tmp_path, strange):
        out = self.out(dataset_root, tmp_path)
        mask = np.zeros((48, 64), np.uint8)
        mask[4, 4] = strange
        write_png(out / "image_001.png", mask)
        with pytest.raises(DataError, match=rf"class ids below 3, every pixel decided(.|\n)*id {strange}"):
            evaluate(out, dataset_root, split="train")

    def test_no_such_folder(self, dataset_root, tmp_path):
        with pytest.raises(DataError, match="a model folder, or a folder of masks"):
            evaluate(tmp_path / "nowhere", dataset_root)

    def test_no_masks(self, tmp_path):
        root = make_dataset(tmp_path / "data", with_masks=False)
        with pytest.raises(DataError, match="a folder of dense `masks` to compare with"):
            evaluate(tmp_path, root)

    def test_one_mask_missing(self, dataset_root, tmp_path):
        out = self.out(dataset_root, tmp_path)
        (dataset_root / "masks" / "image_000.png").unlink()
        with pytest.raises(DataError, match="a label file in masks for every stem"):
            evaluate(out, dataset_root, split="train")

    def test_unknown_split(self, dataset_root):
        with pytest.raises(DataError, match="did you mean 'test'"):
            evaluate(dataset_root / "masks", dataset_root, split="tst")


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


class TestFile:
    def test_strict_json_with_the_documented_keys(self, tmp_path):
        root = masks_data(tmp_path / "data", {"a": area(1, 10), "b": np.full(SIZE, 255, np.uint8)}, num_classes=3)
        found = predictions(tmp_path / "out", {"a": area(1, 8), "b": area(0, 0)})
        path = tmp_path / "new" / "scores.json"
        scores = evaluate(found, root)
        write_scores(path, scores, source="out", data="data", split="test")
        tree = json.loads(path.read_text(), parse_constant=refuse)
        assert tree == read_scores(path)
        assert {"source", "data", "split", "provenance"} <= set(tree)
        assert {
            "num_images",
            "num_pixels",
            "miou",
            "mean_dice",
            "foreground_dice",
            "pixel_accuracy",
            "border_miou",
            "border_px",
        } <= set(tree)
        assert {"classes", "confusion", "per_image"} <= set(tree)
        assert (tree["source"], tree["data"], tree["split"]) == ("out", "data", "test")
        assert tree["per_image"][1] == {"stem": "b", "miou": None, "pixel_accuracy": None, "hd95": None}
        assert {key: tree[key] for key in summary(scores)} == summary(scores)

    def test_provenance_names_versions_but_nobody(self, tmp_path, dataset_root):
        path = tmp_path / "scores.json"
        write_scores(path, evaluate(dataset_root / "masks", dataset_root), source="a", data="b", split="test")
        told = read_scores(path)["provenance"]
        assert told["packages"]["torch"]
        assert str(Path.home()) not in json.dumps(told)
        assert str(tmp_path) not in path.read_text()

    @pytest.mark.parametrize("content", [None, "{", "[]", "{}", '{"miou": 1}'])
    def test_not_such_a_file(self, tmp_path, content):
        path = tmp_path / "scores.json"
        if content is not None:
            path.write_text(content)
        with pytest.raises(ScribblesegError, match="the JSON file of `scribbleseg evaluate`"):
            read_scores(path)


def test_a_function_can_predict(dataset_root):
    dataset = open_dataset(dataset_root)
    scores = score(dataset, dataset.stems("test"), lambda stem: Prediction(np.zeros((48, 64), np.uint8)))
    assert scores.confusion[:, 1:].sum() == 0
    assert len(scores.per_image) == 1


def test_a_large_picture_is_predicted_by_bands_with_the_same_result(tmp_path, monkeypatch):
    root = make_dataset(tmp_path / "data", num_images=3, size=(90, 70))
    torch.manual_seed(0)
    settings = {
        "backbone": {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8] * 4, "depths": [1] * 4},
        "channels": 8,
    }
    segmenter = Segmenter(ModelConfig.model_validate(settings), 3).eval()
    save_model(tmp_path / "model", TrainedModel(segmenter, open_dataset(root).names, 64))
    whole = evaluate(tmp_path / "model", root, split="train")
    bands = []
    reads = Image.pixels
    monkeypatch.setattr(
        Image, "pixels", lambda self, window=None, index=None: bands.append(window) or reads(self, window, index)
    )
    for module in ("evaluate", "predict.bands"):
        monkeypatch.setattr(f"scribbleseg.{module}.LARGE_PIXELS", 500)
    large = evaluate(tmp_path / "model", root, split="train")
    assert large.confusion.tolist() == whole.confusion.tolist()
    assert whole.reliability is not None
    assert large.reliability is None
    assert [w.height for w in bands if w is not None] == [64, 64] * len(large.per_image)
