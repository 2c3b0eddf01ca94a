"""A pixel classification project as ilastik stores it: HDF5 with a lane for each picture and the labels in blocks."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from scribbleseg.atomic import storage_error
from scribbleseg.data.formats.safety import library
from scribbleseg.errors import DataError
from scribbleseg.palette import class_colours

#: The release whose layout this is; ilastik lays the axes of label blocks out by it.
VERSION = b"1.4.1"

#: Extent of a block of labels in pixels; blocks without labels are left out.
BLOCK_PX = 512

#: Lanes are numbered with four digits and sorted as words.
MAX_LANES = 10_000

_AXES = json.dumps({"axes": [{"key": a, "typeFlags": 1 if a == "c" else 2, "resolution": 0, "description": ""} for a in "yxc"]})

#: Takes the picture's path from the project, its number of channels, and uint8 (H, W) with 0 where nobody drew.
AddLane = Callable[[str, int, np.ndarray], None]


@contextlib.contextmanager
def written_project(path: Path, names: tuple[str, ...]) -> Iterator[AddLane]:
    """Yield what adds a picture and its labels to a new project.

    No features are chosen and nothing is trained in it: the applets find nothing of theirs, as in a project that was saved
    after labelling alone. The pictures are named relative to the project, so the folder can be moved as one.

    Args:
        path: of the project.
        names: of the classes.

    Raises:
        DataError: more lanes than a project can number.
        StorageError: it cannot be written.

    Reference: ilastik 1.4, ``dataSelectionSerializer``, ``pixelClassificationSerializer`` and ``slotSerializer``.
    """
    h5py = library("h5py", "ilastik projects")
    number = 0
    try:
        with h5py.File(path, "w") as file:
            file["ilastikVersion"] = VERSION
            file["workflowName"] = b"Pixel Classification"
            file["time"] = time.ctime().encode()
            inputs = file.create_group("Input Data")
            inputs["StorageVersion"] = "0.2"
            inputs["Role Names"] = [b"Raw Data", b"Prediction Mask"]
            inputs.create_group("local_data")
            lanes = inputs.create_group("infos")
            applet = file.create_group("PixelClassification")
            applet["StorageVersion"] = "0.1"
            _write_list(applet, "LabelNames", [name.encode() for name in names])
            for key in ("LabelColors", "PmapColors"):
                _write_list(applet, key, class_colours(len(names)).astype(np.int64))
            sets = applet.create_group("LabelSets")

            def add(name: str, channels: int, labels: np.ndarray) -> None:
                nonlocal number
                if number == MAX_LANES:
                    raise DataError(name, f"at most {MAX_LANES} images in a project", "more", "convert them in parts")
                _write_lane(lanes.create_group(f"lane{number:04d}"), name, (*labels.shape, channels))
                _write_blocks(sets.create_group(f"labels{number:03d}"), labels)
                number += 1

            yield add
    except OSError as error:
        raise storage_error(error, path) from None


def _write_list(group: Any, key: str, values: Any) -> None:
    group[key] = values
    group[key].attrs["isEmpty"] = False


def _write_lane(lane: Any, name: str, shape: tuple[int, ...]) -> None:
    """Write what is known of a picture."""
    lane.create_group("Prediction Mask")
    info = lane.create_group("Raw Data")
    info["__class__"] = b"RelativeFilesystemDatasetInfo"
    info["filePath"] = name.encode()
    info["location"] = b"FileSystem"
    info["nickname"] = Path(name).stem.encode()
    info["datasetId"] = str(uuid.uuid5(uuid.NAMESPACE_URL, name)).encode()
    info["axistags"] = _AXES.encode()
    info["shape"] = shape
    info["allowLabels"] = True
    info["display_mode"] = b"default"
    info["normalizeDisplay"] = False


def _write_blocks(group: Any, labels: np.ndarray) -> None:
    """Write the blocks of labels that hold any."""
    number = 0
    for top in range(0, labels.shape[0], BLOCK_PX):
        for left in range(0, labels.shape[1], BLOCK_PX):
            block = labels[top : top + BLOCK_PX, left : left + BLOCK_PX]
            if block.any():
                data = group.create_dataset(f"block{number:04d}", data=block[..., None], compression="gzip")
                data.attrs["blockSlice"] = f"[{top}:{top + block.shape[0]},{left}:{left + block.shape[1]},0:1]".encode()
                data.attrs["axistags"] = _AXES
                number += 1
