"""Every rule, in one visible tuple; a new one is a function and a line here."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from scribbleseg.check import files, leaks, lists, strokes, values, voc
from scribbleseg.check.facts import Facts
from scribbleseg.check.finding import Finding, Severity

Rule = Callable[[Facts], Iterable[Finding]]

#: Findings of one severity come in this order: the cause before what follows from it.
RULES: tuple[Rule, ...] = (
    lists.unreadable_list,
    lists.empty_list,
    lists.lines_are_not_stems,
    lists.names_outside,
    lists.repeated_stems,
    lists.no_training_split,
    files.unusable_folder,
    values.zero_is_not_annotated,
    values.numbered_from_one,
    values.white_is_a_class,
    values.unknown_ids,
    strokes.too_few_classes,
    files.unusable_images,
    files.unusable_scribbles,
    files.unusable_masks,
    leaks.stems_in_two_splits,
    leaks.identical_images,
    leaks.volumes_in_two_splits,
    leaks.people_in_two_splits,
    leaks.alike_images,
    leaks.volume_pattern,
    values.some_files_without_unlabelled,
    values.two_values_for_unlabelled,
    strokes.strokes_against_masks,
    strokes.classes_never_drawn,
    strokes.images_without_background,
    strokes.images_without_strokes,
    strokes.rare_classes,
    strokes.dense_scribbles,
    files.large_images,
    files.leftover_files,
    voc.voc_lists,
)


def find(facts: Facts) -> tuple[Finding, ...]:
    """Return what all rules have to say, the worst first."""
    found = [finding for rule in RULES for finding in rule(facts)]
    return tuple(sorted(found, key=lambda finding: list(Severity).index(finding.severity)))
