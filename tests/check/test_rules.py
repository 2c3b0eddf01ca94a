"""Every rule finds the fault that was planted, says where, and says nothing of a clean data set."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from scribbleseg.check.finding import Finding, Severity
from scribbleseg.check.findings import RULES
from scribbleseg.check.run import Check, check
from scribbleseg.check.verdict import Level
from scribbleseg.data.folder import open_dataset
from scribbleseg.data.simulate.run import Simulation, simulate_dataset
from scribbleseg.data.training_labels import check_training_labels
from scribbleseg.errors import DataError
from tests.data.test_folder import change
from tests.fake.datasets import make_dataset, picture_of, write_image, write_lines
from tests.fake.scans import scan_dataset

ERROR, WARNING, NOTE = Severity


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.array(picture)


def redraw(root: Path, how: Callable[[np.ndarray], np.ndarray], kind: str = "scribbles", only: str = "*") -> None:
    """Change label files."""
    for path in sorted((root / kind).glob(f"{only}.png")):
        write_image(path, how(pixels(path)).astype(np.uint8))


def without(root: Path, class_id: int, only: str = "*") -> None:
    """Take the strokes of a class away."""
    redraw(root, lambda a: np.where(a == class_id, 255, a), only=only)


def move(root: Path, stem: str, split: str) -> None:
    """Add a stem to another split's list."""
    path = root / "splits" / f"{split}.txt"
    path.write_text(path.read_text() + f"{stem}\n")


def copy_image(
    root: Path, stem: str, new: str, split: str, change_it: Callable[[Image.Image], Image.Image] | None = None
) -> None:
    """Give an image a second name in some split, changed or not, with the labels of the first."""
    for kind in ("images", "scribbles", "masks"):
        with Image.open(root / kind / f"{stem}.png") as picture:
            picture.load()
        if kind == "images" and change_it is not None:
            picture = change_it(picture)
        picture.save(root / kind / f"{new}.png", compress_level=1)
    move(root, new, split)


