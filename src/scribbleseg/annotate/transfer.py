"""Strokes, predictions and models out of a project, and strokes of other tools into it."""

from __future__ import annotations

import contextlib
import shutil
import stat
import tempfile
import uuid
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scribbleseg.annotate.classes import ClassChange
from scribbleseg.annotate.project import Project
from scribbleseg.annotate.strokes import told_of
from scribbleseg.atomic import storage_error
from scribbleseg.data.convert import convert
from scribbleseg.data.formats import FORMATS, format_named, recognise
from scribbleseg.data.formats.contents import Annotated, Options
from scribbleseg.data.formats.labels import check_ids
from scribbleseg.data.formats.safety import safe_name
from scribbleseg.errors import ConfigError, DataError, ScribblesegError
from scribbleseg.records import UNLABELLED

#: An archive is refused beyond these: files, and bytes when unpacked.
MAX_FILES, MAX_UNPACKED = 200_000, 8 * 2**30


@dataclass
class Joined:
    """What an import did: images that got strokes or labels, and why others did not."""

    converted: int = 0
    failed: list[dict[str, str]] = field(default_factory=list)


@contextlib.contextmanager
def scratch(project: Project, name: str) -> Iterator[Path]:
    """Yield a folder for files on their way, beside the state; it is gone afterwards."""
    parent = project.state / name
    try:
        parent.mkdir(exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=parent))
    except OSError as error:
        raise storage_error(error, parent) from None
    try:
        yield folder
    except OSError as error:
        raise storage_error(error, parent) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def export_strokes(project: Project, target: str, folder: Path) -> Path:
    """Write all strokes in a format of ``convert`` and return the archive."""
    if target not in FORMATS or not FORMATS[target].writes:
        raise ConfigError(
            "format", f"one of {', '.join(k for k, f in FORMATS.items() if f.writes)}", f"{target!a:.50}", "choose"
        )
    project.files.flush()
    convert(project.root, folder / "out", source="dataset", target=target)
    return zipped(folder / "out", folder / "strokes.zip")


def export_model(project: Project, folder: Path) -> Path:
    """Return the newest trained model as an archive.

    Raises:
        DataError: none was trained.
    """
    found = sorted(
        project.state.glob("runs/*/run/model/*.safetensors"), key=lambda path: (len(number := path.parts[-4]), number)
    )
    if not found:
        raise DataError("model", "a trained model", "none yet", "start a training and let it finish")
    return zipped(found[-1].parent, folder / "model.zip")


def zipped(folder: Path, archive: Path) -> Path:
    """Pack a folder into an archive."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                file.write(path, path.relative_to(folder).as_posix())
    return archive


def unpacked(archive: Path, folder: Path) -> Path:
    """Unpack an archive of files with plain names; return its only folder, or the folder unpacked into.

    Raises:
        DataError: broken, too much in it, links, or names that leave the folder.
    """
    where = archive.name
    try:
        with zipfile.ZipFile(archive) as file:
            members = [m for m in file.infolist() if not m.is_dir()]
            if len(members) > MAX_FILES or sum(m.file_size for m in members) > MAX_UNPACKED:
                got = f"{len(members)} files"
                raise DataError(where, f"at most {MAX_FILES} files, {MAX_UNPACKED >> 30} GiB unpacked", got, "import in parts")
            for member in members:
                name = safe_name(member.filename, where)
                if stat.S_ISLNK(member.external_attr >> 16) or member.flag_bits & 1:
                    raise DataError(where, "plain files", f"a link or locked file: {name!a:.100}", "pack the files themselves")
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with file.open(member) as source, target.open("wb") as sink:
                    _copied(source, sink, member.file_size, where)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, ValueError) as error:
        raise DataError(where, "an archive that can be unpacked", str(error)[:200], "pack it again as .zip") from None
    inside = list(folder.iterdir())
    return inside[0] if len(inside) == 1 and inside[0].is_dir() and inside[0].name not in ("strokes", "images") else folder


def _copied(source: Any, sink: Any, size: int, where: str) -> None:
    left = size
    while chunk := source.read(min(2**20, left + 1)):
        left -= len(chunk)
        if left < 0:
            raise DataError(where, "files as large as the archive says", "a larger one", "pack it again")
        sink.write(chunk)


def join(project: Project, path: Path, name: str | None, unlabelled: str | None) -> Joined:
    """Add the strokes and labels of a file or folder of another tool to the images of the same names.

    Strokes as lines are drawn over what is there, one undoable command each; labels become the ground under the strokes, as
    one undoable command an image. Classes are matched by name; unknown ones are added.

    Raises:
        DataError: nothing can be read in it.
    """
    name = recognise(path)[0] if name is None else name
    options = Options(unlabelled=unlabelled, images=project.root / project.spec.images)
    opened = format_named(name, "format").read(path, options)
    rows = project.images()
    names = Counter(Path(row.stem).name for row in rows)
    by_name = {Path(row.stem).name: row.id for row in rows if names[Path(row.stem).name] == 1}  # other tools know no folders
    images = {row.stem: row.id for row in rows}
    joined, table = Joined(), np.full(256, UNLABELLED, np.uint8)
    try:
        for item in opened.items:
            try:
                image = item.load()
                check_ids(item.stem, image.labels, opened.names)
                id_ = images.get(image.stem, by_name.get(Path(image.stem).name))
                if id_ is None:
                    raise DataError(image.stem, "the name of an image of this project", "none", "rename the file")
                if not joined.converted:
                    for label, class_name in enumerate(opened.names):
                        table[label] = _class_named(project, class_name)
                _enter(project, id_, image, table)
                joined.converted += 1
            except ScribblesegError as error:
                joined.failed.append({"where": error.where, "expected": error.expected, "got": error.got, "do": error.do})
    except DataError as error:
        joined.failed.append({"where": error.where, "expected": error.expected, "got": error.got, "do": error.do})
    if not joined.converted and not joined.failed:
        raise DataError(name, "labels or strokes of at least one image", "none", "choose its format, or pack the files anew")
    return joined


def _class_named(project: Project, name: str) -> int:
    if name not in project.names:
        project.change(project.class_version, ClassChange(op="add", name=name[:200]))
    return project.names.index(name)


def _enter(project: Project, image: int, found: Annotated, table: np.ndarray) -> None:
    if found.labels.shape != project.size(image):
        height, width = project.size(image)
        got = f"{found.labels.shape[1]} × {found.labels.shape[0]}"
        raise DataError(found.stem, f"strokes for an image of {width} × {height} px", got, "use the same pictures")
    labels = table[found.labels]
    with project.log.lock:
        if found.strokes:
            uids = project.classes.uids
            told = [told_of(s, f"import-{uuid.uuid4().hex}", uids[int(table[s.label]) % len(uids)]) for s in found.strokes]
            project.commit(image, [(line["id"], {"op": "add", "stroke": line}) for line in told])
        elif (labels != UNLABELLED).any():
            shown, base, _, classes = project.shown(image)
            if base is not None:
                labels = np.where(labels == UNLABELLED, project.raster(image, [], base, classes), labels)
            body = project.files.replacement(image, labels, found.stem)
            body["strokes"] = [told_of(d.stroke, d.id, d.uid) for d, _ in shown]
            project.commit(image, [(f"import-{uuid.uuid4().hex}", body)])
