"""The check of a data set, from its folder to a verdict, a JSON file and an HTML sheet."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from scribbleseg.check import voc
from scribbleseg.check.facts import Facts, list_folders, read_lists
from scribbleseg.check.finding import Case, Finding, Severity
from scribbleseg.check.findings import find
from scribbleseg.check.pool import default_jobs, scan_all
from scribbleseg.check.verdict import Level, Verdict, judge
from scribbleseg.data.folder import Dataset, open_dataset
from scribbleseg.errors import DataError


@dataclass(frozen=True)
class Check:
    """What came out.

    Attributes:
        name: of the data set, or of its folder where ``dataset.yaml`` cannot be read.
        findings: the worst first.
        verdict: what they come to.
        facts: what they were found in; None where ``dataset.yaml`` cannot be read.
    """

    name: str
    findings: tuple[Finding, ...]
    verdict: Verdict
    facts: Facts | None = None

    @property
    def usable(self) -> bool:
        """Whether training can begin."""
        return self.verdict.level is not Level.CANNOT_BE_USED


def check(data: Path | str, *, jobs: int | None = None, quick: bool = False, progress: bool = False) -> Check:
    """Look at every file of a data set and say what is wrong with it. Nothing is changed; no fault of a file is raised.

    Args:
        data: data set folder.
        jobs: processes, all cores if None; 1 stays in this one. The outcome does not depend on it.
        quick: do not decode images: their headers, sizes and bytes, and all label files, are still read. What is then not
            seen: pixels that do not decode, copies under another compression, images that are nearly the same.
        progress: show a bar where standard error is a terminal.

    Cost: decoding; docs/reference/check.md has the measured rate. Memory: about a kilobyte an image beside what
    each process needs for one image.
    """
    root = Path(data)
    try:
        dataset = open_dataset(root)
    except DataError as error:
        told = (_unreadable(root, error),)
        return Check(root.resolve().name, told, judge(told))
    facts = look(dataset, jobs=jobs or default_jobs(), quick=quick, progress=progress)
    findings = find(facts)
    return Check(dataset.spec.name, findings, judge(findings), facts)


def look(dataset: Dataset, *, jobs: int, quick: bool, progress: bool) -> Facts:
    """Read every list, folder and file."""
    lists = read_lists(dataset)
    stems = list(dict.fromkeys(stem for own in lists.values() for stem in own.stems))
    folders = list_folders(dataset)
    with contextlib.closing(scan_all(dataset, stems, jobs=jobs, quick=quick)) as scan:
        bar = tqdm(scan, desc="check", total=len(stems), unit=" images", leave=False, disable=None if progress else True)
        sizes: dict[object, Any] = {}
        # One text a stem and one tuple a size, whoever names them: a record as it arrives has its own.
        records = {
            stem: replace(record, stem=stem, size=sizes.setdefault(record.size, record.size))
            for stem, record in zip(stems, bar, strict=True)
        }
    return Facts(dataset, lists, folders, records, quick)


def _unreadable(root: Path, error: DataError) -> Finding:
    """Return the one finding where ``dataset.yaml``, or the shards that it names, cannot be read."""
    path = Path(error.where.split(": ")[0])
    where = root.name if path == root else path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
    what = f"{where}{error.where.removeprefix(str(path))}: expected {error.expected}, got {error.got}"
    do = error.do
    with contextlib.suppress(OSError):
        do = (voc.advice(root) or do) if "no dataset.yaml" in error.got else do
    return Finding("dataset_yaml", Severity.ERROR, " ".join(what.split()), do, (Case(where),))
