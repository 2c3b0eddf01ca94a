"""PASCAL VOC 2012 and ScribbleSup: their folders, as they come, and what is known of their lists."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from scribbleseg.check.facts import Facts
from scribbleseg.check.finding import Case, Finding, Severity, count

#: Classes in VOC's label files, background among them.
NUM_CLASSES = 21

#: Number of lines of the segmentation lists in use: train and val of 2012, both, and train with SBD's masks.
LISTS = {1464: "train", 1449: "val", 2913: "trainval", 10582: "train with SBD's masks (trainaug)"}

IMAGES, MASKS = "JPEGImages", ("SegmentationClassAug", "SegmentationClass")


def advice(root: Path) -> str | None:
    """Say how VOC's folders become a data set, where ``root`` holds them but no ``dataset.yaml``."""
    if not (root / IMAGES).is_dir():
        return None
    masks = next((name for name in MASKS if (root / name).is_dir()), None)
    scribbles = sorted(p.name for p in root.iterdir() if p.is_dir() and "scribble" in p.name.lower())
    lists = sorted(p.relative_to(root).as_posix() for p in (root / "ImageSets" / "Segmentation").glob("*.txt"))
    return (
        f"these are VOC's folders; write a dataset.yaml with `images: {IMAGES}`, `masks: {masks or MASKS[0]}`, "
        f"`scribbles: {scribbles[0] if scribbles else 'the folder of ScribbleSup’s PNG'}`, the 21 names, and `splits` "
        f"({', '.join(lists) or 'lists of stems'}); docs/how-to/voc.md has the whole file"
    )


def voc_lists(facts: Facts) -> Iterator[Finding]:
    """VOC's image folder with other classes, or with lists of other lengths, than the published comparisons have."""
    if PurePosixPath(facts.dataset.spec.images).name != IMAGES:
        return
    if facts.names[0] == "background" and len(facts.names) != NUM_CLASSES:
        what = f"{IMAGES} with {len(facts.names)} classes; VOC's label files have {NUM_CLASSES}"
        do = "name all 21 in VOC's order (docs/how-to/voc.md) unless the label files were changed"
        yield Finding("voc_lists", Severity.NOTE, what, do, (Case("dataset.yaml", "names"),))
    cases = tuple(
        Case(facts.dataset.spec.splits[split], f"{count(len(own.stems), 'stem')} in '{split}'")
        for split, own in facts.lists.items()
        if own.stems and len(own.stems) not in LISTS
    )
    if cases:
        known = ", ".join(f"{number:,} ({name})" for number, name in LISTS.items())
        what = f"{count(len(cases), 'list')} of another length than VOC's: {known}"
        yield Finding("voc_lists", Severity.NOTE, what, "scores can then not be compared with published ones", cases)
