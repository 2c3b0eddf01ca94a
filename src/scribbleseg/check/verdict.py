"""The answer in a sentence: can this data set be trained on?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from scribbleseg.check.finding import Finding, Severity, count

#: Findings that are named in the sentence; of the others their number.
NAMED = 2


class Level(StrEnum):
    """What the findings come to."""

    READY = "ready"
    WILL_TRAIN_BUT = "will train, but"
    CANNOT_BE_USED = "cannot be used"


@dataclass(frozen=True)
class Verdict:
    """A level and its sentence."""

    level: Level
    text: str


def judge(findings: Sequence[Finding]) -> Verdict:
    """Return the verdict on some findings, the worst of them first; notes leave a data set ready."""
    by = {severity: [f.what for f in findings if f.severity is severity] for severity in Severity}
    errors, warnings, notes = by[Severity.ERROR], by[Severity.WARNING], by[Severity.NOTE]
    if errors:
        return Verdict(Level.CANNOT_BE_USED, f"Cannot be used: {_named(errors, 'error')}.")
    if warnings:
        return Verdict(Level.WILL_TRAIN_BUT, f"Will train, but {_named(warnings, 'warning')}.")
    return Verdict(Level.READY, "Ready to train." + (f" {count(len(notes), 'note')} below." if notes else ""))


def _named(whats: Sequence[str], noun: str) -> str:
    more = len(whats) - NAMED
    return "; ".join(whats[:NAMED]) + (f"; and {count(more, f'more {noun}')}" if more > 0 else "")
