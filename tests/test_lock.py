"""The lock file holds what pyproject.toml asks for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ASKED = [*PROJECT["dependencies"], *(line for extra in PROJECT["optional-dependencies"].values() for line in extra)]


def name_of(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked() -> dict[str, list[tuple[str, int]]]:
    """Return version and number of hashes of each package; some have several versions, for several systems."""
    found: dict[str, list[tuple[str, int]]] = {}
    for block in re.split(r"\n(?=\S)", LOCK.read_text(encoding="utf-8")):
        line = re.match(r"([\w.-]+)(?:\[[\w,-]+\])?==([^\s;\\]+)", block)
        if line:
            found.setdefault(name_of(line[1]), []).append((line[2], block.count("--hash=sha256:")))
    return found


@pytest.mark.parametrize("line", sorted({line for line in ASKED if not line.startswith("scribbleseg[")}))
def test_a_package_that_is_asked_for_is_locked_in_a_version_that_fits(line):
    wanted = Requirement(line)
    versions = locked().get(name_of(wanted.name), [])
    assert any(wanted.specifier.contains(version) for version, _ in versions), f"{versions}: run `make lock`"


def test_every_package_has_hashes():
    assert len(locked()) > 100
    assert not [name for name, versions in locked().items() if not all(hashes for _, hashes in versions)]
