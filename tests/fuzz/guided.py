"""Inputs that atheris (libFuzzer) makes, guided by which lines of ours, of PyYAML and of tifffile they reach; and what came of them.

    python -m tests.fuzz.guided DOOR --inputs 10000 --seed 1 --found FOLDER

writes FOLDER/result.json, as the storm does, and how many inputs reached something new. Needs ``pip install atheris``.
The input under way lies in FOLDER/last.bin.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["scribbleseg", "yaml", "tifffile"], enable_loader_override=False):
    from tests.fuzz.doors import DOORS
    from tests.fuzz.mutate import mutated
    from tests.fuzz.storm import Storm, asked, throw


def main() -> None:
    """See the module."""
    given = asked()
    corpus = given.found / "corpus"
    corpus.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=given.found))
    samples = DOORS[given.door].samples(folder)
    for n, sample in enumerate(samples):
        (corpus / f"sample-{n}").write_bytes(sample)
    stack = contextlib.ExitStack()  # held until the end, or the door would be closed when it is collected
    take = stack.enter_context(DOORS[given.door].opened(folder))
    found, began, rng = Storm(), time.monotonic(), random.Random(given.seed)

    def one(data: bytes) -> None:
        (given.found / "last.bin").write_bytes(data)
        throw(take, data, found)
        found.seconds = time.monotonic() - began
        if found.inputs >= given.inputs or len(found.faults) >= 20:
            new = len(list(corpus.iterdir())) - len(samples)
            (given.found / "result.json").write_text(json.dumps(asdict(found) | {"new": new}))
            os._exit(0)  # libFuzzer takes any other end for a crash

    def mutator(data: bytes, max_size: int, seed: int) -> bytes:
        """Half of the inputs are broken as the storm breaks them: by their structure."""
        return mutated(rng, [data])[:max_size] if seed % 2 and data else atheris.Mutate(data, max_size)

    most = 2 * max(map(len, samples))
    options = [f"-seed={given.seed}", f"-max_len={most}", "-rss_limit_mb=0", "-timeout=0", "-verbosity=0"]
    options += [f"-artifact_prefix={given.found}/", str(corpus)]
    atheris.Setup([sys.argv[0], *options], one, custom_mutator=mutator)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
