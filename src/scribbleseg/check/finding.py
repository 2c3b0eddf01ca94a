"""What a rule has to say: how bad, what, where, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad: training cannot begin or would be ruined; it runs, but its outcome suffers; worth knowing."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Case:
    """One place at which a finding shows.

    Attributes:
        where: a file below the data set's folder, a class or a split.
        got: what is there.
        stem: of the image that shows it, if one does.
    """

    where: str
    got: str = ""
    stem: str | None = None


@dataclass(frozen=True)
class Finding:
    """What one rule found.

    Attributes:
        rule: its function's name.
        severity: how bad it is.
        what: the fault, as words that can follow "Cannot be used: ".
        do: what to do.
        cases: every place, in the order of the data set.
    """

    rule: str
    severity: Severity
    what: str
    do: str
    cases: tuple[Case, ...] = ()


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun: 1 image, 2,000 images."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def percent(share: float) -> str:
    """Return a share as percent; never 0 % for what is not nothing, nor 100 % for what is not all."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    if 0.999 < share < 1:
        return "> 99.9 %"
    return f"{100 * share:.1f} %" if 0 < share < 0.1 or 0.9 < share < 1 else f"{100 * share:.0f} %"


def some(names: Iterable[str], most: int = 5) -> str:
    """Return names in a row, the first few of many."""
    names = list(names)
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
