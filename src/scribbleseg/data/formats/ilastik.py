"""ilastik: the label blocks of a project (``.ilp``), and exported label images."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from scribbleseg.atomic import write_text
from scribbleseg.data.formats.contents import About, Add, Annotated, Format, Item, Options, Source, become
from scribbleseg.data.formats.ilastik_project import written_project
from scribbleseg.data.formats.labels import check_ids, from_zero, to_ours
from scribbleseg.data.formats.pictures import FOLDERS, find_picture, near, write_png
from scribbleseg.data.formats.safety import check_shape, files_in, library, only_file, reading, safe_stem
from scribbleseg.data.formats.stacks import axes_of, check_data, write_zero_tiff, zero_source
from scribbleseg.data.formats.volumes import PATTERN, check_volume, cut, failing, stack_picture
from scribbleseg.data.images import image_size
from scribbleseg.errors import DataError

#: What ilastik puts behind the name of an exported label image.
ENDINGS = ("_Labels", "_labels")
EXPORTED = (".h5", ".hdf5", ".tif", ".tiff", ".png")

#: Older versions kept erased pixels as this value.
ERASED = 100


class Ilastik(Format):
    """Read projects and exported labels; write a project, and label images that ilastik's "Import Labels" takes."""

    title = "ilastik project or exported labels"
    unlabelled = "0; class 1 is the first"
    holds = ".ilp of pixel classification; STEM_Labels.h5, .tif or .png; stacks as slices"
    writes = "project.ilp of the pictures in images/ (PNG), the labels in it and as STEM_Labels.tif with 0, names.txt"
    extra = "formats"
    source = "https://github.com/ilastik/ilastik/blob/main/ilastik/applets/base/appletSerializer/slotSerializer.py"

    def recognise(self, path: Path) -> str | None:
        """See the base class."""
        if (project := only_file(path, ".ilp")) is not None:
            return f"an ilastik project, {project.name}"
        files = exported_files(path)
        return f"a label image as ilastik exports it, {files[0].name}" if files else None

    def read(self, path: Path, options: Options) -> Source:
        """See the base class."""
        project = only_file(path, ".ilp")
        if project is not None:
            return _read_project(project, options)
        files = exported_files(path) or ([path] if path.is_file() else files_in(path, *EXPORTED))
        return zero_source(path, path if path.is_dir() else path.parent, files, options, "ilastik", ENDINGS)

    @contextlib.contextmanager
    def writer(self, out: Path, about: About) -> Iterator[Add]:
        """See the base class."""
        channels: int | None = None
        with written_project(out / "project.ilp", about.names) as add_lane:

            def add(image: Annotated) -> None:
                nonlocal channels
                name = f"images/{image.stem}.png"
                if any(letter in name for letter in "*?[:;"):
                    got = f"'{image.stem}'"
                    raise DataError(
                        image.stem, "a name without * ? [ : ; which mean several files to ilastik", got, "rename it"
                    )
                channels = write_png(image, out / name, channels)
                labels = from_zero(image.labels)
                write_zero_tiff(out / f"{image.stem}_Labels.tif", image.labels)
                add_lane(name, channels, labels)

            yield add
        write_text(out / "names.txt", "\n".join(about.names) + "\n")


@dataclass(frozen=True)
class Lane:
    """One image of a project.

    Attributes:
        group: path of its label blocks inside the file, or None where nothing was ever drawn.
        stem: name of the image.
        shape: of the raw data, or None if the project does not say.
        axes: of the raw data and of the blocks, as ``yxc``.
    """

    group: str | None
    stem: str
    shape: tuple[int, ...] | None
    axes: str


def exported_files(path: Path) -> list[Path]:
    """Return the exported label images at a path."""
    found = [path] if path.is_file() else files_in(path, *EXPORTED, deep=True) if path.is_dir() else []
    return [p for p in found if p.suffix.lower() in EXPORTED and p.stem.endswith(ENDINGS)]


def _read_project(path: Path, options: Options) -> Source:
    h5py = library("h5py", "ilastik projects")
    with reading(path, "an ilastik project"), h5py.File(path, "r") as file:
        applet = file.get("PixelClassification")
        if applet is None or "LabelSets" not in applet:
            do = "open a pixel classification project, or export the labels from ilastik"
            raise DataError(path, "PixelClassification/LabelSets in the project", ", ".join(file)[:200], do)
        stored = _strings(applet.get("LabelNames"))
        lanes = _lanes(file, applet["LabelSets"])
    names = options.names or stored
    if not names or len(names) > 254:
        raise DataError(path, "1 to 254 label names in the project", str(len(names)), "name the classes: --names a,b")
    folders = near(path, options.images)

    def items() -> Iterator[Item]:
        for lane in lanes:
            try:
                yield from _lane_items(path, lane, folders, names)
            except DataError as error:
                yield failing(lane.stem, error)

    return Source(names, f"0 means not annotated (ilastik); its labels {become(names)}", items(), PATTERN)


