"""Outputs with one file an input, all slices in it: NIfTI, napari, nnU-Net."""

from __future__ import annotations

import contextlib
import gzip
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from scribbleseg.atomic import atomic_path, write_text
from scribbleseg.data.images import write_png
from scribbleseg.data.readers import dicom
from scribbleseg.errors import DataError
from scribbleseg.extras import library
from scribbleseg.predict.bands import Band
from scribbleseg.predict.outputs.output import Job, Output, Sink, refuse_large, whole_slices
from scribbleseg.predict.outputs.tiles import tiled_tiff

#: A volume is held whole, one byte a voxel, up to this.
MAX_VOXELS = 2**32

SCANS = (".nii", ".nii.gz")


class Nifti(Output):
    """The class ids as a volume that lies where its input lies."""

    title = "a volume an input, with the affine of NIfTI and DICOM inputs: STEM.nii.gz"
    folder = "nifti"
    extra = "medical"

    def check(self) -> None:
        """See the base class."""
        library("nibabel", "--outputs nifti", "which writes NIfTI", "medical")

    def files(self, job: Job) -> list[Path]:
        """See the base class."""
        return [job.out / self.folder / f"{job.stem}.nii.gz"]

    def open(self, job: Job) -> AbstractContextManager[Sink]:
        """See the base class."""
        return _nifti(job, self.files(job)[0], 0)


@contextlib.contextmanager
def _nifti(job: Job, path: Path, shift: int) -> Iterator[Sink]:
    if job.pixels * job.num_slices > MAX_VOXELS:
        got = f"{job.shape[1]} × {job.shape[0]} × {job.num_slices}"
        raise DataError(job.path, f"at most {MAX_VOXELS} voxels for NIfTI", got, "leave nifti and nnunet out of --outputs")
    volume = np.empty((job.num_slices, *job.shape), np.uint8)

    def take(band: Band) -> None:
        rows = volume[band.number, band.top : band.top + len(band.labels)]
        np.add(band.labels, np.uint8(shift), out=rows)

    yield take
    nibabel: Any = library("nibabel", job.path, "which writes NIfTI", "medical")
    affine, header = _place(job)
    image = nibabel.Nifti1Image(volume.transpose(2, 1, 0), affine, header)  # columns, rows, slices, as they are read
    image.set_data_dtype(np.uint8)
    if header is None:
        image.header.set_xyzt_units("mm")
    with atomic_path(path) as temporary, temporary.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
        image.to_stream(packed)


def _place(job: Job) -> tuple[np.ndarray, Any]:
    """Return the affine of a volume, and a header with its codes and units where the input is NIfTI."""
    if job.path.name.lower().endswith(SCANS):
        nibabel: Any = library("nibabel", job.path, "which reads NIfTI", "medical")
        scan = nibabel.load(job.path)
        header = scan.header.copy()
        header.set_intent("none")
        header["cal_min"] = header["cal_max"] = 0
        header.set_slope_inter(1, 0)
        return scan.affine, header
    affine = dicom.affine_of(job.path) if job.path.is_dir() or job.path.suffix.lower() == ".dcm" else None
    if affine is None:  # a place is not known, sizes perhaps
        rows, columns = job.spacing_mm or (1.0, 1.0)
        affine = np.diag([columns, rows, job.slice_mm or 1.0, 1.0])
    return affine, None


class Napari(Output):
    """The class ids as a labels layer: 0, which napari shows as nothing, is no class; class k is k + 1."""

    title = "a labels layer, class k as k + 1: STEM_labels.tif, slices as pages"
    folder = "napari"

    def files(self, job: Job) -> list[Path]:
        """See the base class."""
        return [job.out / self.folder / f"{job.stem}_labels.tif"]

    @contextlib.contextmanager
    def open(self, job: Job) -> Iterator[Sink]:
        """See the base class."""
        stack = job.num_slices > 1
        shape = (job.num_slices, *job.shape) if stack else job.shape
        with tiled_tiff(self.files(job)[0], shape, "uint8", "ZYX" if stack else "YX", {"names": ["", *job.names]}) as add:
            yield lambda band: add(band.labels + np.uint8(1))


class NnUnet(Output):
    """The class ids as nnU-Net predicts them: a file a case, and ``dataset.json``."""

    title = "nnU-Net's predictions: CASE.png or, of scans, CASE.nii.gz; dataset.json"
    folder = "nnunet"
    extra = "medical"

    def check(self) -> None:
        """See the base class."""
        library("nibabel", "--outputs nnunet", "which writes NIfTI", "medical")

    def files(self, job: Job) -> list[Path]:
        """See the base class."""
        return [job.out / self.folder / f"{job.stem.removesuffix('_0000')}{'.nii.gz' if _is_scan(job) else '.png'}"]

    def open(self, job: Job) -> AbstractContextManager[Sink]:
        """See the base class."""
        shift, path = _shift(job.names), self.files(job)[0]
        if _is_scan(job):
            return _nifti(job, path, shift)
        refuse_large(job, "nnU-Net")
        return whole_slices(job, lambda _, labels: write_png(path, labels + np.uint8(shift)), lambda band: band.labels)

    def finish(self, out: Path, names: tuple[str, ...], files: list[Path]) -> None:
        """Write ``dataset.json``, once."""
        target = out / self.folder / "dataset.json"
        named = ("background", *names) if _shift(names) else names
        endings = {".nii.gz" if file.name.endswith(".nii.gz") else ".png" for file in files}
        tree = {
            "labels": {"background": 0, **{n: k for k, n in enumerate(named) if k}},
            "file_ending": max(endings, default=""),
        }
        text = json.dumps(tree, indent=1, ensure_ascii=False) + "\n"
        if not target.is_file() or target.read_text(encoding="utf-8") != text:
            write_text(target, text)


def _is_scan(job: Job) -> bool:
    return job.num_slices > 1 or job.path.is_dir() or job.path.name.lower().endswith((*SCANS, ".dcm"))


def _shift(names: tuple[str, ...]) -> int:
    """nnU-Net wants class 0 to be ``background``: where there is none, all ids move up by one."""
    return 0 if names[0].lower() == "background" else 1
