"""Makers of tiny files as other tools write them, for formats that we only read."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import nibabel
import numpy as np
import zarr

from tests.fake.datasets import write_image


def write_ilastik_project(
    path: Path, labels: dict[str, np.ndarray], names: list[str], block: int = 16, axes: str = "yxc"
) -> Path:
    """Write a project with label blocks as ilastik lays them out.

    Args:
        labels: by file name of the image; the axes of ``axes`` without c; 0 where nobody drew, classes from 1.
        names: of the classes.
        block: extent of a block along y and x.
        axes: of raw data and blocks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    tags = json.dumps(
        {"axes": [{"key": a, "typeFlags": 1 if a == "c" else 2, "resolution": 0, "description": ""} for a in axes]}
    )
    with h5py.File(path, "w") as file:
        file["ilastikVersion"] = b"1.4.1"
        sets = file.create_group("PixelClassification/LabelSets")
        file["PixelClassification/LabelNames"] = [name.encode() for name in names]
        for lane, (name, array) in enumerate(labels.items()):
            info = file.create_group(f"Input Data/infos/lane{lane:04d}/Raw Data")
            info["filePath"] = f"../raw/{name}".encode()
            info["axistags"] = tags.encode()
            whole = array[..., None]
            info["shape"] = (*array.shape, 3)
            group = sets.create_group(f"labels{lane:03d}")
            y, x = axes.index("y"), axes.index("x")
            number = 0
            for top in range(0, array.shape[y], block):
                for left in range(0, array.shape[x], block):
                    spans = [(0, n) for n in whole.shape]
                    spans[y] = (top, min(top + block, array.shape[y]))
                    spans[x] = (left, min(left + block, array.shape[x]))
                    values = whole[tuple(slice(b, e) for b, e in spans)]
                    if values.any():
                        data = group.create_dataset(f"block{number:04d}", data=values, compression="gzip")
                        data.attrs["blockSlice"] = ("[" + ",".join(f"{b}:{e}" for b, e in spans) + "]").encode()
                        data.attrs["axistags"] = tags
                        number += 1
    return path


def write_scribblesup(path: Path, size: tuple[int, int], lines: list[tuple[str, list[tuple[int, int]]]]) -> Path:
    """Write an XML of ScribbleSup's form: open lines of (x, y)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    polygons = "".join(
        f"<polygon><tag>{tag}</tag>{''.join(f'<point><X>{x}</X><Y>{y}</Y></point>' for x, y in points)}</polygon>"
        for tag, points in lines
    )
    head = (
        f"<filename>{path.stem}.jpg</filename><size><width>{size[1]}</width><height>{size[0]}</height><depth>3</depth></size>"
    )
    path.write_text(f"<annotation>{head}{polygons}</annotation>", encoding="utf-8")
    return path


def write_nifti(path: Path, volume: np.ndarray) -> Path:
    """Write an array (X, Y, Z)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), path)
    return path


def write_zarr(path: Path, array: np.ndarray, chunks: tuple[int, ...] | None = None) -> Path:
    """Write a zarr array."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = zarr.create_array(path, shape=array.shape, chunks=chunks or array.shape, dtype=array.dtype)
    made[...] = array
    return path


def write_pictures(folder: Path, stems: list[str], size: tuple[int, int]) -> Path:
    """Write a grey picture for each stem."""
    for number, stem in enumerate(stems):
        write_image(folder / f"{stem}.png", np.full(size, 40 * number + 20, np.uint8))
    return folder
