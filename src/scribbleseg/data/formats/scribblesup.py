"""ScribbleSup's XML for PASCAL VOC: one file an image, open lines with the name of their class."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from scribbleseg.atomic import storage_error, write_text
from scribbleseg.data.formats.canvas import Canvas
from scribbleseg.data.formats.contents import About, Add, Annotated, Format, Options, Source, become, each, in_order
from scribbleseg.data.formats.index_png import listed_names
from scribbleseg.data.formats.pictures import find_picture, near, write_picture
from scribbleseg.data.formats.safety import as_points, check_shape, files_in, head, library, reading, safe_name
from scribbleseg.errors import DataError
from scribbleseg.records import UNLABELLED

#: A file of ScribbleSup has some kilobytes.
MAX_XML = 256 << 20


class ScribbleSup(Format):
    """Read and write polylines; drawn ``--width`` wide, 3 pixels as in the field's rasters."""

    title = "ScribbleSup XML"
    unlabelled = "where no line is"
    holds = "STEM.xml: polygons, which are open lines, each with a tag; X and Y count pixels; names from names.txt"
    writes = "STEM.xml, images/, names.txt; only images whose strokes are lines of one width, which the file does not keep"
    extra = "formats"
    source = "https://github.com/meng-tang/rloss"

    def recognise(self, path: Path) -> str | None:
        """See the base class."""
        files = [path] if path.suffix.lower() == ".xml" else files_in(path, ".xml") if path.is_dir() else []
        text = head(files[0]) if files else ""
        known = "<annotation>" in text and ("<polygon>" in text or "<size>" in text) and "<bndbox>" not in text
        return f"ScribbleSup XML with open lines, as {files[0].name}" if known else None

    def read(self, path: Path, options: Options) -> Source:
        """See the base class. Without names every file is read once before, to collect the tags."""
        library("defusedxml.ElementTree", "ScribbleSup XML")
        found = [path] if path.is_file() else files_in(path, ".xml")
        files = {safe_name(file.stem, file): file for file in found}
        tags: set[str] = set()
        known = options.names or listed_names(path if path.is_dir() else path.parent)
        for file in files.values() if known is None else ():
            with contextlib.suppress(DataError):
                tags |= {_text(polygon, "tag", file) for polygon in _tree(file).iter("polygon")}
        names = in_order(tags, known)
        if not names or len(names) > 254:
            raise DataError(
                path, "XML files with lines of 1 to 254 classes", f"{len(names)} classes", "name the folder of XML files"
            )
        folders = near(path, options.images)

        def load(stem: str) -> Annotated:
            file = files[stem]
            tree = _tree(file)
            size = tree.find("size")
            if size is None:
                raise DataError(file, "a size", "none", "export the file again")
            canvas = Canvas(file, check_shape(file, size.findtext("height"), size.findtext("width")), names, options.width_px)
            for polygon in tree.iter("polygon"):
                points = [(point.findtext("X"), point.findtext("Y")) for point in polygon.iter("point")]
                if points:
                    canvas.line(_text(polygon, "tag", file), as_points(file, points) + 0.5)
            return Annotated(stem, canvas.labels(), find_picture(stem, folders), canvas.strokes())

        told = f"where no line is means not annotated (ScribbleSup); {become(names)}; lines are {options.width_px:g} px wide"
        return Source(names, told, each(files, load))

    @contextlib.contextmanager
    def writer(self, out: Path, about: About) -> Iterator[Add]:
        """See the base class. Points that lie between pixels are written with decimals."""
        width_px: float | None = None

        def add(image: Annotated) -> None:
            nonlocal width_px
            name = image.stem.replace("/", "__")
            if (out / f"{name}.xml").exists():
                raise DataError(image.stem, "a name of its own without folders", name, "rename the image")
            if not image.strokes or any(stroke.tool != "brush" for stroke in image.strokes):
                got = (
                    "an eraser" if image.strokes else "pixels alone" if (image.labels != UNLABELLED).any() else "nothing drawn"
                )
                raise DataError(image.stem, "strokes as lines", got, "choose a format that keeps pixels: --to dataset")
            widths = {stroke.width_px for stroke in image.strokes} | ({width_px} if width_px is not None else set())
            if len(widths) > 1:
                got = ", ".join(f"{width:g}" for width in sorted(widths))
                raise DataError(
                    image.stem, "lines of one width in all images", got, "choose a format that keeps it: --to strokes"
                )
            write_picture(dataclasses.replace(image, stem=name), out / "images")
            _write(out / f"{name}.xml", image, about.names)
            width_px = widths.pop()

        yield add
        write_text(out / "names.txt", "\n".join(about.names) + "\n")


def _write(path: Path, image: Annotated, names: tuple[str, ...]) -> None:
    root = ElementTree.Element("annotation")
    size = ElementTree.SubElement(root, "size")
    for key, number in zip(("height", "width"), image.labels.shape, strict=True):
        ElementTree.SubElement(size, key).text = str(number)
    for stroke in image.strokes:
        polygon = ElementTree.SubElement(root, "polygon")
        ElementTree.SubElement(polygon, "tag").text = names[stroke.label]
        for place in stroke.points - 0.5:
            point = ElementTree.SubElement(polygon, "point")
            for key, value in zip("XY", place, strict=True):
                ElementTree.SubElement(point, key).text = np.format_float_positional(value, trim="-")
    ElementTree.indent(root)
    try:
        ElementTree.ElementTree(root).write(path, encoding="utf-8")
    except OSError as error:
        raise storage_error(error, path) from None


def _tree(path: Path) -> Any:
    """Parse a file; entities and document types are refused."""
    parser = library("defusedxml.ElementTree", "ScribbleSup XML")
    with reading(path, "ScribbleSup XML"):
        if path.stat().st_size > MAX_XML:
            raise DataError(path, f"at most {MAX_XML >> 20} MiB", "more", "check that this is an annotation")
        return parser.parse(path, forbid_dtd=True).getroot()


def _text(node: Any, name: str, where: Path) -> str:
    text = (node.findtext(name) or "").strip()
    if not text or len(text) > 200:
        raise DataError(where, f"a {name} for every line", text[:40] or "none", "export the file again")
    return text
