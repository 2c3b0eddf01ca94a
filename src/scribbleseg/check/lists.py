"""Rules about the lists of the splits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from scribbleseg.check.facts import Facts
from scribbleseg.check.finding import Case, Finding, Severity, count, some
from scribbleseg.data.images import IMAGE_SUFFIXES


def severity_of(facts: Facts, split: str) -> Severity:
    """Return how bad it is that a split's list cannot be used."""
    needed = any(split == name for name, _ in facts.needed)
    return Severity.ERROR if needed else Severity.WARNING


def unreadable_list(facts: Facts) -> Iterator[Finding]:
    """A list is missing, is a folder, or is not text."""
    for split, own in facts.lists.items():
        if own.fault is not None:
            case = Case(facts.dataset.spec.splits[split], own.fault.got)
            what = f"the list of the split '{split}' cannot be read"
            yield Finding("unreadable_list", severity_of(facts, split), what, "write one stem a line, as UTF-8", (case,))


def empty_list(facts: Facts) -> Iterator[Finding]:
    """A list without a line."""
    for split, own in facts.lists.items():
        if own.fault is None and not own.stems and not own.outside:
            case = Case(facts.dataset.spec.splits[split])
            what = f"the list of the split '{split}' is empty"
            yield Finding("empty_list", severity_of(facts, split), what, "write one stem a line, or drop the split", (case,))


def written_as_files(facts: Facts, split: str) -> tuple[str, ...]:
    """Return the lines of a list that name a file, or more than one thing, where a stem is wanted."""
    own, files = facts.lists[split], facts.folders["images"].files

    def strange(line: str) -> bool:
        words = line.split()
        return Path(words[-1]).suffix.lower() in IMAGE_SUFFIXES or (len(words) > 1 and Path(words[0]).stem in files)

    def missing(stem: str) -> bool:
        fault = facts.records[stem].fault
        return fault is not None and fault.kind == "missing"

    return tuple(line for line in (*own.outside, *(s for s in own.stems if missing(s))) if strange(line))


def lines_are_not_stems(facts: Facts) -> Iterator[Finding]:
    """A list holds paths, names with suffix, or two columns, as lists of other programs do."""
    for split in facts.lists:
        lines = written_as_files(facts, split)
        if lines:
            path = facts.dataset.spec.splits[split]
            what = f"the list of the split '{split}' has {count(len(lines), 'line')} that are no plain stems"
            do = "keep the file name without folder and suffix, one a line; docs/how-to/voc.md has a command for it"
            yield Finding("lines_are_not_stems", severity_of(facts, split), what, do, tuple(Case(path, line) for line in lines))


def names_outside(facts: Facts) -> Iterator[Finding]:
    """A list names files outside the image folder."""
    for split, own in facts.lists.items():
        told = set(written_as_files(facts, split))
        cases = tuple(Case(facts.dataset.spec.splits[split], line) for line in own.outside if line not in told)
        if cases:
            what = f"the list of the split '{split}' names {count(len(cases), 'file')} outside the image folder"
            yield Finding("names_outside", severity_of(facts, split), what, "write stems inside the image folder", cases)


def repeated_stems(facts: Facts) -> Iterator[Finding]:
    """A stem stands twice in a list."""
    for split, own in facts.lists.items():
        if own.repeated:
            path = facts.dataset.spec.splits[split]
            cases = tuple(Case(path, f"{stem}, {number} times", stem) for stem, number in own.repeated)
            what = f"{count(len(cases), 'stem')} more than once in the list of the split '{split}'"
            yield Finding("repeated_stems", severity_of(facts, split), what, "keep one line of each", cases)


def no_training_split(facts: Facts) -> Iterator[Finding]:
    """No split is called train."""
    if "train" not in facts.lists:
        names = list(facts.lists)
        what = f"no split is called 'train' (there is {some(names)})" if names else "there is no split"
        do = f"train with --data.train_split={facts.training[0]}" if names else "list images under `splits` in dataset.yaml"
        severity = Severity.WARNING if names else Severity.ERROR
        yield Finding("no_training_split", severity, what, do, (Case("dataset.yaml", "splits"),))
