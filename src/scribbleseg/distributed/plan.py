"""The list of all inputs, made once and kept: cut into blocks, each of which one worker does at a time."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from scribbleseg.distributed.inputs import Entry, Listed, fault, stem
from scribbleseg.distributed.ledger import lines
from scribbleseg.distributed.place import Place
from scribbleseg.errors import DataError
from scribbleseg.predict.folder import BLOCK as GROUP

#: Blocks in a part of the plan. A part is what a task reads to find out what is left of it.
BLOCKS = 64


@dataclass(frozen=True)
class Block:
    """Inputs that are done, and noted, together.

    Attributes:
        part: of the plan.
        number: in the part.
        groups: inputs of one folder that may share a batch, as in the plain loop.
    """

    part: int
    number: int
    groups: tuple[tuple[Entry, ...], ...]

    @property
    def entries(self) -> list[Entry]:
        """All inputs in order."""
        return [entry for group in self.groups for entry in group]

    def to_json(self) -> str:
        """Return a line without line break."""
        return json.dumps({"part": self.part, "block": self.number, "groups": self.groups}, ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str) -> Block:
        """Return what ``to_json`` wrote."""
        tree = json.loads(line)
        groups = tuple(tuple(Entry(*entry) for entry in group) for group in tree["groups"])
        return cls(tree["part"], tree["block"], groups)


def groups(entries: Iterable[Entry]) -> Iterator[tuple[Entry, ...]]:
    """Yield the inputs by fours of one folder: those that the plain loop over this folder puts side by side."""
    group: list[Entry] = []
    for entry in entries:
        if group and (len(group) == GROUP or entry.folder != group[0].folder):
            yield tuple(group)
            group = []
        group.append(entry)
    if group:
        yield tuple(group)


def blocks(entries: Iterable[Entry], size: int, first: int = 0) -> Iterator[Block]:
    """Yield blocks of at least ``size`` inputs, the last aside, that break no group; from part ``first`` on."""
    held: list[tuple[Entry, ...]] = []
    number = first * BLOCKS
    for group in groups(entries):
        held.append(group)
        if sum(map(len, held)) >= size:
            yield Block(*divmod(number, BLOCKS), tuple(held))
            held, number = [], number + 1
    if held:
        yield Block(*divmod(number, BLOCKS), tuple(held))


def part_name(part: int) -> str:
    """Return the file of a part of the plan."""
    return f"plan/{part:06d}.jsonl"


class _Sound:
    """Lets through the inputs that can have outputs; keeps what is wrong with the others."""

    def __init__(self, reserved: Iterable[str]) -> None:
        self._reserved, self._source, self._seen = set(reserved), "", set[str]()
        self.failed: list[dict[str, Any]] = []

    def of(self, found: Iterable[Listed]) -> Iterator[Entry]:
        """Yield them in order."""
        for source, entry in found:
            wrong = entry if isinstance(entry, DataError) else fault(entry)
            if wrong is not None:
                self.failed.append(failure(entry.key if isinstance(entry, Entry) else wrong.where, wrong))
            elif isinstance(entry, Entry):
                self._refuse_collision(source, entry)
                yield entry

    def _refuse_collision(self, source: str, entry: Entry) -> None:
        first = entry.key.partition("/")[0]
        if first in self._reserved and "/" in entry.key:
            expected = f"no folder of inputs that is called as one of outputs ({', '.join(sorted(self._reserved))})"
            raise DataError(entry.key, expected, f"'{first}'", "rename it, or name a folder further down as --input")
        if source != self._source:
            self._source, self._seen = source, set()
        name = stem(entry)
        for other in (name, name.rpartition("@")[0]):  # a slice of a stack is called STEM@007
            if other in self._seen:
                do = "rename one: outputs are named after the stem"
                raise DataError(entry.key, "one input a folder and stem", f"two named '{other}'", do)
        self._seen.add(name)


def failure(key: str, error: DataError) -> dict[str, Any]:
    """Return the line of an input that was left out."""
    return {"input": key, "expected": error.expected, "got": error.got, "do": error.do}


def make_plan(
    notes: Place, found: Iterable[Listed], size: int, reserved: Iterable[str], parts: int = 0
) -> tuple[int, int, list[dict[str, Any]]]:
    """Write the plan of what is there, without what can have no outputs; or further parts of it, of what is new.

    Args:
        notes: place of the ledger.
        found: what is there.
        size: inputs a block.
        reserved: folders of the outputs that no input may be in.
        parts: that the plan has already; their inputs are left out.

    Returns:
        number of inputs and of parts that were written, and what is left out already.

    Raises:
        DataError: two inputs whose outputs would have one name.
        StorageError: it cannot be written.

    Cost: memory for the names of a folder, or of a tar or Parquet file. Of a plan that is there already, it is read once, and
    an input takes 16 bytes.
    """
    sound = _Sound(reserved)
    entries = sound.of(found)
    if parts:
        known = _Known(entry.key for part in range(parts) for block in read_part(notes, part) for entry in block.entries)
        entries = (entry for entry in entries if entry.key not in known)
    return *write_plan(notes, entries, size, parts), sound.failed


def write_plan(notes: Place, entries: Iterable[Entry], size: int, first: int = 0) -> tuple[int, int]:
    """Write the plan, part by part from ``first`` on; return the number of inputs and of parts that were written.

    Raises:
        StorageError: it cannot be written.
    """
    inputs, part = 0, first
    for part, some in itertools.groupby(blocks(entries, size, first), key=lambda block: block.part):
        held = list(some)
        notes.write(part_name(part), "".join(f"{block.to_json()}\n" for block in held).encode())
        inputs += sum(len(block.entries) for block in held)
    return inputs, part + 1 - first if inputs else 0


class _Known:
    """A set of very many names, of which it keeps hashes."""

    def __init__(self, names: Iterable[str]) -> None:
        hashes = bytearray()
        for name in names:
            hashes += self._hash(name)
        self._sorted = np.sort(np.frombuffer(hashes, "S16"))

    def __contains__(self, name: str) -> bool:
        wanted = np.bytes_(self._hash(name))
        at = int(np.searchsorted(self._sorted, wanted))
        return at < len(self._sorted) and self._sorted[at] == wanted.rstrip(b"\0")

    @staticmethod
    def _hash(name: str) -> bytes:
        return hashlib.blake2b(name.encode(), digest_size=16).digest()


def read_part(notes: Place, part: int) -> list[Block]:
    """Return the blocks of a part."""
    return [Block.from_json(line) for line in lines(notes.read(part_name(part)))]
