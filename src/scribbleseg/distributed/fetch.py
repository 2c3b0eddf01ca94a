"""The side of a run that reads from afar: blocks that are not done yet, with the bytes of their inputs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from scribbleseg.distributed.inputs import Entry, columns
from scribbleseg.distributed.ledger import done_blocks
from scribbleseg.distributed.place import Place
from scribbleseg.distributed.plan import Block, read_part
from scribbleseg.errors import ConfigError
from scribbleseg.extras import library

#: Files of an object store that are fetched at a time. Waiting is most of it.
AT_ONCE = 16

#: Larger files are not sent through Ray: the worker copies them itself.
MAX_BYTES = 2**24


class Fetch:
    """Turns parts of the plan into rows for the workers; Ray runs it as tasks, and holds it where the workers fall behind.

    Args:
        place: of the inputs.
        notes: place of the ledger.
    """

    def __init__(self, place: Place, notes: Place) -> None:
        self._place, self._notes = place, notes

    def __call__(self, batch: Any) -> Iterator[Any]:
        """Yield a row with a block and its files' bytes; and one that says how much of the parts was done before."""
        arrow: Any = library("pyarrow", "--engine ray", "which holds rows", "ray")
        binary = arrow.list_(arrow.large_binary())
        kinds = {"block": arrow.string(), "contents": binary, "kept": arrow.int64(), "left_out": arrow.int64()}
        schema = arrow.schema(list(kinds.items()))
        for row in self._rows(batch):
            yield arrow.Table.from_pylist([row], schema)

    def _rows(self, batch: Any) -> Iterator[dict[str, Any]]:
        for part in batch["part"]:
            done, failed = done_blocks(self._notes, int(part))
            kept = 0
            for block in read_part(self._notes, int(part)):
                if block.number in done:
                    kept += len(block.entries)
                    continue
                yield {"block": block.to_json(), "contents": self._contents(block), "kept": 0, "left_out": 0}
            if kept:
                yield {"block": "", "contents": [], "kept": kept - len(failed), "left_out": len(failed)}

    def _contents(self, block: Block) -> list[bytes | None]:
        """Return the bytes of each input; None for one that the worker reads where it lies, or copies."""
        local = self._place.local is not None
        wanted = [entry for entry in block.entries if not (entry.is_file and local) and entry.size <= MAX_BYTES]
        rows = [entry for entry in wanted if entry.row >= 0]
        found: dict[Entry, bytes | None] = dict.fromkeys(rows, b"")
        with contextlib.suppress(Exception):  # pyarrow raises a dozen types; of nothing the worker says that it is no image
            found |= rows_of(self._place, rows)
        others = [entry for entry in wanted if entry.row < 0]
        if others:
            with ThreadPoolExecutor(min(AT_ONCE, len(others)), "fetching") as pool:
                found |= zip(others, pool.map(self._bytes, others), strict=True)
        return [found.get(entry) for entry in block.entries]

    def _bytes(self, entry: Entry) -> bytes | None:
        try:
            return self._place.read(entry.at, max(0, entry.offset), entry.size if entry.offset >= 0 else None)
        except (OSError, ConfigError):
            return None  # the worker tries again, and says what is wrong


def rows_of(place: Place, entries: list[Entry]) -> Iterator[tuple[Entry, bytes]]:
    """Yield the images of some rows of Parquet files.

    Cost: the row groups that they are in are read and decoded; groups of some hundred images are right.
    """
    parquet: Any = library("pyarrow.parquet", place, "which reads Parquet", "ray")
    for name in dict.fromkeys(entry.at for entry in entries):
        wanted = {entry.row: entry for entry in entries if entry.at == name}
        with place.opened(name) as stream:
            file = parquet.ParquetFile(stream)
            column = columns(file.schema_arrow)[2]
            first = 0
            for group in range(file.num_row_groups):
                length = file.metadata.row_group(group).num_rows
                here = [row for row in wanted if first <= row < first + length]
                if here:
                    values = file.read_row_group(group, columns=[column]).column(column)
                    for row in here:
                        value = values[row - first].as_py()
                        value = value.get("bytes") if isinstance(value, dict) else value
                        yield wanted[row], value if isinstance(value, bytes) else b""
                first += length