def squeeze(picture: Image.Image) -> Image.Image:
    """Return a picture after a visit to a smaller size."""
    small = picture.resize((picture.width * 2 // 3, picture.height * 2 // 3), Image.Resampling.BICUBIC)
    return small.resize(picture.size, Image.Resampling.BICUBIC)


def photographs(root: Path) -> None:
    """Put pictures in place of the images whose light changes from place to place, each in its own way."""
    rng = np.random.default_rng(0)
    for path in sorted((root / "images").iterdir()):
        coarse = Image.fromarray(rng.integers(0, 255, (6, 8, 3), np.uint8))
        coarse.resize((64, 48), Image.Resampling.BICUBIC).save(path)


def rename(root: Path, names: list[str]) -> None:
    """Give all images other stems, in order."""
    for old, new in zip(sorted(p.stem for p in (root / "images").iterdir()), names, strict=True):
        for kind in ("images", "scribbles", "masks"):
            (root / kind / f"{old}.png").rename(root / kind / f"{new}.png")
        for path in (root / "splits").iterdir():
            path.write_text(path.read_text().replace(f"{old}\n", f"{new}\n"))


def as_voc(root: Path) -> None:
    (root / "images").rename(root / "JPEGImages")
    change(root, images="JPEGImages")


def spoil_image(root: Path, stem: str = "image_000") -> None:
    path = root / "images" / f"{stem}.png"
    path.write_bytes(path.read_bytes()[:900])


#: By name: the fault, the rule that finds it, how bad it is, and what must be said.
FAULTS: dict[str, tuple[Callable[[Path], Any], str, Severity, tuple[str, ...]]] = {
    "list is gone": (lambda r: (r / "splits/train.txt").unlink(), "unreadable_list", ERROR, ("'train'", "splits/train.txt")),
    "list is a folder": (
        lambda r: ((r / "splits/test.txt").unlink(), (r / "splits/test.txt").mkdir()),
        "unreadable_list",
        WARNING,
        ("'test'", "directory"),
    ),
    "list is no text": (lambda r: (r / "splits/val.txt").write_bytes(b"\xff\xfe\xfa"), "unreadable_list", ERROR, ("'val'",)),
    "list is empty": (lambda r: write_lines(r / "splits/train.txt", [""]), "empty_list", ERROR, ("'train'",)),
    "list with suffixes": (
        lambda r: write_lines(r / "splits/train.txt", ["image_000.png", "image_001.png"]),
        "lines_are_not_stems",
        ERROR,
        ("2 lines", "image_000.png", "without folder and suffix"),
    ),
    "list of pairs of paths": (
        lambda r: write_lines(r / "splits/train.txt", ["/images/image_000.png /masks/image_000.png"]),
        "lines_are_not_stems",
        ERROR,
        ("1 line", "/images/image_000.png"),
    ),
    "list with marks": (
        lambda r: write_lines(r / "splits/train.txt", ["image_000 1", "image_001 -1"]),
        "lines_are_not_stems",
        ERROR,
        ("2 lines", "image_001 -1"),
    ),
    "list leads outside": (lambda r: move(r, "../secret", "train"), "names_outside", ERROR, ("../secret",)),
    "stem twice": (lambda r: move(r, "image_000", "train"), "repeated_stems", ERROR, ("image_000, 2 times",)),
    "no split train": (
        lambda r: change(r, splits={"all": "splits/train.txt"}),
        "no_training_split",
        WARNING,
        ("--data.train_split=all",),
    ),
    "no split at all": (lambda r: change(r, splits={}), "no_training_split", ERROR, ("no split",)),
    "image folder is gone": (lambda r: shutil.rmtree(r / "images"), "unusable_folder", ERROR, ("images", "no such folder")),
    "scribble folder is a file": (
        lambda r: (shutil.rmtree(r / "scribbles"), (r / "scribbles").write_text("")),
        "unusable_folder",
        ERROR,
        ("scribbles", "a file, not a folder"),
    ),
    "mask folder is gone": (lambda r: shutil.rmtree(r / "masks"), "unusable_folder", WARNING, ("masks", "validation")),
    "image is missing": (
        lambda r: (r / "images/image_001.png").unlink(),
        "unusable_images",
        ERROR,
        ("1 image is missing", "images/image_001"),
    ),
    "image is a folder": (
        lambda r: ((r / "images/image_001.png").unlink(), (r / "images/image_001.png").mkdir()),
        "unusable_images",
        ERROR,
        ("image_001.png is a folder",),
    ),
    "image is a dead link": (
        lambda r: ((r / "images/image_001.png").unlink(), (r / "images/image_001.png").symlink_to("nowhere.png")),
        "unusable_images",
        ERROR,
        ("leads nowhere",),
    ),
    "image is there twice": (
        lambda r: write_image(r / "images/image_001.jpg", np.zeros((48, 64, 3), np.uint8)),
        "unusable_images",
        ERROR,
        ("more than one format", "image_001.png, image_001.jpg"),
    ),
    "image is cut short": (spoil_image, "unusable_images", ERROR, ("1 image cannot be read", "images/image_000.png")),
    "test image is cut short": (
        lambda r: spoil_image(r, "image_003"),
        "unusable_images",
        WARNING,
        ("1 image cannot be read", "images/image_003.png"),
    ),
    "scribbles are missing": (
        lambda r: (r / "scribbles/image_000.png").unlink(),
        "unusable_scribbles",
        ERROR,
        ("1 scribble file is missing", "scribbles/image_000"),
    ),
    "scribbles are XML": (
        lambda r: [p.rename(p.with_suffix(".xml")) for p in (r / "scribbles").iterdir()],
        "unusable_scribbles",
        ERROR,
        ("2 scribble files are missing", "4 × .xml", "converted"),
    ),
    "scribbles in colours": (
        lambda r: write_image(r / "scribbles/image_000.png", np.zeros((48, 64, 3), np.uint8)),
        "unusable_scribbles",
        ERROR,
        ("mode RGB", "not colours"),
    ),
    "scribbles of another size": (
        lambda r: redraw(r, lambda a: a[:40], only="image_000"),
        "unusable_scribbles",
        ERROR,
        ("another size", "64 × 40 pixels, its image 64 × 48"),
    ),
    "scribbles turned": (
        lambda r: redraw(r, np.rot90, only="image_000"),
        "unusable_scribbles",
        ERROR,
        ("48 × 64 pixels, its image 64 × 48", "90°"),
    ),
    "validation mask is missing": (
        lambda r: (r / "masks/image_002.png").unlink(),
        "unusable_masks",
        ERROR,
        ("1 mask is missing", "masks/image_002"),
    ),
    "test mask is missing": (
        lambda r: (r / "masks/image_003.png").unlink(),
        "unusable_masks",
        WARNING,
        ("1 mask is missing", "masks/image_003"),
    ),
    "an image in no list": (
        lambda r: write_image(r / "images/new.png", np.zeros((9, 9), np.uint8)),
        "leftover_files",
        NOTE,
        ("1 image in no list", "images/new.png"),
    ),
    "an image that is far larger than a crop": (
        lambda r: [
            write_image(r / kind / "image_000.png", np.zeros((16, 1792), np.uint8)) for kind in ("images", "scribbles", "masks")
        ],
        "large_images",
        NOTE,
        ("1 image of ", "images/image_000.png", "1792 × 16", "--data.longest_px=1024"),
    ),
    "scribbles without image": (
        lambda r: write_image(r / "scribbles/imag_000.png", np.zeros((9, 9), np.uint8)),
        "leftover_files",
        NOTE,
        ("1 scribble file without an image", "scribbles/imag_000.png"),
    ),
    "0 where nobody drew": (
        lambda r: redraw(r, lambda a: np.where(a == 255, 0, a)),
        "zero_is_not_annotated",
        ERROR,
        ("0 fills 9", "'not annotated'", "--labels masks", "the masks say another class"),
    ),
    "0 where nobody drew, classes from 1": (
        lambda r: redraw(r, lambda a: np.where(a == 255, 0, a + 1)),
        "zero_is_not_annotated",
        ERROR,
        ("numbered from 1", "np.where(labels == 0, 255, labels - 1)"),
    ),
    "classes from 1": (
        lambda r: redraw(r, lambda a: np.where(a == 255, 255, a + 1)),
        "numbered_from_one",
        ERROR,
        ("from 1 to 3", "from 0 to 2", "subtract 1"),
    ),
    "black and white scribbles": (
        lambda r: redraw(r, lambda a: np.where(a == 1, 255, 0)),
        "white_is_a_class",
        ERROR,
        ("0 and 255 alone", "'leaf'"),
    ),
    "black and white masks": (
        lambda r: (redraw(r, lambda a: np.where(a > 0, 255, 0), "masks"), move(r, "image_003", "val")),
        "white_is_a_class",
        WARNING,
        ("masks of 'val'", "0 and 255 alone"),
    ),
    "an id without name": (
        lambda r: redraw(r, lambda a: np.where(a == 2, 9, a), only="image_000"),
        "unknown_ids",
        ERROR,
        ("1 scribble file", "id 9, which has no name", "scribbles/image_000.png", "`names`"),
    ),
    "WSL4MIS's value for not annotated": (
        lambda r: redraw(r, lambda a: np.where(a == 255, 4, a)),
        "unknown_ids",
        ERROR,
        ("2 scribble files", "id 4", "`unlabelled: 4`"),
    ),
    "a mask's id without name": (
        lambda r: redraw(r, lambda a: np.where(a == 2, 9, a), "masks", "image_003"),
        "unknown_ids",
        WARNING,
        ("1 mask ", "id 9"),
    ),
    "one class only": (
        lambda r: redraw(r, lambda a: np.where(a == 1, 1, 255)),
        "too_few_classes",
        ERROR,
        ("only 'leaf' is drawn in 2 scribble files",),
    ),
    "nothing drawn": (
        lambda r: redraw(r, lambda a: np.full_like(a, 255)),
        "too_few_classes",
        ERROR,
        ("nothing is drawn in 2 scribble files",),
    ),
    "image in two splits": (
        lambda r: move(r, "image_000", "test"),
        "stems_in_two_splits",
        WARNING,
        ("both 'train' and 'test'", "images/image_000.png"),
    ),
    "copy in another split": (
        lambda r: copy_image(r, "image_000", "copy", "test"),
        "identical_images",
        WARNING,
        ("1 image identical", "images/copy.png", "images/image_000.png in train"),
    ),
    "copy in the same split": (
        lambda r: copy_image(r, "image_000", "copy", "train"),
        "identical_images",
        NOTE,
        ("same split", "images/copy.png"),
    ),
    "near copy in another split": (
        lambda r: (photographs(r), copy_image(r, "image_000", "near", "test", squeeze)),
        "alike_images",
        WARNING,
        ("1 pair", "images/near.png", "looks like images/image_000.png in train"),
    ),
    "volume in two splits": (
        lambda r: (
            rename(r, ["p1_0", "p2_0", "p3_0", "p1_1"]),
            change(r, volume=r"(p\d+)_"),
        ),
        "volumes_in_two_splits",
        WARNING,
        ("1 volume in both 'train' and 'test'", "p1:", "images/p1_1.png in test", "images/p1_0.png in train"),
    ),
    "patient in two splits": (
        lambda r: (
            rename(r, ["patient01_a_0", "patient02_a_0", "patient03_a_0", "Patient1_b_0"]),
            change(r, volume=r"([Pp]atient\d+_.)_"),
        ),
        "people_in_two_splits",
        WARNING,
        ("1 patient or subject in both 'train' and 'test'", "patient 1:"),
    ),
    "volume pattern that matches some": (
        lambda r: change(r, volume=r"(image_00[012])"),
        "volume_pattern",
        WARNING,
        ("1 stem of 4", "images/image_003.png"),
    ),
    "one file from another tool": (
        lambda r: redraw(r, lambda a: np.where(a == 255, 0, a), only="image_001"),
        "some_files_without_unlabelled",
        WARNING,
        ("1 scribble file", "scribbles/image_001.png", "another tool"),
    ),
    "two values for unlabelled": (
        lambda r: (redraw(r, lambda a: np.where(a == 255, 4, a), only="image_000"), change(r, unlabelled=4)),
        "two_values_for_unlabelled",
        WARNING,
        ("hold 4", "and 255"),
    ),
    "unlabelled value that is nowhere": (
        lambda r: change(r, unlabelled=4),
        "two_values_for_unlabelled",
        NOTE,
        ("no scribble holds 4",),
    ),
    "strokes of the wrong class": (
        lambda r: redraw(r, lambda a: np.where(a == 1, 2, a), only="image_001"),
        "strokes_against_masks",
        WARNING,
        ("1 image with more than", "scribbles/image_001.png", "another class in the mask"),
    ),
    "a class never drawn": (
        lambda r: without(r, 2),
        "classes_never_drawn",
        WARNING,
        ("1 class never drawn", "stone"),
    ),
    "an image without background": (
        lambda r: without(r, 0, "image_000"),
        "images_without_background",
        WARNING,
        ("1 image of 2", "'background'", "scribbles/image_000.png"),
    ),
    "an image without strokes": (
        lambda r: redraw(r, lambda a: np.full_like(a, 255), only="image_001"),
        "images_without_strokes",
        WARNING,
        ("1 image of 2 without any stroke", "scribbles/image_001.png"),
    ),
    "a rare class": (
        lambda r: redraw(
            r,
            lambda a: np.where(
                (a == 2) & (np.cumsum(a == 2).reshape(a.shape) > 1), 255, np.where(np.arange(48)[:, None] < 9, 0, a)
            ),
        ),
        "rare_classes",
        WARNING,
        ("1 class with more than 40 times fewer", "stone", "2 pixels"),
    ),
    "masks for scribbles": (
        lambda r: change(r, scribbles="masks"),
        "dense_scribbles",
        NOTE,
        ("label 100 % of the pixels",),
    ),
    "VOC's folder with other lists": (as_voc, "voc_lists", NOTE, ("10,582", "2 stems in 'train'")),
}


def found_by(found: Check, rule: str) -> list[Finding]:
    return [finding for finding in found.findings if finding.rule == rule]


def words_of(finding: Finding) -> str:
    cases = [f"{case.where}: {case.got}" for case in finding.cases]
    return "\n".join([finding.what, finding.do, *cases])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four images with scribbles and masks: two to train on, one to validate, one to test."""
    return make_dataset(tmp_path / "data")


@pytest.mark.parametrize(
    "sort", [{}, {"with_masks": False}, {"suffix": ".jpg"}, {"unlabelled": 7}, {"num_volumes": 8, "num_images": 8}]
)
def test_nothing_is_found_in_a_clean_data_set(tmp_path: Path, sort: dict[str, Any]) -> None:
    found = check(make_dataset(tmp_path / "data", **sort), jobs=1)
    assert found.findings == ()
    assert found.verdict.level is Level.READY
    assert found.verdict.text == "Ready to train."


@pytest.mark.parametrize("quick", [False, True])
def test_nothing_is_found_in_slices_of_stacks(tmp_path: Path, quick: bool) -> None:
    root = scan_dataset(tmp_path / "data")
    found = check(root, jobs=1, quick=quick)
    assert found.findings == ()
    (root / "masks" / "scan1.nii.gz").unlink()
    cases = [case for f in check(root, jobs=1, quick=quick).findings for case in f.cases]
    assert {case.where for case in cases} == {f"masks/scan1@{n:03d}" for n in range(4)}


def test_strokes_as_lines_stand_in_for_label_files(tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    root = make_dataset(tmp_path / "data")
    made = simulate_dataset(root, Simulation("points"), out=tmp_path / "made")
    shutil.rmtree(made / "scribbles")
    assert check(made, jobs=1).findings == ()
    (made / "strokes" / "image_000.json").write_text("{")
    (made / "strokes" / "image_001.json").unlink()
    found = {case.where.partition(".")[0] for f in check(made, jobs=1).findings for case in f.cases}
    assert found == {"strokes/image_000", "scribbles/image_001"}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_and_said(fault: str, root: Path) -> None:
    plant, rule, severity, words = FAULTS[fault]
    plant(root)
    found = check(root, jobs=1)
    matching = [f for f in found_by(found, rule) if f.severity is severity]
    assert len(matching) >= 1, [f.what for f in found.findings]
    text = "\n".join(map(words_of, matching))
    for word in words:
        assert word in text
    assert all(finding.what and finding.do and finding.cases for finding in found.findings)
    assert str(root) not in text, "places are told below the data set's folder"
    level = {ERROR: Level.CANNOT_BE_USED, WARNING: Level.WILL_TRAIN_BUT, NOTE: Level.READY}
    worst = found.findings[0].severity
    assert found.verdict.level is level[worst]


def test_every_rule_has_a_planted_fault_and_a_line_in_the_docs() -> None:
    assert {rule for _, rule, _, _ in FAULTS.values()} == {rule.__name__ for rule in RULES}
    page = (Path(__file__).parents[2] / "docs/reference/check.md").read_text(encoding="utf-8")
    assert [rule.__name__ for rule in RULES if f"`{rule.__name__}`" not in page] == []


#: Faults that `train` begins with though the check calls them errors: the first ruins it, the second stops it later.
_TRAINS = {"0 where nobody drew", "image is cut short"}


@pytest.mark.parametrize("fault", [name for name, (_, _, severity, _) in FAULTS.items() if severity is ERROR])
def test_what_is_called_unusable_is_what_training_refuses(fault: str, root: Path) -> None:
    FAULTS[fault][0](root)

    def read_as_training_does() -> None:
        dataset = open_dataset(root)
        check_training_labels(dataset, dataset.stems("train"), "scribbles")
        for stem in dataset.stems("val"):
            dataset.labels(stem, "masks")

    if fault in _TRAINS:
        read_as_training_does()
    else:
        with pytest.raises(DataError):
            read_as_training_does()


def test_a_cause_is_told_without_what_follows_from_it(root: Path) -> None:
    FAULTS["0 where nobody drew, classes from 1"][0](root)
    assert [f.rule for f in check(root, jobs=1).findings] == ["zero_is_not_annotated"]


def test_a_list_of_files_is_one_finding_not_one_an_image(root: Path) -> None:
    FAULTS["list with suffixes"][0](root)
    found = check(root, jobs=1)
    assert not found_by(found, "unusable_images")


def test_scribbles_outside_training_may_be_missing(root: Path) -> None:
    for stem in ("image_002", "image_003"):
        (root / "scribbles" / f"{stem}.png").unlink()
    assert check(root, jobs=1).findings == ()


def test_masks_of_training_images_may_be_missing(root: Path) -> None:
    for stem in ("image_000", "image_001"):
        (root / "masks" / f"{stem}.png").unlink()
    assert check(root, jobs=1).findings == ()


def test_an_image_without_background_is_no_fault_where_no_class_is_called_so(root: Path) -> None:
    change(root, names={0: "sky", 1: "leaf", 2: "stone"})
    without(root, 0, "image_000")
    assert check(root, jobs=1).findings == ()


def test_a_few_empty_images_of_many_are_a_note(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", num_images=24)
    redraw(root, lambda a: np.full_like(a, 255), only="image_001")
    (finding,) = check(root, jobs=1).findings
    assert (finding.rule, finding.severity) == ("images_without_strokes", NOTE)
    assert check(root, jobs=1).verdict.text == "Ready to train. 1 note below."


def test_dense_labels_with_0_in_less_than_half_are_masks_not_a_mix_up(root: Path) -> None:
    change(root, scribbles="masks")
    assert not found_by(check(root, jobs=1), "zero_is_not_annotated")


def test_subsets_of_a_training_split_may_share_images(root: Path) -> None:
    write_lines(root / "splits/train_small.txt", ["image_000"])
    tree = yaml.safe_load((root / "dataset.yaml").read_text())
    change(root, splits=tree["splits"] | {"train_small": "splits/train_small.txt"})
    assert check(root, jobs=1).findings == ()


def test_pictures_without_contrast_are_not_called_alike(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", num_images=8)
    for n, path in enumerate(sorted((root / "images").iterdir())):
        write_image(path, np.full((48, 64, 3), 100 + n, np.uint8))
    assert check(root, jobs=1).findings == ()


def test_other_pictures_of_the_same_kind_are_not_called_alike(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", num_images=40, seed=3)
    mask = pixels(root / "masks/image_000.png")
    for n, path in enumerate(sorted((root / "images").iterdir())):  # the same scene in other noise
        write_image(path, picture_of(mask, 3, np.random.default_rng(n)))
    assert not found_by(check(root, jobs=1), "alike_images")


def test_a_comparison_that_is_left_out_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scribbleseg.check.leaks.MOST_PAIRS", 1)
    FAULTS["near copy in another split"][0](root)
    told = found_by(check(root, jobs=1), "alike_images")
    assert [(finding.severity, "not looked for" in finding.what) for finding in told] == [(NOTE, True)] * 3


def test_voc_folders_without_a_yaml_are_recognised(tmp_path: Path) -> None:
    for name in ("JPEGImages", "SegmentationClassAug", "scribbles_png", "ImageSets/Segmentation"):
        (tmp_path / "VOC2012" / name).mkdir(parents=True)
    write_lines(tmp_path / "VOC2012/ImageSets/Segmentation/train_aug.txt", ["2007_000032"])
    (finding,) = check(tmp_path / "VOC2012", jobs=1).findings
    for word in ("images: JPEGImages", "masks: SegmentationClassAug", "scribbles: scribbles_png", "train_aug.txt", "voc.md"):
        assert word in finding.do


def test_voc_with_its_own_lists_is_fine(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_voc(root)
    monkeypatch.setattr("scribbleseg.check.voc.LISTS", {2: "train", 1: "val"})
    found = check(root, jobs=1)
    assert [finding.what for finding in found.findings] == ["JPEGImages with 3 classes; VOC's label files have 21"]
