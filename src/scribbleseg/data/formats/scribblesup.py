"""ScribbleSup's XML for PASCAL VOC: one file an image, open lines with the name of their class."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from scribbleseg.data.formats.canvas import Canvas
from scribbleseg.data.formats.contents import Annotated, Format, Options, Source, become, each, in_order
from scribbleseg.data.formats.pictures import find_picture, near
from scribbleseg.data.formats.safety import as_points, check_shape, files_in, head, library, reading, safe_name
from scribbleseg.errors import DataError

#: A file of ScribbleSup has some kilobytes.
MAX_XML = 256 << 20


class ScribbleSup(Format):
    """Read polylines; drawn ``--width`` wide, 3 pixels as in the field's rasters."""

    title = "ScribbleSup XML"
    unlabelled = "where no line is"
    holds = "STEM.xml: polygons, which are open lines, each with a tag; X and Y count pixels"
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
        for file in files.values() if options.names is None else ():
            with contextlib.suppress(DataError):
                tags |= {_text(polygon, "tag", file) for polygon in _tree(file).iter("polygon")}
        names = in_order(tags, options.names)
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
