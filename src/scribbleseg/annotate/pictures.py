"""Pictures for the page: 8-bit views, tiles of large ones, thumbnails. Memory does not grow with the picture."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import math
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image as Pillow

from scribbleseg.atomic import atomic_path
from scribbleseg.data.images import Image, Window, open_image
from scribbleseg.data.intensity import rgb_of, sample
from scribbleseg.data.readers import pillow, reader_of
from scribbleseg.errors import DataError
from scribbleseg.reading import Reading, ValueWindow

if TYPE_CHECKING:
    from scribbleseg.annotate.project import Project

#: Pictures of more pixels a side are sent as tiles; pixels a side of a tile and of a thumbnail; bytes of tiles in memory.
WHOLE_PX, TILE_PX, THUMBNAIL_PX, KEPT = 4000, 512, 160, 64 * 2**20

#: Up to this level a tile is made of the pixels under it, 2048 a side; one by one they would cost more calls and memory.
_READ_LEVELS = 2

#: Decoded files of formats that cannot be read in parts, kept on disk.
_DECODED = 6


@dataclass(frozen=True)
class Look:
    """How stored values become grey or colour.

    Attributes:
        channels: of the file, of red, green and blue; None for what the data set says.
        low, high: the values that become black and white; None for what suits the picture.
    """

    channels: tuple[int, ...] | None = None
    low: float | None = None
    high: float | None = None


class Pictures:
    """Renders pictures of a project; every method may be called from any thread."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self._tiles: OrderedDict[tuple[Any, ...], np.ndarray] = OrderedDict()
        self._ranges: OrderedDict[tuple[Any, ...], tuple[float, float]] = OrderedDict()
        self._lock, self._decoding = threading.Lock(), threading.Lock()

    def bands(self, image: int) -> dict[str, Any]:
        """Return number of channels, type of the values, and those that become black and white."""
        with self._opened(image) as (picture, _, index):
            low, high = self._range(picture, index, self._channels(picture, Look()))
            return {"num_channels": picture.shape[2], "dtype": str(picture.dtype), "low": low, "high": high}

    def levels(self, image: int) -> int:
        """Return the number of sizes in which a picture's tiles exist; 1 where it is sent whole."""
        side = max(self.project.size(image))
        return 1 if side <= WHOLE_PX else math.ceil(math.log2(side / TILE_PX)) + 1

    def tag(self, image: int, look: Look) -> str:
        """Return what changes when the rendering does."""
        path, index = self.project.path(image)
        return f'"{hashlib.sha256(repr((path, _changed(path), index, look)).encode()).hexdigest()[:24]}"'

    def view(self, image: int, look: Look) -> tuple[bytes, str]:
        """Return a whole picture and its media type.

        Raises:
            DataError: it is too large to be sent whole.
        """
        height, width = self.project.size(image)
        if max(height, width) > WHOLE_PX:
            raise DataError("view", f"at most {WHOLE_PX} px a side", f"{width} × {height}", "ask for its tiles")
        with self._opened(image) as (picture, path, index):
            return encoded(self._rendered(picture, index, look, None), path.suffix.lower() in (".jpg", ".jpeg"))

    def tile(self, image: int, look: Look, level: int, x: int, y: int) -> tuple[bytes, str]:
        """Return the tile in column x and row y of a level, and its media type; at a level l the picture is 2^l smaller.

        Raises:
            DataError: there is no such tile.
        """
        height, width = self.project.size(image)
        side = TILE_PX << min(level, 30)
        levels = max(1, math.ceil(math.log2(max(height, width) / TILE_PX)) + 1)
        if level >= levels or x * side >= width or y * side >= height:
            raise DataError("image", "a tile of the picture", f"{level}/{x}/{y}", "use the page")
        with self._opened(image) as (picture, path, index):
            key = (image, _changed(path), look)
            return encoded(self._tile(picture, index, key, look, level, x, y), True)

    def thumbnail(self, image: int) -> bytes:
        """Return a small JPEG, kept on disk."""
        path, _ = self.project.path(image)
        kept = self.project.state / "thumbnails" / f"{image}-{_changed(path):x}.jpg"
        with contextlib.suppress(OSError):
            return kept.read_bytes()
        levels = self.levels(image)
        if levels > 1:
            with self._opened(image) as (picture, file, index):
                rgb = self._tile(picture, index, (image, _changed(file), Look()), Look(), levels - 1, 0, 0)
        else:
            with self._opened(image) as (picture, _, index):
                rgb = self._rendered(picture, index, Look(), None)
        small = Pillow.fromarray(rgb)
        small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
        data, _ = encoded(np.asarray(small), True)
        for old in kept.parent.glob(f"{image}-*.jpg"):
            old.unlink(missing_ok=True)
        with atomic_path(kept) as temporary:
            temporary.write_bytes(data)
        return data

    def _tile(
        self, picture: Image, index: int | None, key: tuple[Any, ...], look: Look, level: int, x: int, y: int
    ) -> np.ndarray:
        """Return a tile: of the lowest levels of the picture's own pixels, else of the four tiles below it."""
        place = (*key, level, x, y)
        with self._lock:
            if place in self._tiles:
                self._tiles.move_to_end(place)
                return self._tiles[place]
        height, width = picture.shape[:2]
        if level <= _READ_LEVELS:
            side = TILE_PX << level
            window = Window(y * side, x * side, min(side, height - y * side), min(side, width - x * side))
            made = self._rendered(picture, index, look, window)
            made = made if level == 0 else np.asarray(Pillow.fromarray(made).reduce(1 << level))
        else:
            side = TILE_PX << (level - 1)
            rows = [
                np.concatenate(
                    [
                        self._tile(picture, index, key, look, level - 1, column, row)
                        for column in (2 * x, 2 * x + 1)
                        if column * side < width
                    ],
                    axis=1,
                )
                for row in (2 * y, 2 * y + 1)
                if row * side < height
            ]
            made = np.asarray(Pillow.fromarray(np.concatenate(rows)).reduce(2))
        with self._lock:
            self._tiles[place] = made
            while sum(tile.nbytes for tile in self._tiles.values()) > KEPT:
                self._tiles.popitem(last=False)
        return made

    def _rendered(self, picture: Image, index: int | None, look: Look, window: Window | None) -> np.ndarray:
        """Return uint8 (h, w, 3)."""
        channels, spec = self._channels(picture, look), self.project.spec
        if look == Look() and channels is None and spec.window is None and picture.dtype == np.uint8:
            stored = picture.pixels(window, index)  # as rgb_of and rounding back would give, in a tenth of the time
            return np.repeat(stored, 3, axis=-1) if stored.shape[-1] == 1 else np.ascontiguousarray(stored[..., :3])
        reading = Reading(channels=channels, window=spec.window)
        if look.low is not None or look.high is not None or (spec.window is None and picture.dtype != np.uint8):
            low, high = self._range(picture, index, channels)
            low, high = low if look.low is None else look.low, high if look.high is None else look.high
            if not low < high:
                raise DataError("view", "low below high", f"{low:g} and {high:g}", "move the sliders apart")
            reading = replace_window(reading, low, high)
        rgb = rgb_of(picture, reading, window, index, self.project.opened.ranges)
        return (rgb * 255 + 0.5).astype(np.uint8)

    def _channels(self, picture: Image, look: Look) -> tuple[int | None, ...] | None:
        number = picture.shape[2]
        wanted: tuple[int | None, ...] | None = look.channels or self.project.spec.channels
        if wanted is None and number not in (1, 3, 4):
            return (0, 1, None) if number == 2 else (0, 1, 2)
        if wanted is not None and max(c for c in wanted if c is not None) >= number:
            raise DataError("view", f"channels below {number}", str(wanted), "choose other channels")
        return wanted

    def _range(self, picture: Image, index: int | None, channels: tuple[int | None, ...] | None) -> tuple[float, float]:
        """Return the values that become black and white: of 8 bit all, of others their percentiles 1 and 99."""
        window = self.project.spec.window
        if window is not None and window[0].low is not None and window[0].high is not None:
            return window[0].low, window[0].high
        if picture.dtype == np.uint8:
            return 0.0, 255.0
        used = channels if channels is not None else ((0,) if picture.shape[2] == 1 else (0, 1, 2))
        key = (picture.path, _changed(Path(str(picture.path))), used)
        if key not in self._ranges:
            values = [sample(picture, channel) for channel in used if channel is not None]
            low, high = np.percentile(np.concatenate(values), (1, 99))
            self._ranges[key] = (float(low), float(max(high, low + 1e-6)))
            while len(self._ranges) > 1000:
                self._ranges.popitem(last=False)
        return self._ranges[key]

    @contextlib.contextmanager
    def _opened(self, image: int) -> Iterator[tuple[Image, Path, int | None]]:
        """Open a picture so that parts of it can be read without all of it."""
        path, index = self.project.path(image)
        with open_image(path, self.project.spec.reading) as picture:
            if reader_of(path) is pillow.opened and max(picture.shape[:2]) > WHOLE_PX:
                picture = self._decoded(image, picture)
            yield picture, path, index

    def _decoded(self, image: int, picture: Image) -> Image:
        """Return the picture with its pixels in a file on disk that is mapped, not read; it is made when they are asked for."""
        kept = self.project.state / "tiles" / f"{image}-{_changed(Path(str(picture.path))):x}.npy"

        @functools.cache
        def mapped() -> np.ndarray:
            with self._decoding:
                if not kept.exists():
                    pixels = picture.pixels()
                    with atomic_path(kept) as temporary, temporary.open("wb") as file:
                        np.save(file, pixels)
                    del pixels
                    others = sorted(kept.parent.glob("*.npy"), key=lambda path: path.stat().st_mtime)
                    for old in others[:-_DECODED]:
                        old.unlink(missing_ok=True)
            stored: np.ndarray = np.load(kept, mmap_mode="r")
            return stored

        return replace(picture, fetch=lambda index, window: np.array(mapped()[window.place]))


def replace_window(reading: Reading, low: float, high: float) -> Reading:
    """Return a reading by which these values become black and white."""
    return reading.model_copy(update={"window": (ValueWindow(low=low, high=high),) * 3})


def encoded(rgb: np.ndarray, lossy: bool) -> tuple[bytes, str]:
    """Return a picture as a file, and its media type; grey index maps always without loss."""
    out = io.BytesIO()
    if lossy:
        Pillow.fromarray(rgb).save(out, format="JPEG", quality=92)
        return out.getvalue(), "image/jpeg"
    Pillow.fromarray(rgb).save(out, format="PNG", compress_level=1)
    return out.getvalue(), "image/png"


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        raise DataError(path.name, "the picture's file", "no such file", "put it back") from None
