"""Rules about splits that share what they must not: images, volumes, people."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

import numpy as np

from scribbleseg.check.facts import Facts
from scribbleseg.check.finding import Case, Finding, Severity, count, percent
from scribbleseg.check.scan import LOOK_SIDE

#: Two images whose looks differ in at most this many of 256 bits are told as nearly the same. A copy at two thirds of the size
#: and JPEG quality 60 differs in at most 17, the closest two different images of ACDC, CamVid, CCP and VOC's splits in 37.
ALIKE_BITS = 24

#: Pairs that are compared at most; beyond, near copies are not looked for.
MOST_PAIRS = 20_000_000_000

_SCORES = "scores on the one say little about new images when the other was trained on"

#: Words that stand before a person's or an animal's number in a file name.
_PERSON = re.compile(r"(?i)(?<![a-z])(patient|pat|subject|subj|sub|volunteer|donor|person|animal|mouse|rat)[-_ ]?0*(\d+)")


def role(split: str) -> str:
    """Return what a split is for: subsets of a training split may share what they like."""
    return next((known for known in ("train", "val", "test") if split.lower().startswith(known)), split)


def pairs(facts: Facts) -> Iterator[tuple[str, str]]:
    """Yield the pairs of splits that must not share anything."""
    yield from ((a, b) for a, b in combinations(_in_order(facts), 2) if role(a) != role(b))


def _in_order(facts: Facts) -> list[str]:
    """Return the splits, those to train on first: what they share is told of the others."""
    return sorted(facts.lists, key=lambda split: ("train", "val", "test", role(split)).index(role(split)))


def stems_in_two_splits(facts: Facts) -> Iterator[Finding]:
    """The same stem in two lists."""
    for one, other in pairs(facts):
        there = set(facts.lists[other].stems)
        cases = tuple(
            Case(facts.place("images", s), f"in both {one} and {other}", s) for s in facts.lists[one].stems if s in there
        )
        if cases:
            what = f"{count(len(cases), 'image')} in both '{one}' and '{other}'"
            yield Finding("stems_in_two_splits", Severity.WARNING, what, f"take them off one of the lists: {_SCORES}", cases)


def identical_images(facts: Facts) -> Iterator[Finding]:
    """Files of other names with the same pixels, in two splits or in one."""
    by_digest: dict[bytes, dict[str, str]] = {}
    for split in _in_order(facts):
        for stem in facts.lists[split].stems:
            digest = facts.records[stem].digest
            if digest is not None:
                by_digest.setdefault(digest, {}).setdefault(stem, split)
    across: list[Case] = []
    within: list[Case] = []
    for members in by_digest.values():
        if len(members) > 1:
            (first, split), *others = members.items()
            for stem, where in others:
                case = Case(
                    facts.place("images", stem), f"in {where}; the same as {facts.place('images', first)} in {split}", stem
                )
                (across if role(where) != role(split) else within).append(case)
    if across:
        what = f"{count(len(across), 'image')} identical to one in another split, under another name"
        yield Finding("identical_images", Severity.WARNING, what, f"keep one of each: {_SCORES}", tuple(across))
    if within:
        what = f"{count(len(within), 'image')} identical to another of the same split"
        do = "keep one of each, with the better strokes: copies count twice"
        yield Finding("identical_images", Severity.NOTE, what, do, tuple(within))


def alike_images(facts: Facts) -> Iterator[Finding]:
    """Images of two splits that are nearly the same: scaled or compressed again, or the next frame of a film.

    Cost: each pair of images of two splits is compared, a billion in some seconds; memory stays at some ten megabytes.
    """
    cases = []
    for one, other in pairs(facts):
        left, right = _looks(facts, one), _looks(facts, other)
        if len(left[0]) * len(right[0]) > MOST_PAIRS:
            what = f"near copies between '{one}' and '{other}' were not looked for: there are too many images"
            yield Finding(
                "alike_images", Severity.NOTE, what, "check parts of the lists if it matters", (Case(one), Case(other))
            )
            continue
        for row, column, bits in _near(left[1], right[1]):
            first, second = left[0][row], right[0][column]
            same = facts.records[first].digest == facts.records[second].digest
            if first != second and not same:
                alike = percent(1 - bits / LOOK_SIDE**2)
                got = f"in {other}; looks like {facts.place('images', first)} in {one} ({alike} of the bits)"
                cases.append(Case(facts.place("images", second), got, second))
    if cases:
        what = f"{count(len(cases), 'pair')} of images in two splits that are nearly the same"
        do = f"look at them; keep scenes, films and people within one split: {_SCORES}"
        yield Finding("alike_images", Severity.WARNING, what, do, tuple(cases))


def _looks(facts: Facts, split: str) -> tuple[list[str], np.ndarray]:
    """Return the stems of a split that have a look, and the looks as words of 64 bits (N, 4)."""
    looks = {stem: look for stem in facts.lists[split].stems if (look := facts.records[stem].look) is not None}
    return list(looks), np.frombuffer(b"".join(looks.values()), np.uint64).reshape(-1, LOOK_SIDE**2 // 64)


def _near(left: np.ndarray, right: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Yield row, column and number of bits of every pair that differs in few."""
    step = max(1, (1 << 18) // max(1, len(right)))
    for first in range(0, len(left), step):
        bits = sum(
            np.bitwise_count(left[first : first + step, None, k] ^ right[None, :, k]).astype(np.int16)
            for k in range(left.shape[1])
        )
        for row, column in np.argwhere(np.asarray(bits) <= ALIKE_BITS):
            yield first + int(row), int(column), int(np.asarray(bits)[row, column])


def volumes_in_two_splits(facts: Facts) -> Iterator[Finding]:
    """Slices of one volume in two splits."""
    groups = {split: _grouped(facts.lists[split].stems, facts.dataset.volume_of) for split in facts.lists}
    yield from _shared(facts, groups, "volumes_in_two_splits", "volume")


def people_in_two_splits(facts: Facts) -> Iterator[Finding]:
    """One patient, subject or animal in two splits, as file names tell, though the volumes differ."""

    def person(stem: str) -> str | None:
        match = _PERSON.search(stem)
        return f"{match.group(1).lower()} {match.group(2)}" if match else None

    groups = {split: _grouped(facts.lists[split].stems, person) for split in facts.lists}
    told = {name for finding in volumes_in_two_splits(facts) for case in finding.cases if (name := person(case.stem or ""))}
    groups = {split: {name: own for name, own in names.items() if name not in told} for split, names in groups.items()}
    yield from _shared(facts, groups, "people_in_two_splits", "patient or subject", "patients or subjects")


def _grouped(stems: Sequence[str], name_of: Callable[[str], str | None]) -> dict[str, str]:
    """Return the first stem of each group."""
    found: dict[str, str] = {}
    for stem in stems:
        name = name_of(stem)
        if name is not None:
            found.setdefault(name, stem)
    return found


def _shared(
    facts: Facts, groups: dict[str, dict[str, str]], rule: str, noun: str, plural: str | None = None
) -> Iterator[Finding]:
    for one, other in pairs(facts):
        cases = tuple(
            Case(name, f"{facts.place('images', stem)} in {other}, {facts.place('images', groups[one][name])} in {one}", stem)
            for name, stem in groups[other].items()
            if name in groups[one] and stem != groups[one][name]
        )
        if cases:
            what = f"{count(len(cases), noun, plural)} in both '{one}' and '{other}'"
            yield Finding(rule, Severity.WARNING, what, f"keep all of one within a split: {_SCORES}", cases)


def volume_pattern(facts: Facts) -> Iterator[Finding]:
    """Stems that the pattern `volume` does not match."""
    if facts.dataset.spec.volume is not None:
        stems = [stem for own in facts.lists.values() for stem in own.stems]
        cases = tuple(Case(facts.place("images", s), stem=s) for s in stems if facts.dataset.volume_of(s) is None)
        if cases:
            what = f"{count(len(cases), 'stem')} of {len(stems):,} that the pattern `volume` does not match"
            do = "mend the pattern in dataset.yaml: these slices are left out of the scores by volume"
            yield Finding("volume_pattern", Severity.WARNING, what, do, cases)
