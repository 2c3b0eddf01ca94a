"""A check as one self-contained HTML file: the verdict, what to mend, tables, and pictures of images with their strokes."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from scribbleseg import __version__
from scribbleseg.atomic import write_text
from scribbleseg.check.facts import Facts
from scribbleseg.check.finding import Severity, count
from scribbleseg.check.pool import SIDE_BY_SIDE_PIXELS
from scribbleseg.check.run import Check
from scribbleseg.check.scan import Fault, Labels, stored_labels
from scribbleseg.check.text import classes_table, splits_table
from scribbleseg.data.folder import Dataset
from scribbleseg.data.loader import evenly
from scribbleseg.errors import DataError
from scribbleseg.palette import hex_colours
from scribbleseg.records import UNLABELLED
from scribbleseg.report.pictures import coverage, overlay_uri, photo_uri, tile_size

#: Pictures on a sheet: at most so many with a fault, and so many others, evenly chosen over the lists.
NUM_FAULTY, NUM_OTHERS = 24, 12

#: Places of a finding that the sheet lists.
SHOWN = 20

_SIGNS = {Severity.ERROR: "Error", Severity.WARNING: "Warning", Severity.NOTE: "Note"}


@dataclass(frozen=True)
class Picture:
    """An image on the sheet.

    Attributes:
        stem: of the image.
        splits: whose lists it is in.
        says: what was found about it.
        width, height: as shown.
        photo: data URI; None where the image cannot be read.
        layers: caption, text for who cannot see it, and data URI of what is laid over the image, each in a tile of its own.
    """

    stem: str
    splits: str
    says: tuple[str, ...] = ()
    width: int = 0
    height: int = 0
    photo: str | None = None
    layers: tuple[dict[str, str], ...] = field(default_factory=tuple)


def write_sheet(out: Path | str, check: Check) -> Path:
    """Write the sheet of a check and return its path; the file appears whole or not at all."""
    facts = check.facts
    faulty, others = chosen(check)
    says = _said(check)
    disputed = {case.stem for f in check.findings if f.rule == "strokes_against_masks" for case in f.cases}
    page: dict[str, Any] = {
        "name": check.name,
        "verdict": check.verdict,
        "findings": check.findings,
        "counts": [
            count(number, str(severity))
            for severity in Severity
            if (number := sum(finding.severity is severity for finding in check.findings))
        ],
        "signs": _SIGNS,
        "shown": SHOWN,
        "quick": facts is not None and facts.quick,
        "splits": splits_table(facts) if facts else None,
        "classes_of": classes_table(facts) if facts else None,
        "classes": list(zip(facts.names, hex_colours(len(facts.names)), strict=True)) if facts else [],
        "groups": [
            (
                "Images with findings",
                [picture(facts, stem, says.get(stem, ()), mask=stem in disputed) for stem in faulty] if facts else [],
            ),
            ("Other images", [picture(facts, stem) for stem in others] if facts else []),
        ],
        "num_said": len(says),
        "command": shlex.join(["scribbleseg", "check", check.name]),
        "version": __version__,
    }
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("scribbleseg", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    write_text(Path(out), environment.get_template("check.html.j2").render(page))
    return Path(out)


def _said(check: Check) -> dict[str, tuple[str, ...]]:
    """Return, an image, what the findings say of it."""
    says: dict[str, list[str]] = {}
    for finding in check.findings:
        for case in finding.cases:
            if case.stem is not None:
                words = case.got or finding.what
                says.setdefault(case.stem, []).append(f"{_SIGNS[finding.severity]}: {words}")
    return {stem: tuple(dict.fromkeys(words)) for stem, words in says.items()}


def chosen(check: Check) -> tuple[list[str], list[str]]:
    """Return the stems that are shown: of every finding in turn one with a fault, worst findings first; then others, evenly."""
    if check.facts is None:
        return [], []
    columns = [list(dict.fromkeys(c.stem for c in finding.cases if c.stem is not None)) for finding in check.findings]
    rows = range(min(NUM_FAULTY, max(map(len, columns), default=0)))
    turns = (column[k] for k in rows for column in columns if k < len(column) and column[k] in check.facts.records)
    faulty = list(dict.fromkeys(turns))[:NUM_FAULTY]
    rest = [stem for stem in check.facts.records if stem not in _said(check)]
    return faulty, list(evenly(rest, min(NUM_OTHERS, len(rest)))) if rest else []


def picture(facts: Facts, stem: str, says: tuple[str, ...] = (), *, mask: bool = False) -> Picture:
    """Read one image again and return it with its strokes and, if asked, beside that with its mask."""
    splits = ", ".join(split for split, own in facts.lists.items() if stem in own.stems)
    record, dataset = facts.records[stem], facts.dataset
    known = Picture(stem, splits, says)
    if isinstance(record.fault, Fault) or record.size is None or record.size[0] * record.size[1] > SIDE_BY_SIDE_PIXELS:
        return known
    try:
        rgb = dataset.rgb(stem)
        layers = [_layer(dataset, stem, "strokes")] if isinstance(record.scribbles, Labels) else []
        if mask and isinstance(record.masks, Labels):
            layers.append(_layer(dataset, stem, "mask"))
    except (DataError, OSError):  # the file has changed since it was looked at
        return known
    width, height = tile_size(rgb.shape)
    return Picture(stem, splits, says, width, height, photo_uri(rgb[..., :3]), tuple(layers))


def _layer(dataset: Dataset, stem: str, caption: str) -> dict[str, str]:
    """Return labels as what is laid over the image; ids without a name are black."""
    strokes = caption == "strokes"
    labels, _, _ = stored_labels(dataset, "scribbles" if strokes else "masks", stem)
    assert labels is not None  # no size was asked for
    labels = np.where(labels == dataset.spec.unlabelled, np.uint8(UNLABELLED), labels)
    uri = overlay_uri(labels, len(dataset.names), grow_px=int(strokes))
    return {"caption": caption, "alt": f"{caption} of {stem}: {coverage(labels, dataset.names)}", "uri": uri}