def _strings(data: Any) -> tuple[str, ...]:
    """Return the strings of an HDF5 list of at most 254."""
    if data is None or len(data.shape) != 1 or data.shape[0] > 254 or data.dtype.kind not in "OS":
        return ()
    values = data[()]
    return tuple(v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values)


def _lanes(file: Any, sets: Any) -> list[Lane]:
    infos = file["Input Data/infos"]
    groups = sorted((int(re.sub(r"\D", "", k) or 0), k) for k in sets)
    by_number = {n: f"PixelClassification/LabelSets/{k}" for n, k in groups}
    lanes = []
    for number, key in enumerate(sorted(infos)):
        info = infos[key].get("Raw Data", infos[key])
        shape = tuple(int(n) for n in info["shape"][()]) if "shape" in info and info["shape"].size <= 5 else None
        tags = info["axistags"][()] if "axistags" in info else info["axisorder"][()] if "axisorder" in info else b""
        text = info["filePath"][()]
        raw = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
        parts = PureWindowsPath(re.sub(r"(\.(h5|hdf5|ilp))[/\\].*$", r"\1", raw)).parts  # splits at / and at \
        name = "/".join(parts[1:] if len(parts) > 1 and parts[0] in FOLDERS else parts[-1:])  # images/ARM/1.png is ARM/1
        lanes.append(
            Lane(by_number.get(number), re.sub(r"\.(h5|hdf5)$", "", name), shape, axes_of(tags, len(shape or ())) or "yxc")
        )
    return lanes


def _lane_items(path: Path, lane: Lane, folders: tuple[Path, ...], names: tuple[str, ...]) -> Iterator[Item]:
    stem = safe_stem(lane.stem, path)
    picture = find_picture(stem, folders)
    shape, axes = lane.shape, lane.axes
    if shape is None:
        if picture is None:
            raise DataError(stem, "its size in the project, or its picture", "neither", "give --images FOLDER")
        shape, axes = (*image_size(picture), 1), "yxc"
    check_volume(path, shape)
    if not {"y", "x"} <= set(axes):
        raise DataError(path, "axes y and x", axes, "open and save the project with a newer ilastik")
    extent = dict(zip(axes, shape, strict=True))
    size = check_shape(path, extent["y"], extent["x"])
    leading = [a for a in axes if a not in "yxc"]
    number = int(np.prod([extent[a] for a in leading], dtype=np.int64)) if leading else 1

    def labels_of(k: int) -> np.ndarray:
        place = dict(zip(leading, np.unravel_index(k, [extent[a] for a in leading]), strict=True)) if leading else {}
        return _plane(path, lane, axes, extent, size, {a: int(n) for a, n in place.items()}, names)

    yield from cut(path, stem, number, labels_of, lambda k: stack_picture(picture, k, number))


def _plane(
    path: Path,
    lane: Lane,
    axes: str,
    extent: dict[str, int],
    size: tuple[int, int],
    place: dict[str, int],
    names: tuple[str, ...],
) -> np.ndarray:
    """Return the labels of one plane of a lane, put together from its blocks."""
    plane = np.zeros(size, dtype=np.uint8)
    h5py = library("h5py", "ilastik projects")
    with reading(path, "an ilastik project"), h5py.File(path, "r") as file:
        for key, block in file[lane.group].items() if lane.group is not None else ():
            where = f"{path}: {lane.group}/{key}"
            check_data(where, block)
            text = block.attrs["blockSlice"]
            bounds = re.findall(r"(\d{1,9}):(\d{1,9})", text.decode() if isinstance(text, bytes) else str(text))
            spans = {a: (int(b), int(e)) for a, (b, e) in zip(axes, bounds, strict=False)}
            shape = tuple(e - b for b, e in spans.values())
            if (
                len(bounds) != len(axes)
                or shape != block.shape
                or any(e > extent[a] for a, (_, e) in spans.items() if a != "c")
            ):
                got = f"{bounds} for {block.shape} of {extent}"[:200]
                raise DataError(where, "a block of its stated extent inside the image", got, "save the project again")
            if all(spans[a][0] <= n < spans[a][1] for a, n in place.items()):
                index = tuple(place[a] - spans[a][0] if a in place else 0 if a == "c" else slice(None) for a in axes)
                values = np.asarray(block[index])
                values = values if axes.index("y") < axes.index("x") else values.T
                target = plane[spans["y"][0] : spans["y"][1], spans["x"][0] : spans["x"][1]]
                target[values > 0] = values[values > 0]
    if len(names) < ERASED:
        plane[plane == ERASED] = 0
    labels = to_ours(path, plane, 0)
    check_ids(path, labels, names)
    return labels
