"""What is done, in a folder of small files: each is written once, whole, by whoever did a block.

::

    NOTES/head.json              model, options, input, number of inputs: written when the plan is whole
    NOTES/plan/000012.jsonl      the inputs, a line a block
    NOTES/done/000012/07.jsonl   a line for every input of the block that is done
    NOTES/failed/000012/07.jsonl a line for every input that was left out, with the reason
    NOTES/begun/000012/…         blocks that somebody is at, or was at when it died

A block counts as done when its file in ``done`` is there. Doing one twice does no harm: names and bytes are the same.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from scribbleseg.distributed.place import Place
from scribbleseg.errors import ConfigError, DataError
from scribbleseg.trees import differences_told, from_json

HEAD = "head.json"

#: Folder in which files wait for their names.
WRITING = "writing"

#: Files of inputs that could not even be listed.
UNLISTED = "failed/listing.jsonl"

VERSION = 1

#: Attempts at a block that end with the worker's death before its inputs are done, and noted, a few at a time.
DEATHS = 2

#: Attempts at a single input that end so before it is left out.
DEATHS_ALONE = 3


#: Files that are read at a time.
AT_ONCE = 16

#: Lines of what was done and of what was left out.
Result = tuple[list[dict[str, Any]], list[dict[str, Any]]]


def lines(contents: bytes) -> list[str]:
    """Return the lines that a file has; names may have other line breaks in them."""
    return [line for line in contents.decode("utf-8").split("\n") if line]


def to_lines(trees: Iterable[dict[str, Any]]) -> bytes:
    """Return JSON, a line a tree."""
    return "".join(json.dumps(tree, ensure_ascii=False) + "\n" for tree in trees).encode()


def read_head(notes: Place, about: dict[str, Any]) -> dict[str, Any] | None:
    """Return the head of a run that was begun, or None.

    Raises:
        ConfigError: it is of another model, or other options.
        DataError: it cannot be read.
    """
    try:
        tree = from_json(notes.read(HEAD))
        if not isinstance(tree, dict) or not all(isinstance(tree.get(key), int) for key in ("parts", "inputs")):
            raise ValueError("no object, or one that says no parts and inputs")
    except FileNotFoundError:
        return None
    except ValueError as error:
        got = " ".join(str(error).split())[:200]
        raise DataError(f"{notes}/{HEAD}", "the head that `scribbleseg` wrote", got, "choose another --out") from None
    if got := differences_told(tree, about):
        do = "choose another --out, or give --overwrite to do all of it anew"
        raise ConfigError(notes, "work of this model and input with these options", got, do)
    return tree


def write_head(notes: Place, head: dict[str, Any]) -> None:
    """Write the head of a run whose plan is whole."""
    notes.write(HEAD, (json.dumps(head, ensure_ascii=False, indent=1) + "\n").encode())


class Ledger:
    """The files of one block."""

    def __init__(self, notes: Place, part: int, number: int) -> None:
        self._notes, self._number = notes, f"{number:02d}"
        self._name = f"{part:06d}/{self._number}"
        self._begun = f"begun/{part:06d}"
        self._marks: list[str] = []

    def begin(self) -> bool:
        """Note that somebody begins; say whether so many have died over it that it is to be done with care."""
        self._marks = [name for name in self._notes.names(self._begun) if name.startswith(f"{self._number}.")]
        before = self.tries("block")
        self.mark("block")
        return before >= DEATHS

    def tries(self, what: str) -> int:
        """Return how often something of the block was begun before, by one that died over it."""
        return sum(name.startswith(f"{self._number}.{what}.try-") for name in self._marks)

    def mark(self, what: str) -> None:
        """Note that something of the block is begun."""
        self._write(f"{self._number}.{what}.try-{uuid.uuid4().hex[:12]}", b"")

    def note(self, what: str, result: Result) -> None:
        """Note what came of something of the block, before all of it is done."""
        self._write(f"{self._number}.{what}.end", json.dumps(result, ensure_ascii=False).encode())

    def noted(self, what: str) -> Result | None:
        """Return what came of something of the block in an earlier attempt, if this was noted."""
        name = f"{self._number}.{what}.end"
        if name not in self._marks:
            return None
        done, failed = json.loads(self._notes.read(f"{self._begun}/{name}"))
        return done, failed

    def _write(self, name: str, contents: bytes) -> None:
        self._notes.write(f"{self._begun}/{name}", contents)
        self._marks.append(name)

    def end(self, done: list[dict[str, Any]], failed: list[dict[str, Any]]) -> None:
        """Note what was done and what was left out: from now on the block is done."""
        place = f"failed/{self._name}.jsonl"
        if failed:
            self._notes.write(place, to_lines(failed))
        else:
            self._notes.delete(place)  # of an earlier attempt
        self._notes.write(f"done/{self._name}.jsonl", to_lines(done))
        for name in self._marks:
            self._notes.delete(f"{self._begun}/{name}")


def done_blocks(notes: Place, part: int) -> tuple[set[int], list[dict[str, Any]]]:
    """Return which blocks of a part are done, and what was left out of them."""
    done = {int(name.partition(".")[0]) for name in notes.names(f"done/{part:06d}")}
    failed = [name for name in notes.names(f"failed/{part:06d}") if int(name.partition(".")[0]) in done]
    read = (lines(notes.read(f"failed/{part:06d}/{name}")) for name in failed)
    return done, [json.loads(line) for some in read for line in some]


def done_lines(notes: Place, parts: int) -> Iterator[dict[str, Any]]:
    """Yield the line of every input that is done, in the order of the plan."""
    with ThreadPoolExecutor(AT_ONCE, "reading") as pool:
        for part in range(parts):
            names = [f"done/{part:06d}/{name}" for name in notes.names(f"done/{part:06d}")]
            for contents in pool.map(notes.read, names):
                yield from map(json.loads, lines(contents))


def forget_failed(notes: Place, parts: int) -> None:
    """Have every block done again of which something was left out."""
    for part in range(parts):
        for name in notes.names(f"failed/{part:06d}"):
            notes.delete(f"done/{part:06d}/{name}")


def remove_all(notes: Place, out: Place) -> None:
    """Delete all outputs that the ledger lists, and the ledger, its head last: killed, it is begun again or is an error."""
    head = read_head(notes, {})
    if head is None:
        return
    write_head(notes, {"version": 0, "parts": head["parts"], "inputs": 0})
    for part in range(head["parts"]):
        for name in notes.names(f"done/{part:06d}"):
            for line in lines(notes.read(f"done/{part:06d}/{name}")):
                for files in json.loads(line).get("outputs", {}).values():
                    for file in files:
                        if not file.startswith("/") and ".." not in file.split("/"):  # else it is none of ours
                            out.delete(file)
    forget(notes)
    notes.delete(HEAD)


def forget(notes: Place) -> None:
    """Delete the ledger but for its head, without which the rest of it counts for nothing."""
    for name in ("plan", "done", "failed", "begun"):
        notes.delete(name)
