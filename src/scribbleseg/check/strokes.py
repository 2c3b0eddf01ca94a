"""Rules about the strokes themselves: too few classes, rare ones, images that have none, strokes beside the mark."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from scribbleseg.check.facts import Facts, tally
from scribbleseg.check.finding import Case, Finding, Severity, count, percent, some
from scribbleseg.check.scan import Labels, Record
from scribbleseg.check.values import suspicion
from scribbleseg.records import UNLABELLED

#: A class with this many times fewer pixels than the largest is told.
RARE = 40

#: Names of a class 0 that is what remains of an image: every image has some of it, and so should its strokes.
_BACKGROUND = ("background", "back", "bg", "other", "others", "rest", "nothing", "none", "void")

#: An image is told where more than this share of its strokes' pixels, and at least so many, have another class in the mask.
WRONG, FEWEST_WRONG_PX = 0.10, 10

#: A share of images up to which missing background or strokes is nothing unusual.
FEW = 0.10

#: Scribbles that label more than this share of the pixels are no scribbles.
DENSE = 0.50


def too_few_classes(facts: Facts) -> Iterator[Finding]:
    """Training needs labelled pixels of two classes."""
    drawn = tally(facts.of(*facts.training), facts.dataset.spec.unlabelled)
    pixels = drawn.scribble_pixels[: len(facts.names)]
    present = [facts.names[c] for c in np.flatnonzero(pixels)]
    if not drawn.num_scribbles or len(present) > 1 or suspicion(facts) is not None:
        return
    files = count(drawn.num_scribbles, "scribble file")
    what = f"only '{present[0]}' is drawn in {files}" if present else f"nothing is drawn in {files}"
    do = "draw strokes of every class, background too; check that "
    do += f"{facts.dataset.spec.unlabelled} is what your tool writes where nobody drew"
    yield Finding("too_few_classes", Severity.ERROR, what, do, (Case(facts.dataset.spec.scribbles),))


def classes_never_drawn(facts: Facts) -> Iterator[Finding]:
    """Classes without a stroke in the images to train on."""
    pixels = facts.tallies[facts.training[0]].scribble_pixels[: len(facts.names)] if facts.training else np.zeros(0)
    absent = [facts.names[c] for c in np.flatnonzero(pixels == 0)]
    if absent and len(pixels) - len(absent) > 1 and suspicion(facts) is None:
        what = f"{count(len(absent), 'class', 'classes')} never drawn in '{facts.training[0]}': {some(absent)}"
        do = "draw them, or take them out of `names`: the network cannot learn them"
        yield Finding("classes_never_drawn", Severity.WARNING, what, do, tuple(Case(name) for name in absent))


def rare_classes(facts: Facts) -> Iterator[Finding]:
    """Classes with 40 times fewer stroke pixels than the largest."""
    for split in facts.training[:1]:
        pixels = facts.tallies[split].scribble_pixels[: len(facts.names)]
        largest = int(pixels.argmax())
        rare = [int(c) for c in np.argsort(pixels, kind="stable") if 0 < RARE * pixels[c] < pixels[largest]]
        if rare and suspicion(facts) is None:
            cases = tuple(
                Case(facts.names[c], f"{pixels[c]:,} pixels, {pixels[largest] / pixels[c]:,.0f} times fewer") for c in rare
            )
            what = f"{count(len(rare), 'class', 'classes')} with more than {RARE} times fewer stroke pixels than "
            what += f"'{facts.names[largest]}' ({pixels[largest]:,}): {some(case.where for case in cases)}"
            do = "draw more of them: a longer stroke, or more images that show them"
            yield Finding("rare_classes", Severity.WARNING, what, do, cases)


def _drawn(record: Record, unlabelled: int) -> dict[int, int] | None:
    """Return the number of pixels of each class, or None where the scribbles cannot be used."""
    if not isinstance(record.scribbles, Labels):
        return None
    return {value: pixels for value, pixels in record.scribbles.pixels if value not in (UNLABELLED, unlabelled)}


def images_without_background(facts: Facts) -> Iterator[Finding]:
    """Images with strokes but none of the background, where class 0 is called so."""
    if facts.names[0].strip().lower() not in _BACKGROUND or suspicion(facts) is not None:
        return
    drawn = {record.stem: _drawn(record, facts.dataset.spec.unlabelled) for record in facts.of(*facts.training)}
    with_strokes = {stem: pixels for stem, pixels in drawn.items() if pixels}
    cases = tuple(Case(facts.place("scribbles", stem), stem=stem) for stem, pixels in with_strokes.items() if 0 not in pixels)
    if cases and len(cases) < len(with_strokes):
        what = f"{count(len(cases), 'image')} of {len(with_strokes):,} with strokes but none of '{facts.names[0]}'"
        severity = Severity.WARNING if len(cases) > FEW * len(with_strokes) else Severity.NOTE
        do = "draw some background in them, near the objects too: it is what says where an object ends"
        yield Finding("images_without_background", severity, what, do, cases)


def images_without_strokes(facts: Facts) -> Iterator[Finding]:
    """Images to train on in which nothing is drawn."""
    records = list(facts.of(*facts.training))
    cases = tuple(
        Case(facts.place("scribbles", record.stem), stem=record.stem)
        for record in records
        if _drawn(record, facts.dataset.spec.unlabelled) == {}
    )
    if cases and len(cases) < len(records):
        what = f"{count(len(cases), 'image')} of {len(records):,} without any stroke"
        severity = Severity.WARNING if len(cases) > FEW * len(records) else Severity.NOTE
        yield Finding("images_without_strokes", severity, what, "draw in them, or take them off the list", cases)


def dense_scribbles(facts: Facts) -> Iterator[Finding]:
    """Scribbles that fill the image."""
    for split in facts.training[:1]:
        sums = facts.tallies[split]
        if sums.labelled > DENSE and suspicion(facts) is None:
            what = f"the scribbles label {percent(sums.labelled)} of the pixels: these are masks rather than strokes"
            do = "fine if it is meant; else check which folder `scribbles` names. With --labels masks, `masks` is read"
            yield Finding("dense_scribbles", Severity.NOTE, what, do, (Case(facts.dataset.spec.scribbles),))


def strokes_against_masks(facts: Facts) -> Iterator[Finding]:
    """Images whose strokes have another class than the mask below them."""
    if suspicion(facts) is not None:
        return
    wrong = [
        record
        for record in facts.of(*facts.training)
        if record.wrong >= FEWEST_WRONG_PX and record.wrong > WRONG * record.known
    ]
    if wrong:
        wrong.sort(key=lambda record: (-record.wrong / record.known, record.stem))
        cases = tuple(
            Case(
                facts.place("scribbles", r.stem),
                f"{percent(r.wrong / r.known)} of {r.known:,} stroke pixels have another class in the mask",
                r.stem,
            )
            for r in wrong
        )
        what = (
            f"{count(len(wrong), 'image')} with more than {percent(WRONG)} of the strokes' pixels on another class in the mask"
        )
        do = "look at them (--html): draw again, or mend the mask; if it is all of them, compare how both number the classes"
        yield Finding("strokes_against_masks", Severity.WARNING, what, do, cases)
