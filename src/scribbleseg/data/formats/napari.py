"""Label layers as napari saves them: TIFF or zarr, 0 is nothing, the first class is 1."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from scribbleseg.data.formats.contents import About, Add, Format, Options, Source
from scribbleseg.data.formats.index_png import label_folder
from scribbleseg.data.formats.pictures import beside_pictures
from scribbleseg.data.formats.safety import files_in, head
from scribbleseg.data.formats.stacks import write_zero_tiff, zero_source

#: What label files have behind the name of their image.
ENDINGS = ("_labels", "-labels", " labels", "_Labels", "-Labels", " Labels")


class Napari(Format):
    """Read and write label layers whose 0 means "not annotated"."""

    title = "napari labels"
    unlabelled = "0 (`background`); class 1 is the first"
    holds = "TIFF, pages as slices; zarr and OME-Zarr label arrays, y and x last"
    writes = "labels/STEM.tif with 0, images/, names.txt"
    extra = "formats"
    source = "https://napari.org/stable/howtos/layers/labels.html"

    def recognise(self, path: Path) -> str | None:
        """See the base class. A TIFF alone does not say that it is napari's: name it with ``--from napari``."""
        found = zarr_arrays(path)
        return f"a zarr array of labels, {found[0].name}" if found else None

    def read(self, path: Path, options: Options) -> Source:
        """See the base class. Without names every file is read once before, to count the classes."""
        files = zarr_arrays(path)
        folder = label_folder(path)
        if not files:
            files = [path] if path.is_file() else files_in(folder, ".tif", ".tiff", deep=True)
        return zero_source(path, folder, files, options, "napari", ENDINGS)

    def writer(self, out: Path, about: About) -> AbstractContextManager[Add]:
        """See the base class."""
        return beside_pictures(out, about, lambda image: write_zero_tiff(out / "labels" / f"{image.stem}.tif", image.labels))


def zarr_arrays(path: Path) -> list[Path]:
    """Return the zarr arrays at a path: itself, OME-Zarr's labels inside it, or the ones in a folder."""
    if not path.is_dir():
        return []
    if _is_array(path):
        return [path]
    own = [p / "0" if _is_array(p / "0") else p for p in sorted(path.glob("labels/*")) if _is_array(p) or _is_array(p / "0")]
    return own or [p for p in sorted(path.glob("*.zarr")) if _is_array(p)]


def _is_array(path: Path) -> bool:
    return (path / ".zarray").is_file() or '"array"' in head(path / "zarr.json", 1 << 16)
