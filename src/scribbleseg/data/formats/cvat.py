"""CVAT's own XML, "CVAT for images": masks, polylines, polygons and points."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np

from scribbleseg.data.formats.canvas import Canvas
from scribbleseg.data.formats.contents import About, Add, Annotated, Format, Item, Options, Source, become, in_order
from scribbleseg.data.formats.labels import read_runs, runs_of
from scribbleseg.data.formats.pictures import find_picture, near, write_picture
from scribbleseg.data.formats.safety import as_points, check_shape, head, library, only_file, reading, safe_stem
from scribbleseg.data.formats.volumes import failing
from scribbleseg.errors import DataError
from scribbleseg.palette import hex_colours

SHAPES = ("mask", "polyline", "polygon", "points")

#: Shapes that say where something is, not which pixels it has.
OTHERS = ("box", "ellipse", "cuboid", "skeleton")


class Cvat(Format):
    """Read and write annotations.xml, an image at a time."""

    title = "CVAT for images 1.1 (XML)"
    unlabelled = "where no shape is"
    holds = "masks, polylines and points (`--width`), polygons; in z-order"
    writes = "annotations.xml with masks, images/"
    extra = "formats"
    source = "https://docs.cvat.ai/docs/manual/advanced/xml_format/"

    def recognise(self, path: Path) -> str | None:
        """See the base class."""
        file = only_file(path, ".xml")
        known = file is not None and "<annotations>" in head(file)
        return f"CVAT's XML, {file.name}" if file is not None and known else None

    def read(self, path: Path, options: Options) -> Source:
        """See the base class. The order of the classes is that of the task's labels."""
        file = only_file(path, ".xml")
        if file is None:
            raise DataError(path, "one XML file of CVAT", "none, or several", "name the file")
        names = options.names or _names(file)
        folders = near(file, options.images)

        def items() -> Iterator[Item]:
            for node in _images(file):
                name = str(node.get("name"))
                try:
                    image = _load(file, node, names, folders, options.width_px)
                except DataError as error:
                    yield failing(name[:200], error)
                else:
                    yield Item(image.stem, lambda image=image: image)

        told = f"where no shape is means not annotated (CVAT); {become(names)}; lines are {options.width_px:g} px wide"
        return Source(names, told, items())

    @contextlib.contextmanager
    def writer(self, out: Path, about: About) -> Iterator[Add]:
        """See the base class."""
        number = 0
        with (out / "annotations.xml").open("w", encoding="utf-8") as stream:
            stream.write(
                '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n<meta><task><labels>\n'
            )
            for name, colour in zip(about.names, hex_colours(len(about.names)), strict=True):
                stream.write(f"<label><name>{quoteattr(name)[1:-1]}</name><color>{colour}</color><type>mask</type></label>\n")
            stream.write("</labels></task></meta>\n")

            def add(image: Annotated) -> None:
                nonlocal number
                name = write_picture(image, out / "images") if image.image is not None else f"{image.stem}.png"
                height, width = image.labels.shape
                stream.write(f'<image id="{number}" name={quoteattr(name)} width="{width}" height="{height}">\n')
                for class_id, label in enumerate(about.names):
                    inside = image.labels == class_id
                    if inside.any():
                        stream.write(_mask(label, inside))
                stream.write("</image>\n")
                number += 1

            yield add
            stream.write("</annotations>\n")


def _mask(label: str, inside: np.ndarray) -> str:
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    top, left, bottom, right = rows[0], columns[0], rows[-1] + 1, columns[-1] + 1
    runs = ", ".join(map(str, runs_of(inside[top:bottom, left:right].ravel())))
    place = f'left="{left}" top="{top}" width="{right - left}" height="{bottom - top}"'
    return f'<mask label={quoteattr(label)} source="manual" occluded="0" rle="{runs}" {place} z_order="0"></mask>\n'


def _events(file: Path, *kinds: str) -> Iterator[tuple[str, Any]]:
    """Yield parsing events; entities and document types are refused."""
    parser = library("defusedxml.ElementTree", "CVAT's XML")
    with file.open("rb") as stream:
        events = iter(parser.iterparse(stream, events=kinds, forbid_dtd=True))
        while True:
            with reading(file, "CVAT's XML"):
                event = next(events, None)
            if event is None:
                return
            yield event


def _names(file: Path) -> tuple[str, ...]:
    """Return the labels of the task in their order, or those that occur, sorted."""
    listed: list[str] = []
    found: set[str] = set()
    for _, node in _events(file, "end"):
        if node.tag == "label":
            listed.append(node.findtext("name") or "")
        elif node.tag == "meta" and listed:
            break
        elif node.tag in SHAPES:
            found.add(node.get("label") or "")
        elif node.tag == "image":
            node.clear()
    names = tuple(dict.fromkeys(listed)) or in_order(found, None)
    if not names or len(names) > 254 or not all(names):
        raise DataError(file, "1 to 254 named labels", ", ".join(names)[:200] or "none", "check the export, or use --names")
    return names


def _images(file: Path) -> Iterator[Any]:
    """Yield the image elements one at a time."""
    root = None
    for event, node in _events(file, "start", "end"):
        if root is None:
            root = node
        if event == "end" and node.tag == "image":
            yield node
            root.clear()
        elif event == "end" and node.tag == "track":
            raise DataError(file, "CVAT for images", "CVAT for video: tracks", 'export as "CVAT for images 1.1"')


def _load(file: Path, node: Any, names: tuple[str, ...], folders: tuple[Path, ...], width_px: float) -> Annotated:
    stem = safe_stem(node.get("name"), file)
    where = f"{file}: {stem}"
    size = check_shape(where, node.get("height"), node.get("width"))
    canvas = Canvas(where, size, names, width_px)
    strange = [child.tag for child in node if child.tag in OTHERS]
    if strange:
        do = "redraw it as a mask, polyline or polygon, or delete it"
        raise DataError(where, f"shapes that are {', '.join(SHAPES)}", f"a {strange[0]}", do)
    for child in sorted((c for c in node if c.tag in SHAPES), key=lambda c: _whole(where, c.get("z_order", "0"))):
        label = child.get("label")
        if child.tag == "mask":
            left, top, width, height = (_whole(where, child.get(k)) for k in ("left", "top", "width", "height"))
            if min(left, top) < 0 or min(width, height) < 1 or top + height > size[0] or left + width > size[1]:
                got = f"{width} × {height} at {left}, {top}"
                raise DataError(where, f"a mask inside {size[1]} × {size[0]} pixels", got, "export again")
            runs = re.findall(r"[^,\s]+", child.get("rle") or "")
            inside = read_runs(where, [_whole(where, run) for run in runs], width * height)
            canvas.region(label, inside.reshape(height, width), (top, left))
            continue
        points = as_points(where, [pair.split(",") for pair in (child.get("points") or "").split(";")])
        if child.tag == "polygon":
            canvas.polygon(label, [points])
        elif child.tag == "polyline":
            canvas.line(label, points)
        else:
            for point in points:
                canvas.line(label, point[None])
    return Annotated(stem, canvas.labels(), find_picture(stem, folders), canvas.strokes())


def _whole(where: object, text: object) -> int:
    if not isinstance(text, str) or not re.fullmatch(r"-?\d{1,10}", text.strip()):
        raise DataError(where, "a whole number", repr(text)[:60], "export the file again")
    return int(text)
