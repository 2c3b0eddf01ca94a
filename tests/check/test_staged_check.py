"""Real data: the verdict on every staged set is true, and each fault planted in a copy of ACDC is found where it was planted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scribbleseg.check.run import Check, check
from scribbleseg.check.verdict import Level
from scribbleseg.data.folder import open_dataset
from scribbleseg.data.images import read_index, read_rgb
from tests.data.test_folder import change
from tests.fake.datasets import write_lines
from tests.test_staged import SHARED

DATA = SHARED / "data"
ACDC = DATA / "acdc-scribble"

pytestmark = [
    pytest.mark.staged,
    pytest.mark.skipif(not DATA.is_dir(), reason="the staged data are not beside this checkout"),
]

#: What is right to say of the staged sets: their level, and the rules that speak.
EXPECTED = {
    "acdc-scribble": (Level.READY, ["identical_images"]),
    "camvid": (Level.READY, []),
    "ccp-people": (Level.READY, []),
    "grabcut20-scribbles": (Level.WILL_TRAIN_BUT, ["no_training_split"]),
    "medscribble": (Level.WILL_TRAIN_BUT, ["no_training_split", "strokes_against_masks"]),
    "voc-animals": (Level.READY, ["images_without_background"]),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_the_verdict_on_a_staged_set(name: str) -> None:
    found = check(DATA / name, jobs=2)
    assert (found.verdict.level, [finding.rule for finding in found.findings]) == EXPECTED[name]


def test_what_is_said_of_medscribble_is_so() -> None:
    found, dataset = check(DATA / "medscribble", jobs=1), open_dataset(DATA / "medscribble")
    told = {case.stem for finding in found.findings if finding.rule == "strokes_against_masks" for case in finding.cases}
    for stem in dataset.stems("all"):
        strokes, mask = dataset.labels(stem, "scribbles"), dataset.labels(stem, "masks")
        known = (strokes != 255) & (mask != 255)
        assert (stem in told) == (np.mean((strokes != mask)[known]) > 0.1)


def test_images_called_identical_are() -> None:
    found = check(ACDC, jobs=2, quick=True)
    cases = found.findings[0].cases
    assert cases
    for case in cases[:5]:
        twin = case.got.split("the same as ")[1].split(" in ")[0]
        assert (read_rgb(ACDC / case.where) == read_rgb(ACDC / twin)).all()


class Copy:
    """Links to some of ACDC's files, and files of its own where something was planted."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for kind in ("images", "scribbles", "labels"):
            (root / kind).mkdir(parents=True)
        (root / "dataset.yaml").write_bytes((ACDC / "dataset.yaml").read_bytes())
        dataset = open_dataset(ACDC)
        self.lists = {
            "train": dataset.stems("train")[:150],
            "val": dataset.stems("val")[:30],
            "test": dataset.stems("test")[:30],
        }
        for split, stems in self.lists.items():
            write_lines(root / f"{split}.txt", list(stems))
            for stem in stems:
                for kind in ("images", "scribbles", "labels"):
                    (root / kind / f"{stem}.png").symlink_to(ACDC / kind / f"{stem}.png")

    def put(self, kind: str, stem: str, content: bytes | np.ndarray) -> None:
        """Put a file in a link's place."""
        path = self.root / kind / f"{stem}.png"
        path.unlink(missing_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            Image.fromarray(content).save(path)

    def add(self, split: str, stem: str, like: str) -> None:
        """Add a copy of an image under another name."""
        for kind in ("images", "scribbles", "labels"):
            (self.root / kind / f"{stem}.png").symlink_to(ACDC / kind / f"{like}.png")
        path = self.root / f"{split}.txt"
        path.write_text(path.read_text() + f"{stem}\n")

    def strokes(self, how: Callable[[np.ndarray], np.ndarray], stems: tuple[str, ...] | None = None) -> None:
        """Change scribbles, of the training images if no others are named."""
        for stem in stems or self.lists["train"]:
            self.put("scribbles", stem, how(read_index(ACDC / "scribbles" / f"{stem}.png")).astype(np.uint8))


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path / "acdc")


def stems_of(found: Check, rule: str) -> set[str | None]:
    cases = {case.stem for finding in found.findings if finding.rule == rule for case in finding.cases}
    assert cases, f"{rule}: nothing found among {[finding.rule for finding in found.findings]}"
    return cases


def test_the_copy_is_clean(copy: Copy) -> None:
    assert check(copy.root, jobs=1).verdict.text == "Ready to train."


