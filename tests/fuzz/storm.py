"""Faulty inputs thrown at a door, and what came of them.

    python -m tests.fuzz.storm DOOR --inputs 10000 --seed 1 --found FOLDER

writes FOLDER/result.json. The input under way lies in FOLDER/last.bin, so that it is there if the process is killed by it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import random
import signal
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from scribbleseg.errors import ScribblesegError
from tests.fuzz.doors import DOORS, Door
from tests.fuzz.mutate import mutated

#: An input that takes longer is a fault.
SECONDS = 20

#: Memory of the process, in bytes: an input that asks for more is a fault.
MEMORY = 12 * 2**30


@dataclass
class Storm:
    """Counts, and the first faults: what was raised, by input.

    Args:
        taken: inputs that were still sound enough.
        refused: those with one of our errors.
        faults: everything else.
    """

    inputs: int = 0
    taken: int = 0
    refused: int = 0
    seconds: float = 0.0
    faults: list[dict[str, Any]] = field(default_factory=list)


def storm(door: Door, inputs: int, seed: int, folder: Path, last: Path | None = None) -> Storm:
    """Throw inputs at a door, the same ones for the same seed; after 20 faults it is enough."""
    rng, found, began = random.Random(seed), Storm(), time.monotonic()
    samples = door.samples(folder)
    with door.opened(folder) as take:
        for sample in samples:
            assert take(sample), "the sample itself is refused"
        while found.inputs < inputs and len(found.faults) < 20:
            data = mutated(rng, samples)
            if last is not None:
                last.write_bytes(data)
            throw(take, data, found)
    found.seconds = time.monotonic() - began
    return found


def throw(take: Callable[[bytes], bool], data: bytes, found: Storm) -> None:
    """Throw one input, and count what becomes of it."""
    found.inputs += 1
    try:
        with at_most(SECONDS), warnings.catch_warnings(action="ignore"):
            taken = take(data)
    except ScribblesegError:
        found.refused += 1
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        at = f"{Path(where.filename).name}:{where.lineno}"
        found.faults.append({"error": repr(error)[:300], "at": at, "input": data.hex()[:4000]})
    else:
        found.taken += taken
        found.refused += not taken


@contextlib.contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Raise TimeoutError in a block that takes longer; only where signals can be had."""

    def late(*_: Any) -> None:
        raise TimeoutError(f"longer than {seconds} s")

    try:
        before = signal.signal(signal.SIGALRM, late)
    except ValueError:  # not the main thread
        yield
        return
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def asked() -> argparse.Namespace:
    """Return what the command line asks for, in a process whose memory is bounded from now on."""
    import resource

    parser = argparse.ArgumentParser()
    parser.add_argument("door", choices=DOORS)
    parser.add_argument("--inputs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--found", type=Path, required=True)
    given = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    logging.disable(logging.CRITICAL)
    given.found.mkdir(parents=True, exist_ok=True)
    return given


def main() -> None:
    """See the module."""
    given = asked()
    with tempfile.TemporaryDirectory() as folder:
        found = storm(DOORS[given.door], given.inputs, given.seed, Path(folder), given.found / "last.bin")
    (given.found / "result.json").write_text(json.dumps(asdict(found)))


if __name__ == "__main__":
    main()
