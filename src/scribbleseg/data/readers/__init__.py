"""Readers of image files, one module a family. A new one is a file here and a line in ``READERS``.

A reader is a context manager that takes a path and a :class:`~scribbleseg.reading.Reading` and yields an
:class:`~scribbleseg.data.readers.image.Image`; it may raise anything, ``open_image`` turns it into our error.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from scribbleseg.data.readers import arrays, dicom, nifti, pillow, tiff
from scribbleseg.data.readers.image import Image
from scribbleseg.data.shards.files import File
from scribbleseg.reading import Reading

Reader = Callable[[Any, Reading], AbstractContextManager[Image]]

#: Suffix to reader, in the order in which suffixes are looked for when only a stem is known.
READERS: dict[str, Reader] = {
    ".png": pillow.opened,
    ".jpg": pillow.opened,
    ".jpeg": pillow.opened,
    ".webp": pillow.opened,
    ".tif": tiff.opened,
    ".tiff": tiff.opened,
    ".nii": nifti.opened,
    ".nii.gz": nifti.opened,
    ".dcm": dicom.opened,
    ".h5": arrays.opened_hdf5,
    ".hdf5": arrays.opened_hdf5,
    ".zarr": arrays.opened_zarr,
}

#: Suffixes of files that can be read from where they lie in a shard; the others' libraries want a file on disk.
IN_SHARDS = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")

#: Suffixes of those that are folders. A folder of any other name can be a series of DICOM files.
FOLDERS = (".zarr",)


def reader_of(path: File) -> Reader | None:
    """Return the reader of a file or folder by its suffix, or None."""
    name = path.name.lower()
    for suffix, reader in READERS.items():
        if name.endswith(suffix):
            return reader
    return dicom.opened if path.is_dir() else None


def is_image(path: Path) -> bool:
    """Say whether a file of a folder is an image by its name, or a folder is by what it holds."""
    if path.is_dir():
        return path.name.lower().endswith(FOLDERS) or next(path.glob("*.dcm"), None) is not None
    return reader_of(path) is not None
