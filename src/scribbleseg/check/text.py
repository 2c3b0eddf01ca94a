"""A check as text for the terminal and as a tree for JSON: the verdict first, then the numbers, then what to mend."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from scribbleseg import __version__
from scribbleseg.atomic import write_text
from scribbleseg.check.facts import Facts, Tally
from scribbleseg.check.finding import Case, Finding, Severity, percent
from scribbleseg.check.run import Check

#: Places of a finding that the terminal shows; the JSON file has all.
SHOWN = 5

ABSENT = "–"


def told(check: Check) -> str:
    """Return the whole of a check as text."""
    lines = [f"{check.name}: {check.verdict.text}"]
    if check.facts is not None:
        lines += ["", *_table(*splits_table(check.facts))]
        head, rows = classes_table(check.facts)
        lines += ["", *_table(head, rows)] if rows else []
        if check.facts.quick:
            lines += ["", "Images were not decoded (--quick): damage in their pixels and near copies are not seen."]
    for severity in Severity:
        found = [finding for finding in check.findings if finding.severity is severity]
        if found:
            lines += ["", f"{severity}s" if len(found) > 1 else str(severity)]
            lines += [line for number, finding in enumerate(found, 1) for line in _finding(number, finding)]
    return "\n".join(plain(line) for line in lines)


def plain(text: str) -> str:
    """Return text without what would steer a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _finding(number: int, finding: Finding) -> Iterator[str]:
    yield f"  {number}. {finding.what}"
    for case in finding.cases[:SHOWN]:
        yield f"     {case.where}{': ' if case.got else ''}{case.got}"
    if len(finding.cases) > SHOWN:
        yield f"     … and {len(finding.cases) - SHOWN:,} more (--json has all)"
    yield f"     to do: {finding.do}"


def splits_table(facts: Facts) -> tuple[list[str], list[list[str]]]:
    """Return head and rows: a split, its files, and how much of them is labelled."""
    head = ["split", "images", "sizes (width × height)", "scribbles", "labelled", "strokes an image"]
    masks = "masks" in facts.folders
    head += ["masks", "strokes off the mask"] if masks else []
    rows = []
    for split, sums in facts.tallies.items():
        row = [split, f"{sums.num_images:,}", _sizes(facts, split), f"{sums.num_scribbles:,}"]
        drawn = sums.num_scribbles > 0
        row += [percent(sums.labelled) if drawn else ABSENT]
        row += [f"{sums.strokes.sum() / sums.num_scribbles:.1f}" if drawn else ABSENT]
        if masks:
            row += [f"{sums.num_masks:,}", percent(sums.wrong / sums.known) if sums.known else ABSENT]
        rows.append(row)
    return head, rows


def _sizes(facts: Facts, split: str) -> str:
    sizes = sorted({record.size for record in facts.of(split) if record.size is not None}, key=lambda s: (s[0] * s[1], s))
    if not sizes:
        return ABSENT
    words = f"{sizes[0][1]} × {sizes[0][0]}"
    return words if len(sizes) == 1 else f"{words} to {sizes[-1][1]} × {sizes[-1][0]}"


def classes_table(facts: Facts) -> tuple[list[str], list[list[str]]]:
    """Return head and rows: a class, and of each split its share of the labelled pixels and its strokes."""
    sums = {split: own for split, own in facts.tallies.items() if own.num_scribbles}
    head = ["class", *(f"{split}: {what}" for split in sums for what in ("share", "strokes", "images"))]
    rows = [
        [f"{k} {name}", *(cell for own in sums.values() for cell in _class_cells(own, k))] for k, name in enumerate(facts.names)
    ]
    return head, rows if sums else []


def _class_cells(sums: Tally, k: int) -> list[str]:
    labelled = int(sums.scribble_pixels[:255].sum())
    share = percent(int(sums.scribble_pixels[k]) / labelled) if labelled else ABSENT
    return [share, f"{sums.strokes[k]:,}", f"{sums.drawn_in[k]:,}"]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines with the first column to the left and the others to the right; a head may take two lines."""
    heads = [cell.partition(": ")[::2] if ": " in cell else ("", cell) for cell in head]
    lines = [[top for top, _ in heads], [below for _, below in heads], *rows]
    lines = lines if any(top for top, _ in heads) else lines[1:]
    widths = [max(len(line[k]) for line in lines) for k in range(len(head))]

    def written(line: Sequence[str]) -> str:
        first, *others = zip(line, widths, strict=True)
        return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]).rstrip()

    return [written(line) for line in lines]


def tree(check: Check) -> dict[str, Any]:
    """Return a check as plain values. It depends on the files alone: not on the number of processes, the place or the date."""
    found: dict[str, Any] = {
        "scribbleseg": __version__,
        "name": check.name,
        "verdict": {"level": str(check.verdict.level), "text": check.verdict.text},
        "findings": [
            {
                "rule": finding.rule,
                "severity": str(finding.severity),
                "what": finding.what,
                "do": finding.do,
                "num_cases": len(finding.cases),
                "cases": [_case(case) for case in finding.cases],
            }
            for finding in check.findings
        ],
    }
    if check.facts is not None:
        found["quick"] = check.facts.quick
        found["splits"] = {split: _split(sums, check.facts.names) for split, sums in check.facts.tallies.items()}
    return found


def _case(case: Case) -> dict[str, str | None]:
    return {"where": case.where, "got": case.got, "stem": case.stem}


def _split(sums: Tally, names: Sequence[str]) -> dict[str, Any]:
    return {
        "num_images": sums.num_images,
        "num_scribbles": sums.num_scribbles,
        "num_masks": sums.num_masks,
        "labelled_share": sums.labelled,
        "num_strokes": int(sums.strokes.sum()),
        "compared_pixels": sums.known,
        "wrong_pixels": sums.wrong,
        "classes": {
            name: {
                "stroke_pixels": int(sums.scribble_pixels[k]),
                "strokes": int(sums.strokes[k]),
                "drawn_in_images": int(sums.drawn_in[k]),
                "mask_pixels": int(sums.mask_pixels[k]),
            }
            for k, name in enumerate(names)
        },
    }


def write_json(path: Path, check: Check) -> None:
    """Write the tree; the file appears whole or not at all."""
    write_text(path, json.dumps(tree(check), indent=1, ensure_ascii=False) + "\n")
