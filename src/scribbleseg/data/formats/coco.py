"""COCO's JSON: run-length masks and polygons with categories."""

from __future__ import annotations

import contextlib
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from scribbleseg.data.formats.canvas import Canvas
from scribbleseg.data.formats.contents import About, Add, Annotated, Format, Item, Options, Source, become
from scribbleseg.data.formats.labels import read_runs
from scribbleseg.data.formats.pictures import find_picture, near, write_picture
from scribbleseg.data.formats.safety import as_points, check_shape, head, library, load_json, only_file, reading, safe_stem
from scribbleseg.errors import DataError

#: COCO's polygons are walked along in steps of a fifth of a pixel; longer outlines than this many pixels are refused.
MAX_OUTLINE = 1e7


class Coco(Format):
    """Read and write instances; what they cover is labelled, what none covers is not."""

    title = "COCO JSON"
    unlabelled = "where no annotation is"
    holds = "run-length masks, compressed or not, and polygons; classes in the order of the category ids"
    writes = "annotations.json with compressed masks, images/"
    extra = "formats"
    source = "https://cocodataset.org/#format-data"

    def recognise(self, path: Path) -> str | None:
        """See the base class."""
        file = _file(path)
        text = head(file, 1 << 16).lstrip("\ufeff \n\r\t") if file is not None else ""
        keys = [
            key
            for key in ("images", "file_name", "annotations", "segmentation", "categories", "licenses")
            if f'"{key}"' in text
        ]
        known = file is not None and text.startswith("{") and len(keys) > 1
        return f"a COCO file with {', '.join(keys)}" if known else None

    def read(self, path: Path, options: Options) -> Source:
        """See the base class. The document is held whole; its masks are not."""
        file = _file(path)
        if file is None:
            raise DataError(path, "one JSON file of COCO", "none, or several", "name the file")
        library("pycocotools.mask", "COCO")
        with reading(file, "COCO's images, annotations and categories"):
            tree = load_json(file, "COCO JSON")
            images, annotations = list(tree["images"]), list(tree["annotations"])
            known = {c["id"]: c["name"] for c in sorted(tree["categories"], key=lambda c: c["id"])}
        stored = tuple(dict.fromkeys(map(str, known.values())))
        names = options.names or stored
        if not names or len(names) > 254:
            raise DataError(file, "1 to 254 categories", str(len(names)), "name the classes: --names a,b")
        with reading(file, "annotations with an image_id"):
            grouped: dict[Any, list[Any]] = defaultdict(list)
            for annotation in annotations:
                grouped[annotation["image_id"]].append(annotation)
        folders = near(file, options.images)
        folders = (*folders, *near(file.parent, None)) if options.images is None else folders

        def load(entry: Any) -> Annotated:
            with reading(file, "an image of COCO"):
                stem = safe_stem(entry["file_name"], file)
                where = f"{file}: {stem}"
                canvas = Canvas(where, check_shape(where, entry["height"], entry["width"]), names, options.width_px)
                for annotation in grouped.get(entry["id"], ()):
                    inside = _mask(where, annotation.get("segmentation"), canvas.size)
                    canvas.region(known.get(annotation["category_id"]), inside)
                return Annotated(stem, canvas.labels(), find_picture(stem, folders))

        def items() -> Iterator[Item]:
            for number, entry in enumerate(images):
                name = entry.get("file_name") if isinstance(entry, dict) else None
                yield Item(str(name or f"image {number}")[:200], lambda entry=entry: load(entry))

        return Source(names, f"where no annotation is means not annotated (COCO); {become(names)}", items())

    @contextlib.contextmanager
    def writer(self, out: Path, about: About) -> Iterator[Add]:
        """See the base class. Images go to the file as they come; the annotations wait beside it."""
        library("pycocotools.mask", "COCO")
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []

        def add(image: Annotated) -> None:
            name = write_picture(image, out / "images") if image.image is not None else f"{image.stem}.png"
            height, width = image.labels.shape
            images.append({"id": len(images) + 1, "file_name": name, "width": width, "height": height})
            for class_id in range(len(about.names)):
                inside = image.labels == class_id
                if inside.any():
                    ids = {"id": len(annotations) + 1, "image_id": len(images)}
                    annotations.append(ids | class_annotation(inside, class_id))

        yield add
        categories = [{"id": k + 1, "name": name, "supercategory": ""} for k, name in enumerate(about.names)]
        tree = {"categories": categories, "images": images, "annotations": annotations}
        (out / "annotations.json").write_text(json.dumps(tree, ensure_ascii=False), encoding="utf-8")


def class_annotation(inside: np.ndarray, class_id: int) -> dict[str, Any]:
    """Return an annotation, without ids of its own and of its image, that covers a mask: compressed run lengths."""
    masks = library("pycocotools.mask", "COCO")
    height, width = inside.shape
    rle = masks.encode(np.asfortranarray(inside.astype(np.uint8)))
    return {
        "category_id": class_id + 1,
        "segmentation": {"size": [height, width], "counts": rle["counts"].decode("ascii")},
        "area": int(inside.sum()),
        "bbox": [float(v) for v in masks.toBbox(rle)],
        "iscrowd": 1,
    }


def _file(path: Path) -> Path | None:
    """Return the JSON file at a path, or in the folder ``annotations`` that CVAT and others export."""
    return only_file(path, ".json") or (only_file(path / "annotations", ".json") if path.is_dir() else None)


def _mask(where: object, segmentation: Any, size: tuple[int, int]) -> np.ndarray:
    """Return which pixels a segmentation covers."""
    masks = library("pycocotools.mask", "COCO")
    if isinstance(segmentation, dict):
        if list(segmentation.get("size", ())) != list(size):
            got = str(segmentation.get("size"))[:60]
            raise DataError(where, f"a mask of the image's size, [{size[0]}, {size[1]}]", got, "export the masks again")
        counts = segmentation.get("counts")
        if isinstance(counts, list):
            return read_runs(where, counts, size[0] * size[1]).reshape(size[::-1]).T
        with reading(where, "a run-length mask"):
            return masks.decode({"size": list(size), "counts": str(counts).encode("ascii")}).astype(bool)
    if not isinstance(segmentation, list) or not segmentation:
        got = repr(segmentation)[:60]
        raise DataError(where, "a segmentation: run lengths or polygons", got, "draw regions; boxes alone say no pixels")
    rings = [as_points(where, ring) for ring in segmentation]
    outline = sum(float(np.abs(np.diff(ring, axis=0, append=ring[:1])).sum()) for ring in rings)
    if outline > MAX_OUTLINE or any(len(ring) < 3 for ring in rings):
        got = f"{outline:.0f} px of outline, {min(map(len, rings))} points"
        raise DataError(
            where, f"polygons of three points or more, at most {MAX_OUTLINE:.0f} px around", got, "mend the polygon"
        )
    with reading(where, "polygons"):
        coded = masks.frPyObjects([ring.ravel().tolist() for ring in rings], *size)
        return masks.decode(masks.merge(coded)).astype(bool)
