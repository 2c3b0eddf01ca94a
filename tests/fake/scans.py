"""Makers of small scans and arrays: NIfTI, DICOM, HDF5, zarr."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tests.fake.datasets import class_map, picture_of, strokes_of


def write_nifti(
    path: Path,
    volume: np.ndarray,
    zooms: tuple[float, float, float] = (1.0, 1.0, 1.0),
    unit: str = "mm",
    slope: tuple[float, float] | None = None,
) -> Path:
    """Write (slices, height, width[, channels]) or (height, width) as NIfTI.

    Args:
        zooms: between columns, rows and slices.
        slope: and intercept for the header; the values are stored as they are.
    """
    import nibabel

    path.parent.mkdir(parents=True, exist_ok=True)
    axes = (1, 0) if volume.ndim == 2 else (2, 1, 0, 3)[: volume.ndim]
    scan = nibabel.Nifti1Image(volume.transpose(axes), np.diag([*zooms, 1.0]), dtype=volume.dtype)
    scan.header.set_xyzt_units(unit)
    if slope is not None:
        scan.header.set_slope_inter(*slope)
    nibabel.save(scan, path)
    return path


def write_dicom(path: Path, pixels: np.ndarray, **tags: Any) -> Path:
    """Write (height, width[, 3]) or (frames, height, width) as DICOM, uncompressed."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    path.parent.mkdir(parents=True, exist_ok=True)
    colours = 3 if pixels.shape[-1] == 3 else 1
    scan = Dataset()
    scan.file_meta = FileMetaDataset()
    scan.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    scan.file_meta.MediaStorageSOPClassUID = scan.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    scan.file_meta.MediaStorageSOPInstanceUID = scan.SOPInstanceUID = generate_uid()
    scan.SeriesInstanceUID = "1.2.3"
    frames, size = pixels.shape[: pixels.ndim - 2 - (colours == 3)], pixels.shape[-3:-1] if colours == 3 else pixels.shape[-2:]
    if frames:
        scan.NumberOfFrames = frames[0]
    scan.Rows, scan.Columns = size
    scan.SamplesPerPixel, scan.PhotometricInterpretation = colours, "RGB" if colours == 3 else "MONOCHROME2"
    if colours == 3:
        scan.PlanarConfiguration = 0
    scan.BitsAllocated = scan.BitsStored = pixels.dtype.itemsize * 8
    scan.HighBit = scan.BitsStored - 1
    scan.PixelRepresentation = int(pixels.dtype.kind == "i")
    for key, value in tags.items():
        setattr(scan, key, value)
    scan.PixelData = pixels.tobytes()
    scan["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"
    scan.save_as(path, enforce_file_format=True)
    return path


def write_series(folder: Path, volume: np.ndarray, step_mm: float = 2.5, **tags: Any) -> Path:
    """Write a volume as one DICOM file a slice, their names in the opposite order of their places."""
    for n, pixels in enumerate(volume):
        place = {"ImagePositionPatient": [0, 0, n * step_mm], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
        write_dicom(folder / f"{len(volume) - n:03d}.dcm", pixels, **(place | tags))
    return folder


def write_hdf5(path: Path, attributes: dict[str, Any] | None = None, **arrays: np.ndarray) -> Path:
    """Write arrays into an HDF5 file; the attributes go to each."""
    import h5py

    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            dataset = file.create_dataset(name.replace("__", "/"), data=array, chunks=True, compression="gzip")
            dataset.attrs.update(attributes or {})
    return path


def write_zarr(path: Path, array: np.ndarray, **options: Any) -> Path:
    """Write one zarr array."""
    import zarr

    chunks = options.pop("chunks", tuple(min(n, 16) for n in array.shape))
    made = zarr.create_array(str(path), shape=array.shape, dtype=array.dtype, chunks=chunks, **options)
    made[...] = array
    return path


def scan_dataset(root: Path, num_slices: int = 4) -> Path:
    """Write a data set of three NIfTI stacks, one a split, whose values need a window; labels are stacks too."""
    rng = np.random.default_rng(0)
    for n, split in enumerate(("train", "val", "test")):
        masks = np.stack([class_map((48, 64), 3, rng) for _ in range(num_slices)])
        pictures = np.stack([picture_of(mask, 3, rng)[..., 0] for mask in masks]).astype(np.int16)
        write_nifti(root / "images" / f"scan{n}.nii.gz", 10 * pictures - 500)
        write_nifti(root / "scribbles" / f"scan{n}.nii.gz", np.stack([strokes_of(mask) for mask in masks]))
        write_nifti(root / "masks" / f"scan{n}.nii.gz", masks)
        (root / f"{split}.txt").write_text(f"scan{n}@*\n", encoding="utf-8")
    spec: dict[str, Any] = {
        "name": "scans",
        "names": {0: "air", 1: "bone", 2: "fat"},
        "masks": "masks",
        "window": {"low": -500, "high": 2000},
    }
    spec["splits"] = {split: f"{split}.txt" for split in ("train", "val", "test")}
    (root / "dataset.yaml").write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
    return root
