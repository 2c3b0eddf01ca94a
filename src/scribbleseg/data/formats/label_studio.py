"""Label Studio's JSON export: brush strokes as run lengths, polygons, key points."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import quoteattr

import numpy as np

from scribbleseg.atomic import write_text
from scribbleseg.data.formats.brush_rle import decode_brush, encode_brush
from scribbleseg.data.formats.canvas import Canvas
from scribbleseg.data.formats.contents import About, Add, Annotated, Format, Item, Options, Source, become, in_order
from scribbleseg.data.formats.pictures import find_picture, near, write_picture
from scribbleseg.data.formats.safety import (
    as_points,
    check_depth,
    check_shape,
    head,
    library,
    number,
    only_file,
    reading,
    safe_stem,
)
from scribbleseg.data.formats.volumes import failing
from scribbleseg.data.images import image_size
from scribbleseg.errors import DataError
from scribbleseg.palette import hex_colours
from scribbleseg.records import UNLABELLED

#: Kinds of region that say which pixels; the others are told, not dropped.
KINDS = ("brush", "polygon", "keypoint")

#: Kinds of result that are no regions.
ASIDE = ("choices", "textarea", "rating", "number", "relation", "taxonomy", "pairwise", "datetime")


class LabelStudio(Format):
    """Read and write tasks with annotations, one task at a time."""

    title = "Label Studio JSON"
    unlabelled = "where no region is"
    holds = "brush masks, polygons, key points (dots of `--width`); of several annotations the last; JSON and JSON-MIN"
    writes = "label-studio.json with brush masks, label-config.xml, images/"
    extra = "formats"
    source = "https://github.com/HumanSignal/label-studio-sdk/blob/master/src/label_studio_sdk/converter/brush.py"

    def recognise(self, path: Path) -> str | None:
        """See the base class."""
        file = only_file(path, ".json")
        text = head(file, 1 << 16).lstrip("\ufeff \n\r\t") if file is not None else ""
        words = [
            w for w in ("annotations", "completions", "brushlabels", "polygonlabels", "keypointlabels") if f'"{w}"' in text
        ]
        known = file is not None and text.startswith("[") and words
        return f"a Label Studio export: a list of tasks with `{words[0]}`" if known else None

    def read(self, path: Path, options: Options) -> Source:
        """See the base class. Without names or a label-config.xml the tasks are read once before, to collect the labels."""
        file = only_file(path, ".json")
        if file is None:
            raise DataError(path, "one JSON file of Label Studio", "none, or several", "name the file")
        names = options.names or _configured(file.parent / "label-config.xml") or in_order(_labels(file), None)
        if not names or len(names) > 254:
            raise DataError(file, "regions with 1 to 254 labels", str(len(names)), "check the export, or use --names")
        folders = near(file, options.images)

        def items() -> Iterator[Item]:
            for place, task in enumerate(_tasks(file)):
                try:
                    with reading(f"{file}: task {place}", "a task of Label Studio"):
                        image = _load(f"{file}: task {place}", task, names, folders, options.width_px)
                except DataError as error:
                    yield failing(f"task {place}", error)
                else:
                    yield Item(image.stem, lambda image=image: image)

        told = f"where no region is means not annotated (Label Studio); {become(names)}"
        return Source(names, told, items())

    @contextlib.contextmanager
    def writer(self, out: Path, about: About) -> Iterator[Add]:
        """See the base class. Serve the folder above as local files to see the pictures in Label Studio."""
        pairs = zip(about.names, hex_colours(len(about.names)), strict=True)
        labels = "".join(f"\n    <Label value={quoteattr(name)} background={quoteattr(c)}/>" for name, c in pairs)
        config = f'<BrushLabels name="tag" toName="image">{labels}\n  </BrushLabels>'
        write_text(out / "label-config.xml", f'<View>\n  <Image name="image" value="$image"/>\n  {config}\n</View>\n')
        with (out / "label-studio.json").open("w", encoding="utf-8") as stream:
            stream.write("[")
            count = 0

            def add(image: Annotated) -> None:
                nonlocal count
                name = write_picture(image, out / "images") if image.image is not None else f"{image.stem}.png"
                result = [
                    region(label, image.labels == k, f"region{k}")
                    for k, label in enumerate(about.names)
                    if (image.labels == k).any()
                ]
                data = {"image": f"/data/local-files/?d={about.name}/images/{name}"}
                task = {"id": count + 1, "data": data, "annotations": [{"result": result}]}
                stream.write((",\n" if count else "\n") + json.dumps(task, ensure_ascii=False))
                count += 1

            yield add
            stream.write("\n]\n")


def region(label: str, inside: np.ndarray, name: str, control: str = "tag", picture: str = "image") -> dict[str, Any]:
    """Return a brush mask, bool (H, W), as a result of Label Studio; see :func:`framed`."""
    value = {"format": "rle", "rle": encode_brush(inside), "brushlabels": [label]}
    return framed("brushlabels", value, inside.shape, name, control, picture)


def framed(kind: str, value: dict[str, Any], size: tuple[int, ...], name: str, control: str, picture: str) -> dict[str, Any]:
    """Return a region with what Label Studio wants around it.

    Args:
        kind: ``brushlabels`` or ``polygonlabels``.
        value: what the region is.
        size: (height, width) of the image.
        name: of the region, unique in its image.
        control: ``name`` of the labelling configuration's ``BrushLabels``.
        picture: ``name`` of its ``Image``.
    """
    return {
        "id": name,
        "type": kind,
        "from_name": control,
        "to_name": picture,
        "original_width": size[1],
        "original_height": size[0],
        "image_rotation": 0,
        "value": value,
    }


def _tasks(file: Path) -> Iterator[Any]:
    """Yield the tasks of an export one at a time."""
    ijson = library("ijson", "Label Studio JSON")
    check_depth(file)  # the parser's time grows with the square of it
    with file.open("rb") as stream:
        start = stream.read(3)
        stream.seek(3 if start == b"\xef\xbb\xbf" else 0)
        tasks = ijson.items(stream, "item", use_float=True)
        while True:
            with reading(file, "Label Studio JSON"):
                task = next(tasks, tasks)
            if task is tasks:
                return
            yield task


def _configured(path: Path) -> tuple[str, ...] | None:
    """Return the labels of a labelling configuration, or None where there is none."""
    if not path.is_file():
        return None
    parser = library("defusedxml.ElementTree", "label-config.xml")
    with reading(path, "a labelling configuration of Label Studio"):
        root = parser.parse(path, forbid_dtd=True).getroot()
        return tuple(dict.fromkeys(str(node.get("value")) for node in root.iter("Label"))) or None


def _results(task: Any) -> list[dict[str, Any]]:
    """Return the regions of a task: of its last annotation that was not cancelled, or of an export in JSON-MIN."""
    annotations = task.get("annotations", task.get("completions"))
    if annotations is None:
        listed = [v for value in task.values() if isinstance(value, list) for v in value if isinstance(v, dict)]
        return [{"value": v, **{k: v.get(k) for k in ("original_width", "original_height")}} for v in listed]
    kept = [a for a in annotations if not a.get("was_cancelled")]
    last = max(enumerate(kept), key=lambda pair: (str(pair[1].get("updated_at") or ""), pair[0]))[1] if kept else {}
    regions = [r for r in last.get("result") or () if str(r.get("type", "")).lower() not in ASIDE]
    named = {r.get("id") for r in regions if _label(r) is not None}
    return [r for r in regions if _label(r) is not None or r.get("id") not in named]


def _label(region: dict[str, Any]) -> str | None:
    value = region.get("value") or {}
    found = next((value[k] for k in (*(f"{kind}labels" for kind in KINDS), "labels") if value.get(k)), None)
    return str(found[0]) if isinstance(found, list) else None


def _labels(file: Path) -> set[str]:
    found: set[str] = set()
    for task in _tasks(file):
        with contextlib.suppress(AttributeError, TypeError, KeyError, ValueError):  # told when the task is converted
            found |= {label for region in _results(task) if (label := _label(region)) is not None}
    return found


def _load(where: str, task: Any, names: tuple[str, ...], folders: tuple[Path, ...], width_px: float) -> Annotated:
    stem, picture = _picture(where, task, folders)
    regions = _results(task)
    where = f"{where}, {stem}"
    sizes = {check_shape(where, r.get("original_height"), r.get("original_width")) for r in regions}
    if len(sizes) > 1:
        raise DataError(where, "regions of one image size", f"{len(sizes)} sizes", "annotate the image anew")
    if not sizes:
        if picture is None:
            raise DataError(where, "regions, or the picture for its size", "neither", "give --images FOLDER")
        return Annotated(stem, np.full(image_size(picture), UNLABELLED, np.uint8), picture)
    height, width = size = next(iter(sizes))
    canvas = Canvas(where, size, names, width_px)
    for region in regions:
        value, label = region.get("value") or {}, _label(region)
        if region.get("image_rotation"):
            raise DataError(where, "regions of the picture upright", "one of a rotated picture", "annotate it upright")
        if "rle" in value:
            canvas.region(label, decode_brush(where, value["rle"], size))
        elif "points" in value:
            canvas.polygon(label, [as_points(where, value["points"]) * (width / 100, height / 100)])
        elif "x" in value and "width" in value and "height" not in value:
            place = as_points(where, [[number(where, value["x"]), number(where, value["y"])]])
            canvas.line(label, place * (width / 100, height / 100))
        else:
            got = str(region.get("type") or ", ".join(map(str, value)))[:60]
            raise DataError(where, f"regions that are {', '.join(KINDS)}", got, "redraw the region, or delete it")
    return Annotated(stem, canvas.labels(), picture, canvas.strokes())


def _picture(where: str, task: Any, folders: tuple[Path, ...]) -> tuple[str, Path | None]:
    """Return stem and file of a task's picture. Uploads have eight digits and a dash before their name."""
    data = task.get("data", task)
    values = [data.get("image"), *(v for v in data.values() if isinstance(v, str) and re.search(r"\.\w{3,4}$", v))]
    url = next((v for v in values if isinstance(v, str)), "")
    parts = urlsplit(url)
    name = parse_qs(parts.query).get("d", [unquote(parts.path)])[0].rpartition("/")[2]
    plain = re.sub(r"^[0-9a-f]{8}-", "", name)
    stem = safe_stem(name, where)
    picture = find_picture(stem, folders)
    if picture is None and plain != name:
        stem = safe_stem(plain, where)
        picture = find_picture(stem, folders)
    return stem, picture
