"""Features of images, kept on disk within bounds: computing them takes seconds, reading them none."""

from __future__ import annotations

import contextlib
import hashlib
import os
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np

from scribbleseg.annotate.features import NUM_FILTERS, Encoder, Features, compute, grid_of
from scribbleseg.atomic import atomic_path
from scribbleseg.errors import StorageError

#: On disk at most; the images used longest ago go first. An image of 1024 × 768 has 70 MB.
MAX_BYTES = 2 * 2**30

#: Images kept in memory.
IN_MEMORY = 3

#: Part of each file's name: files of other features are not read.
FORMAT = "1"


ReadsColours = Callable[[], np.ndarray]


class FeatureCache:
    """Gives the features of images, computed once.

    Args:
        folder: for the files; anything in it may be deleted at any time.
        encoder: the backbone, if there is one.
        source: names the backbone.
    """

    def __init__(self, folder: Path, encoder: Encoder | None, source: str, max_bytes: int = MAX_BYTES) -> None:
        self.folder, self.encoder, self.source, self.max_bytes = folder, encoder, source, max_bytes
        self._memory: OrderedDict[str, Features] = OrderedDict()

    def get(self, name: str, picture: Picture) -> Features:
        """Return the features of an image.

        Args:
            name: changes when the image does.
            picture: gives the image's (height, width), and its colours when they are needed.
        """
        key = hashlib.sha1(f"{FORMAT}|{self.source}|{name}".encode(), usedforsecurity=False).hexdigest()
        found = self._memory.get(key) or self._read(key, picture.size)
        if found is None:
            found = compute(picture.rgb(), picture.size, self.encoder)
            self._write(key, found)
        self._memory[key] = found
        self._memory.move_to_end(key)
        while len(self._memory) > IN_MEMORY:
            self._memory.popitem(last=False)
        return found

    def _read(self, key: str, size: tuple[int, int]) -> Features | None:
        path = self.folder / f"{key}.npz"
        try:
            os.utime(path)
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                filters, maps = stored["filters"], stored["maps"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            return None  # it is computed again, and written anew
        whole = filters.shape == (*grid_of(size), NUM_FILTERS) and filters.dtype == maps.dtype == np.float16 and maps.ndim == 3
        return Features(filters, maps, size) if whole else None

    def _write(self, key: str, features: Features) -> None:
        with contextlib.suppress(StorageError, OSError):  # without a cache it is slower, nothing else
            with atomic_path(self.folder / f"{key}.npz") as temporary, temporary.open("wb") as file:
                np.savez(file, filters=features.filters, maps=features.maps)
            files = sorted(self.folder.glob("*.npz"), key=lambda path: path.stat().st_mtime)
            total = sum(path.stat().st_size for path in files)
            for path in files[:-1]:
                if total <= self.max_bytes:
                    break
                total -= path.stat().st_size
                path.unlink()


class Picture:
    """An image that is read when it is needed: its id, (height, width) and colours."""

    def __init__(self, size: tuple[int, int], rgb: ReadsColours) -> None:
        self.size, self.rgb = size, rgb
