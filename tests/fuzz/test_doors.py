"""A storm of faulty inputs at every door; a longer one is `python -m benchmarks.fuzz run`."""

from __future__ import annotations

import contextlib

import pytest

from scribbleseg.errors import DataError
from tests.fuzz.doors import DOORS, Door
from tests.fuzz.storm import storm


@pytest.mark.parametrize("name", DOORS)
def test_an_input_is_taken_or_refused_with_one_of_our_errors(name, tmp_path):
    found = storm(DOORS[name], 150, 0, tmp_path)
    assert not found.faults
    assert found.inputs == 150
    assert found.refused


def test_a_fault_is_found_and_told(tmp_path):
    def take(data):
        if b"9" in data:
            raise ZeroDivisionError("nine")
        if len(data) < 3:
            raise DataError("x", "three bytes", str(len(data)), "give more")
        return True

    def opened(_):
        return contextlib.nullcontext(take)

    found = storm(Door(lambda _: [b"1234567"], opened), 1000, 0, tmp_path)
    assert found.taken
    assert {fault["error"] for fault in found.faults} == {"ZeroDivisionError('nine')"}
    assert all("39" in fault["input"] for fault in found.faults)
