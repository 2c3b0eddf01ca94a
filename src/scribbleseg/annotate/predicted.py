"""Predictions of every image of a folder as one archive, which is sent while it is made."""

from __future__ import annotations

import contextlib
import threading
import zipfile
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scribbleseg.annotate.learning import Learning
from scribbleseg.annotate.transfer import scratch
from scribbleseg.data.formats import FORMATS
from scribbleseg.data.formats.contents import About, Annotated
from scribbleseg.data.images import write_png, write_tiff
from scribbleseg.errors import DataError, ScribblesegError

if TYPE_CHECKING:
    from scribbleseg.annotate.project import Project

#: What tells of the export, in the archive.
ABOUT = "about.txt"


class Progress:
    """How far an export is, for /api/status; the newest of several."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told: dict[str, int] | None = None

    def tell(self, done: int, number: int) -> None:
        """Take note."""
        with self._lock:
            self._told = None if done == number else {"done": done, "of": number}

    def tree(self) -> dict[str, int] | None:
        """Return ``done`` and ``of``, images; None where there is no export under way."""
        with self._lock:
            return self._told


def export_predictions(project: Project, learner: Learning, kind: str, progress: Progress) -> Generator[bytes, None, None]:
    """Predict every image with the model that is shown, and yield an archive of the labels at the images' sizes.

    ``about.txt``, its last file, names the model, and the images that could not be predicted.

    Cost: memory and disk for one image.

    Raises:
        DataError: an unknown kind of file, or no model yet.
        ConfigError: a library that writes this kind of file is not installed.
    """
    if kind not in ("png", "tiff", "geojson"):
        raise DataError("format", "png, tiff or geojson", f"{kind!a:.50}", "choose one of them")
    rows = project.images()
    found = learner.predictions([row.id for row in rows])
    stems = {row.id: row.stem for row in rows}
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(scratch(project, "exports"))
        about = About(project.spec.name, project.names)
        add = stack.enter_context(FORMATS["qupath"].writer(out, about)) if kind == "geojson" else None
        later = stack.pop_all()

    def write(stem: str, labels: np.ndarray) -> None:
        if add is not None:
            add(Annotated(stem, labels))
        else:
            (write_png if kind == "png" else write_tiff)(out / f"{stem}.{'png' if kind == 'png' else 'tif'}", labels)

    def chunks() -> Generator[bytes, None, None]:
        sink, failed, models = Sink(), list[str](), set[str]()
        with later, zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for done, (image, made) in enumerate(found):
                progress.tell(done, len(rows))
                try:
                    if isinstance(made, ScribblesegError):
                        raise made
                    write(stems[image], resized(made.labels, project.size(image)))
                    models.add(f"{made.title}, no. {made.number}")
                except ScribblesegError as error:
                    failed.append(" ".join(str(error).split()))
                moved_into(archive, out)
                yield sink.taken()
            archive.writestr("names.txt", "".join(f"{name}\n" for name in project.names))
            told = [f"model: {name}" for name in sorted(models)] + [f"images: {len(rows) - len(failed)} of {len(rows)}"]
            archive.writestr(ABOUT, "".join(f"{line}\n" for line in told + [f"not predicted: {line}" for line in failed]))
        yield sink.taken()

    def watched() -> Generator[bytes, None, None]:
        try:
            yield from chunks()
        finally:  # also where the page was closed in the middle
            later.close()
            progress.tell(0, 0)

    return watched()


class Sink:
    """Collects what a zip file writes until it is taken away; it cannot seek, so nothing in it is written twice."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        """Take bytes."""
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def taken(self) -> bytes:
        """Return what was written since the last time."""
        data = b"".join(self._parts)
        self._parts.clear()
        return data


def moved_into(archive: zipfile.ZipFile, folder: Path) -> None:
    """Put the files of a folder into an archive and take them off the disk."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            archive.write(path, path.relative_to(folder).as_posix())
            path.unlink()


def resized(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return labels at another size, each pixel as the nearest one."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int).clip(0, old - 1) for new, old in zip(size, labels.shape, strict=True)
    )
    return labels[rows[:, None], columns]
