"""Rules about the values in label files: what 0 and 255 mean, numbering from 1, ids without a name."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from scribbleseg.check.facts import Facts
from scribbleseg.check.finding import Case, Finding, Severity, count, percent, some
from scribbleseg.check.scan import Labels
from scribbleseg.records import UNLABELLED

_FROM_ONE = "labels = np.where(labels == 0, 255, labels - 1).astype(np.uint8)"


def values_in_use(facts: Facts) -> np.ndarray:
    """Return the number of pixels by value, as stored, in the scribbles that training reads."""
    found = np.zeros(256, np.int64)
    for record in facts.of(*facts.training):
        if isinstance(record.scribbles, Labels):
            for value, pixels in record.scribbles.pixels:
                found[value] += pixels
    return found


def suspicion(facts: Facts) -> str | None:
    """Return which mix-up the values of the training scribbles speak for, if any.

    Returns:
        ``zero``: 0 is where nobody drew. ``from_one``: classes are numbered from 1. ``white``: 255 is a class.
    """
    values = values_in_use(facts)
    used = {int(v) for v in np.flatnonzero(values)}
    unlabelled = {UNLABELLED, facts.dataset.spec.unlabelled}
    ids = used - unlabelled - {0}
    if ids and not used & unlabelled and 2 * values[0] > values.sum():
        return "zero"
    if 0 not in used and len(facts.names) in ids and max(ids) == len(facts.names):
        return "from_one"
    if used == {0, UNLABELLED} and facts.dataset.spec.unlabelled == UNLABELLED:
        return "white"
    return None


def zero_is_not_annotated(facts: Facts) -> Iterator[Finding]:
    """0 in most pixels and no pixel unlabelled: the mistake that trains without complaint and learns background alone."""
    if suspicion(facts) != "zero":
        return
    values, unlabelled = values_in_use(facts), facts.dataset.spec.unlabelled
    what = f"0 fills {percent(values[0] / values.sum())} of the scribbles and no pixel has {unlabelled}, the value for "
    what += f"'not annotated': in ilastik, napari and QuPath that is 0; here it would be taken for '{facts.names[0]}'"
    if values[len(facts.names)]:
        do = f"numbered from 1, as it seems: {_FROM_ONE}"
    else:
        do = f"write 255 where nobody drew (if classes count from 1: {_FROM_ONE}); "
        do += "if these are dense masks, name their folder in `masks` and train with --labels masks"
    drawn = facts.tallies[facts.training[0]]
    evidence = f"values {some(str(v) for v in np.flatnonzero(values))}"
    if drawn.known:
        evidence += f"; the masks say another class for {percent(drawn.wrong / drawn.known)} of these pixels"
    yield Finding("zero_is_not_annotated", Severity.ERROR, what, do, (Case(facts.dataset.spec.scribbles, evidence),))


def numbered_from_one(facts: Facts) -> Iterator[Finding]:
    """Classes 1 to C in the files where dataset.yaml has 0 to C − 1."""
    if suspicion(facts) == "from_one":
        number = len(facts.names)
        what = f"the scribbles' classes are numbered from 1 to {number}, those of dataset.yaml from 0 to {number - 1}"
        do = "subtract 1 from every class, not from 255 (ilastik and napari number from 1), or name class 0 in dataset.yaml"
        used = some((str(v) for v in np.flatnonzero(values_in_use(facts))), 12)
        yield Finding("numbered_from_one", Severity.ERROR, what, do, (Case(facts.dataset.spec.scribbles, f"values {used}"),))


def white_is_a_class(facts: Facts) -> Iterator[Finding]:
    """Black and white label files: 255, meant for an object, is read as not annotated."""
    do = "write the object as 1; 255 only where nobody drew or the truth is unknown"
    if suspicion(facts) == "white":
        what = f"the scribbles hold 0 and 255 alone: 255 seems to stand for '{facts.names[1]}' but means 'not annotated'"
        yield Finding("white_is_a_class", Severity.ERROR, what, do, (Case(facts.dataset.spec.scribbles, "values 0, 255"),))
    for split, sums in facts.tallies.items():
        used = set(np.flatnonzero(sums.mask_pixels).tolist())
        if used == {0, UNLABELLED} and sums.num_masks > 1:
            what = f"the masks of '{split}' hold 0 and 255 alone: 255 seems to stand for '{facts.names[1]}' but means 'unknown'"
            case = Case(str(facts.dataset.spec.masks), f"values 0, 255 in {count(sums.num_masks, 'mask')} of '{split}'")
            yield Finding("white_is_a_class", Severity.WARNING, what, do, (case,))


def some_files_without_unlabelled(facts: Facts) -> Iterator[Finding]:
    """Single files of the zero kind among others that are right: strokes from two tools."""
    if suspicion(facts) == "zero":
        return
    unlabelled, cases = {UNLABELLED, facts.dataset.spec.unlabelled}, []
    for record in facts.of(*facts.training):
        if isinstance(record.scribbles, Labels):
            values = dict(record.scribbles.pixels)
            total = sum(values.values())
            if not unlabelled & set(values) and 2 * values.get(0, 0) > total:
                got = f"0 in {percent(values[0] / total)} of the pixels"
                cases.append(Case(facts.place("scribbles", record.stem), got, record.stem))
    if cases:
        what = f"{count(len(cases), 'scribble file')} without an unlabelled pixel and with 0 in most, unlike the others"
        do = "look whether 0 means 'not annotated' in them (another tool?), and write 255 there"
        yield Finding("some_files_without_unlabelled", Severity.WARNING, what, do, tuple(cases))


def two_values_for_unlabelled(facts: Facts) -> Iterator[Finding]:
    """255 beside another value that dataset.yaml calls unlabelled: both are read as not annotated."""
    values, unlabelled = values_in_use(facts), facts.dataset.spec.unlabelled
    if unlabelled != UNLABELLED and values[UNLABELLED]:
        what = f"the scribbles hold {unlabelled}, which dataset.yaml calls unlabelled, and 255: both are read as such"
        if not values[unlabelled]:
            what = f"no scribble holds {unlabelled}, which dataset.yaml calls unlabelled, but 255, which always is"
        do = "make sure that 255 is no class, and correct `unlabelled` in dataset.yaml"
        case = Case(facts.dataset.spec.scribbles, f"{count(int(values[UNLABELLED]), 'pixel')} of 255")
        severity = Severity.WARNING if values[unlabelled] else Severity.NOTE
        yield Finding("two_values_for_unlabelled", severity, what, do, (case,))


def unknown_ids(facts: Facts) -> Iterator[Finding]:
    """Ids that dataset.yaml does not name."""
    known = {*range(len(facts.names)), UNLABELLED, facts.dataset.spec.unlabelled}
    explained = {len(facts.names)} if suspicion(facts) in ("zero", "from_one") else set()
    for kind, noun, plural in (("scribbles", "scribble file", "scribble files"), ("masks", "mask", "masks")):
        for needed in (True, False):
            splits = [split for split in facts.lists if ((split, kind) in facts.needed) is needed]
            cases, pixels = [], np.zeros(256, np.int64)
            for record in facts.of(*splits):
                labels = getattr(record, kind)
                if isinstance(labels, Labels):
                    strange = [(v, n) for v, n in labels.pixels if v not in known and v not in explained]
                    for value, number in labels.pixels:
                        pixels[value] += number
                    if strange:
                        ids = f"id {some(str(v) for v, _ in strange)}, which has no name"
                        cases.append(Case(facts.place(kind, record.stem), ids, record.stem))
            if cases:
                what = f"{count(len(cases), noun, plural)} with ids that are not in `names`"
                severity = Severity.ERROR if needed else Severity.WARNING
                yield Finding("unknown_ids", severity, what, _do_about(pixels, known), tuple(cases))


def _do_about(pixels: np.ndarray, known: set[int]) -> str:
    most = int(pixels.argmax())
    if most not in known:
        share = percent(pixels[most] / pixels.sum())
        return f"{most} fills {share} of these files: if it means 'not annotated', write `unlabelled: {most}` in dataset.yaml"
    return "add the class to `names` in dataset.yaml, or mend the files"
