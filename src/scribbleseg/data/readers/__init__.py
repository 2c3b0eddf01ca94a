"""Readers of image files, one module a family. A new one is a file here and a line in ``READERS``.

A reader is a context manager that takes a path and a :class:`~scribbleseg.reading.Reading` and yields an
:class:`~scribbleseg.data.readers.image.Image`; it may raise anything, ``open_image`` turns it into our error.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from scribbleseg.data.readers import pillow, tiff
from scribbleseg.data.readers.image import Image
from scribbleseg.reading import Reading

Reader = Callable[[Path, Reading], AbstractContextManager[Image]]

#: Suffix to reader, in the order in which suffixes are looked for when only a stem is known.
READERS: dict[str, Reader] = {
    ".png": pillow.opened,
    ".jpg": pillow.opened,
    ".jpeg": pillow.opened,
    ".webp": pillow.opened,
    ".tif": tiff.opened,
    ".tiff": tiff.opened,
}

#: Suffixes of those that are folders.
FOLDERS = (".zarr",)
