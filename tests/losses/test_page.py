"""The page of the losses knows them all."""

from __future__ import annotations

from pathlib import Path

import pytest

from scribbleseg.losses import LOSSES
from scribbleseg.methods import METHODS

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "losses.md"


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_has_its_line_and_its_section(name):
    text = PAGE.read_text(encoding="utf-8")
    assert f"| [`{name}`](#{name}) |" in text, f"{name} has no line in the table of {PAGE.name}"
    section = text.split(f"\n## {name}\n")
    assert len(section) == 2, f"{name} has no section in {PAGE.name}"
    assert len(section[1].split("\n## ")[0].split()) > 15, f"the section of {name} in {PAGE.name} is empty"


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_its_line(method):
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    assert sum(f"`{method}`" in line.split("|")[1] for line in lines) == 1, f"{method} is not in the methods of {PAGE.name}"
