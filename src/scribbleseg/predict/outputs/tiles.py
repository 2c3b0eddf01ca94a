"""Tiled TIFF, written as its rows come."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from scribbleseg.atomic import atomic_path
from scribbleseg.predict.channel import Channel, GivenUp
from scribbleseg.predict.outputs.output import Rows

#: Side of a tile in pixels.
TILE_PX = 512

#: A file that may become larger needs the offsets of BigTIFF.
_CLASSIC_BYTES = 2**32 - 2**25


@contextlib.contextmanager
def tiled_tiff(
    path: Path, shape: tuple[int, ...], dtype: str, axes: str, metadata: Mapping[str, Any] | None = None
) -> Iterator[Rows]:
    """Yield what takes the rows of a picture from top to bottom, of a stack those of one page after the other.

    Args:
        path: of the file, which appears whole or not at all.
        shape: (H, W), (H, W, samples) or (pages, H, W).
        dtype: of the values.
        axes: a letter an axis: ``YX``, ``YXS`` or ``ZYX``.
        metadata: what else stands in the description, as JSON.

    Raises:
        StorageError: it cannot be written.

    Cost: a row of tiles in memory. tifffile asks for tiles where we have rows to give: it runs in a thread of its own.
    """
    paged = axes == "ZYX"
    height, width, *samples = shape[1:] if paged else shape
    tile = tuple(min(TILE_PX, -(-side // 16) * 16) for side in (height, width))
    rows: Channel[np.ndarray] = Channel(1)
    failed: list[BaseException] = []
    with atomic_path(path) as temporary:

        def write() -> None:
            try:
                tifffile.imwrite(
                    temporary,
                    _tiles(rows, tile),
                    shape=shape,
                    dtype=dtype,
                    tile=tile,
                    photometric="minisblack",
                    planarconfig="contig" if samples else None,
                    compression="zlib",
                    bigtiff=int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize > _CLASSIC_BYTES,
                    metadata={"axes": axes, **(metadata or {})},
                    maxworkers=1,
                    buffersize=2**24,
                )
            except BaseException as error:
                failed.append(error)
            finally:
                rows.give_up()

        thread = threading.Thread(target=write, daemon=True)
        thread.start()
        waiting: list[np.ndarray] = []
        seen = 0

        def take(part: np.ndarray) -> None:
            nonlocal seen
            while len(part):  # tiles begin anew on every page
                room = min(tile[0] - seen % height % tile[0], height - seen % height)
                now, part = part[:room], part[room:]
                waiting.append(now.astype(dtype, copy=False))
                seen += len(now)
                if len(now) == room:
                    block = np.concatenate(waiting) if len(waiting) > 1 else np.array(waiting[0])
                    waiting.clear()
                    rows.put(block)

        try:
            yield take
            rows.close()
        except BaseException as error:
            rows.close(GivenUp())
            thread.join()
            if isinstance(error, GivenUp) and failed:
                raise failed[0] from None
            raise
        thread.join()
        if failed:
            raise failed[0]


def _tiles(blocks: Channel[np.ndarray], tile: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Yield the tiles of blocks that are as high as a tile, or end the page; those at the border are smaller."""
    for block in blocks:
        for left in range(0, block.shape[1], tile[1]):
            yield np.ascontiguousarray(block[:, left : left + tile[1]])
