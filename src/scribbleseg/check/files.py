"""Rules about folders and files: missing, double, broken, of another size, very large, left over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from scribbleseg.check.facts import Facts
from scribbleseg.check.finding import Case, Finding, Severity, count, some
from scribbleseg.check.lists import written_as_files
from scribbleseg.check.scan import Fault
from scribbleseg.config import DataConfig
from scribbleseg.data.listing import split_slice

#: An image that is so many training crops long is told.
LARGE = 8

_SINGULAR = {"images": "image", "scribbles": "scribble file", "strokes": "file of strokes", "masks": "mask"}


def unusable_folder(facts: Facts) -> Iterator[Finding]:
    """A folder is missing, is a file, or cannot be listed."""
    for kind, listing in facts.folders.items():
        if listing.fault is not None and not (kind == "scribbles" and _drawn_from_strokes(facts)):
            optional = kind == "masks"
            do = "correct its name in dataset.yaml, or make it readable"
            if optional:
                do += "; or take `masks` out: then there is neither validation nor evaluation"
            severity = Severity.WARNING if optional else Severity.ERROR
            case = Case(str(getattr(facts.dataset.spec, kind)), listing.fault)
            yield Finding("unusable_folder", severity, f"the folder of {kind} cannot be used", do, (case,))


def _drawn_from_strokes(facts: Facts) -> bool:
    """Say whether strokes as lines stand in for label files."""
    return "strokes" in facts.folders and facts.folders["strokes"].fault is None


def unusable_images(facts: Facts) -> Iterator[Finding]:
    """Images that are missing, stand there twice, or do not decode."""
    yield from _unusable(facts, "images")


def unusable_scribbles(facts: Facts) -> Iterator[Finding]:
    """Scribble files that training would stop at; in splits that nobody trains on they may be missing."""
    yield from _unusable(facts, "scribbles")


def unusable_masks(facts: Facts) -> Iterator[Finding]:
    """Masks that validation or evaluation would stop at; images to train on may do without."""
    yield from _unusable(facts, "masks")


def _unusable(facts: Facts, kind: str) -> Iterator[Finding]:
    """Group the faults of one kind of file by what they are and whether training needs the file."""
    if facts.folders.get(kind) is None:
        return
    if facts.folders[kind].fault is not None and not (kind == "scribbles" and _drawn_from_strokes(facts)):
        return
    groups: dict[tuple[Severity, str, str], list[Case]] = {}
    seen: set[tuple[Severity, str]] = set()
    for split in sorted(facts.lists, key=lambda name: (name, kind) not in facts.needed):
        severity = Severity.ERROR if (split, kind) in facts.needed else Severity.WARNING
        skipped = set(written_as_files(facts, split))
        for stem in facts.lists[split].stems:
            record = facts.records[stem]
            fault = record.fault if kind == "images" else getattr(record, kind)
            optional = (kind == "scribbles" and severity is not Severity.ERROR) or (kind == "masks" and split in facts.training)
            no_image = kind != "images" and record.fault is not None and record.fault.kind in ("missing", "crash")
            if not isinstance(fault, Fault) or stem in skipped or no_image or (optional and fault.kind == "missing"):
                continue
            if (Severity.ERROR, stem) not in seen and (severity, stem) not in seen:
                seen.add((severity, stem))
                groups.setdefault((severity, fault.kind, fault.do), []).append(Case(fault.where, fault.got, stem))
    for (severity, trouble, do), cases in groups.items():
        what = f"{count(len(cases), _SINGULAR[kind])} {_words(trouble, len(cases))}"
        yield Finding(f"unusable_{kind}", severity, what, _advice(facts, kind, trouble, do), tuple(cases))


def _words(trouble: str, number: int) -> str:
    one = number == 1
    return {
        "missing": "is missing" if one else "are missing",
        "double": "exists" * one + "exist" * (not one) + " in more than one format",
        "broken": "cannot be read",
        "size": "has another size than its image" if one else "have another size than their images",
        "crash": "brought its reader down" if one else "brought their readers down",
    }[trouble]


def _advice(facts: Facts, kind: str, trouble: str, do: str) -> str:
    if trouble == "double":
        return "keep one file a stem"
    if trouble != "missing":
        return do
    if facts.folders[kind].others:
        others = some(f"{number:,} × {suffix}" for suffix, number in sorted(facts.folders[kind].others.items()))
        return f"the folder holds other files ({others}): are they to be converted? Else add the files, or shorten the list"
    if kind == "images":
        return "add the files, or take their stems off the list"
    return "draw or export them, or take the stems off the list"


def large_images(facts: Facts) -> Iterator[Finding]:
    """Images of which a training crop shows little, where nobody asks for them to be shrunk."""
    crop = DataConfig().crop_px
    sizes = [(record.stem, record.size) for record in facts.of(*facts.training) if record.size is not None]
    cases = tuple(
        Case(facts.place("images", stem), f"{size[1]} × {size[0]}", stem) for stem, size in sizes if max(size) >= LARGE * crop
    )
    if cases:
        what = f"{count(len(cases), 'image')} of {len(sizes):,} at least {LARGE * crop:,} px long, {LARGE} training crops"
        do = "if what you look for can be told at that size, train with --data.longest_px=1024: a crop then shows more of it"
        yield Finding("large_images", Severity.NOTE, what, do, cases)


def leftover_files(facts: Facts) -> Iterator[Finding]:
    """Images in no list, and label files without an image."""
    listed = _with_stacks(stem for own in facts.lists.values() for stem in own.stems)
    images = facts.folders["images"].files
    for kind, listing in facts.folders.items():
        known = listed if kind == "images" else listed | set(images)
        cases = tuple(Case(facts.place(kind, stem)) for stem in listing.files if not _with_stacks((stem,)) & known)
        if cases and kind == "images":
            what = f"{count(len(cases), 'image')} in no list: not used"
            yield Finding("leftover_files", Severity.NOTE, what, "add them to a list if they were forgotten", cases)
        elif cases:
            what = f"{count(len(cases), _SINGULAR[kind])} without an image: not used"
            yield Finding("leftover_files", Severity.NOTE, what, "compare their names with the images'", cases)


def _with_stacks(stems: Iterable[str]) -> set[str]:
    """Return stems, and the stacks that slices among them are of."""
    stems = set(stems)
    return stems | {stack[0] for stem in stems if (stack := split_slice(stem)) is not None}