def test_faults_of_single_files_are_found_where_they_were_planted(copy: Copy) -> None:
    train, val, test = (copy.lists[split] for split in ("train", "val", "test"))
    whole = (ACDC / "images" / f"{train[3]}.png").read_bytes()
    copy.put("images", train[3], whole[: len(whole) // 2])
    copy.put("images", train[4], b"")
    (copy.root / "images" / f"{train[5]}.png").unlink()
    (copy.root / "scribbles" / f"{train[6]}.png").unlink()
    copy.strokes(lambda a: a[:-1], (train[7],))
    copy.strokes(lambda a: np.where(a == 3, 6, a), (train[8],))
    copy.strokes(lambda a: np.where((a > 0) & (a < 4), 4 - a, a), (train[9],))  # the ventricles change places
    copy.strokes(lambda a: np.where(a == 255, 0, a), (train[10],))
    copy.strokes(lambda a: np.where(a == 0, 255, a), (train[11],))
    copy.strokes(lambda a: np.full_like(a, 255), (train[12],))
    (copy.root / "labels" / f"{val[2]}.png").unlink()
    copy.add("test", "patient999_frame01_slice_00", like=train[20])
    picture = Image.open(ACDC / "images" / f"{train[25]}.png")
    copy.add("test", "patient998_frame01_slice_00", like=train[25])
    small = picture.resize((picture.width * 2 // 3, picture.height * 2 // 3)).resize(picture.size)
    copy.put("images", "patient998_frame01_slice_00", np.asarray(small))
    volume = test[3].rpartition("_slice")[0]
    copy.add("val", f"{volume}_slice_77", like=test[4])
    person = test[-1].partition("_")[0]
    copy.add("val", f"{person}_frame99_slice_00", like=test[-1])
    for split, stem in (("train", val[0]), ("train", train[0])):
        (copy.root / f"{split}.txt").write_text((copy.root / f"{split}.txt").read_text() + f"{stem}\n")
    Image.new("L", (9, 9)).save(copy.root / "scribbles" / "stray.png")

    found = check(copy.root, jobs=2)
    assert found.verdict.level is Level.CANNOT_BE_USED
    assert stems_of(found, "unusable_images") == {train[3], train[4], train[5]}
    assert stems_of(found, "unusable_scribbles") == {train[6], train[7]}
    assert stems_of(found, "unusable_masks") == {val[2]}
    assert stems_of(found, "unknown_ids") == {train[8]}
    assert stems_of(found, "strokes_against_masks") == {train[9]}
    assert stems_of(found, "some_files_without_unlabelled") == {train[10]}
    assert stems_of(found, "images_without_background") == {train[11]}
    assert stems_of(found, "images_without_strokes") == {train[12]}
    assert stems_of(found, "identical_images") >= {"patient999_frame01_slice_00"}
    assert stems_of(found, "alike_images") >= {"patient998_frame01_slice_00"}
    assert stems_of(found, "stems_in_two_splits") == {val[0]}
    assert stems_of(found, "repeated_stems") == {train[0]}
    assert stems_of(found, "leftover_files") == {None}
    places = {(finding.rule, case.where) for finding in found.findings for case in finding.cases}
    assert ("volumes_in_two_splits", volume) in places
    assert ("people_in_two_splits", f"patient {int(person.removeprefix('patient'))}") in places


@pytest.mark.parametrize(
    ("how", "rule"),
    [
        (lambda a: np.where(a == 255, 0, a), "zero_is_not_annotated"),
        (lambda a: np.where(a == 255, 0, a + 1), "zero_is_not_annotated"),
        (lambda a: np.where(a == 255, 255, a + 1), "numbered_from_one"),
        (lambda a: np.where(a == 255, 4, a), "unknown_ids"),
        (lambda a: np.where((a > 0) & (a < 255), 255, 0), "white_is_a_class"),
        (lambda a: np.where(a == 2, 255, a), "classes_never_drawn"),
        (lambda a: np.where(a == 0, 255, np.where(a == 1, 1, 255)), "too_few_classes"),
    ],
)
def test_faults_of_all_files_are_found(how: Callable[[np.ndarray], np.ndarray], rule: str, copy: Copy) -> None:
    copy.strokes(how)
    assert rule in [finding.rule for finding in check(copy.root, jobs=1, quick=True).findings]


def test_a_rare_class_is_found(copy: Copy) -> None:
    copy.strokes(lambda a: np.where(a == 1, 255, a), copy.lists["train"][:145])
    (finding,) = check(copy.root, jobs=1, quick=True).findings
    assert finding.rule == "rare_classes"
    assert "right ventricle" in finding.what


def test_a_value_that_dataset_yaml_names_is_read_as_unlabelled(copy: Copy) -> None:
    for split in copy.lists:
        copy.strokes(lambda a: np.where(a == 255, 4, a), copy.lists[split])
    change(copy.root, unlabelled=4)
    assert check(copy.root, jobs=1, quick=True).findings == ()
