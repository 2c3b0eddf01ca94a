"""RootPainter's annotations: RGBA PNGs, red for the foreground, green for the background, transparent elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from scribbleseg.data.formats.contents import About, Add, Annotated, Format, Options, Source, each
from scribbleseg.data.formats.pictures import find_picture, near, write_labels, write_picture
from scribbleseg.data.formats.safety import check_shape, files_in, reading
from scribbleseg.errors import DataError
from scribbleseg.records import UNLABELLED

#: RootPainter's brushes (RGBA).
BACKGROUND, FOREGROUND = (0, 255, 0, 180), (255, 0, 0, 180)


class RootPainter(Format):
    """Read and write two classes: 0 background, 1 foreground."""

    title = "RootPainter annotations"
    unlabelled = "a transparent pixel"
    holds = "annotations/{train,val}: red is the foreground, green the background"
    writes = "annotations/{train,val}/STEM.png (two classes), images/"
    source = "https://github.com/Abe404/root_painter/blob/master/trainer/datasets.py"

    def recognise(self, path: Path) -> str | None:
        """See the base class."""
        if not path.is_dir():
            return None
        project = files_in(path, ".seg_proj") or files_in(path.parent, ".seg_proj")
        if project:
            return f"a RootPainter project, {project[0].name}"
        folder = _folder(path)
        files = files_in(folder, ".png", deep=True) if folder.name == "annotations" else []
        with contextlib.suppress(DataError):
            if files and (read_rgba(files[0])[..., 2] == 0).all():
                return f"a folder annotations/ of RGBA pictures in red and green, as {files[0].name}"
        return None

    def read(self, path: Path, options: Options) -> Source:
        """See the base class."""
        folder = _folder(path)
        files = {str(p.relative_to(folder).with_suffix("")): p for p in files_in(folder, ".png", deep=True)}
        if not files:
            raise DataError(path, "RootPainter's annotations, RGBA PNGs", "none", "name the project or its annotations/")
        names = options.names or ("background", "foreground")
        if len(names) != 2:
            raise DataError(path, "two names, background first", ", ".join(names), "--names background,roots")
        folders = near(folder, options.images)

        def load(stem: str) -> Annotated:
            split, _, rest = stem.partition("/")
            split, rest = (split, rest) if split in ("train", "val") and rest else ("train", stem)
            labels = to_labels(read_rgba(files[stem]))
            return Annotated(rest, labels, find_picture(rest, folders, but=files[stem]), splits=(split,))

        told = f"transparent means not annotated (RootPainter); green is {names[0]}, 0, and red {names[1]}, 1"
        return Source(names, told, each(files, load))

    @contextlib.contextmanager
    def writer(self, out: Path, about: About) -> Iterator[Add]:
        """See the base class."""
        if len(about.names) != 2:
            got = ", ".join(about.names)
            raise DataError(about.name, "two classes, background first, for RootPainter", got, "choose another format: --to")

        def add(image: Annotated) -> None:
            if image.image is not None:
                write_picture(image, out / "images")
            rgba = np.zeros((*image.labels.shape, 4), np.uint8)
            rgba[image.labels == 0] = BACKGROUND
            rgba[image.labels == 1] = FOREGROUND
            split = "val" if image.splits == ("val",) else "train"
            write_labels(out / "annotations" / split / f"{image.stem}.png", rgba)

        yield add


def to_labels(rgba: np.ndarray) -> np.ndarray:
    """Return labels: 1 where red is stronger, 0 where green is, 255 where neither or nothing is drawn."""
    red, green, seen = rgba[..., 0], rgba[..., 1], rgba[..., 3] > 0
    return np.where(seen & (red > green), 1, np.where(seen & (green > red), 0, UNLABELLED)).astype(np.uint8)


def read_rgba(path: Path) -> np.ndarray:
    """Read uint8 (H, W, 4).

    Raises:
        DataError: undecodable, too large, or of another mode.
    """
    with reading(path, "an RGBA picture"), Image.open(path) as picture:
        check_shape(path, picture.height, picture.width)
        if picture.mode != "RGBA":
            raise DataError(path, "an RGBA picture", f"mode {picture.mode}", "export the annotation with its transparency")
        return np.asarray(picture)


def _folder(path: Path) -> Path:
    return path / "annotations" if (path / "annotations").is_dir() else path
