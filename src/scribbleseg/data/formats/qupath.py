"""QuPath's GeoJSON: one file of annotations an image."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from scribbleseg.atomic import write_text
from scribbleseg.data.formats.canvas import Canvas
from scribbleseg.data.formats.contents import About, Add, Annotated, Format, Options, Source, become, each, in_order
from scribbleseg.data.formats.index_png import listed_names
from scribbleseg.data.formats.pictures import near, needed, write_picture
from scribbleseg.data.formats.safety import as_points, files_in, head, library, load_json, reading, safe_stem
from scribbleseg.data.images import image_size
from scribbleseg.errors import DataError
from scribbleseg.palette import class_colours

SUFFIXES = (".geojson", ".json")


class QuPath(Format):
    """Read and write annotations with a classification; coordinates are pixels from the top left corner."""

    title = "QuPath GeoJSON"
    unlabelled = "where no annotation is; classes whose name ends in * (`Ignore*`) are left out"
    holds = "STEM.geojson: polygons with holes, lines and points (`--width`); needs the pictures for their size"
    writes = "STEM.geojson, images/, names.txt"
    extra = "formats"
    source = "https://qupath.readthedocs.io/en/stable/docs/advanced/exporting_annotations.html"

    def recognise(self, path: Path) -> str | None:
        """See the base class."""
        files = _files(path)
        text = head(files[0]) if files else ""
        known = any(f'"{word}"' in text for word in ("FeatureCollection", "Feature"))
        return f"GeoJSON, as {files[0].name}" if known else None

    def read(self, path: Path, options: Options) -> Source:
        """See the base class. Without names every file is read once before, to collect the classes."""
        folder = path if path.is_dir() else path.parent
        files = {safe_stem(file.relative_to(folder).with_suffix("").as_posix(), file): file for file in _files(path)}
        found: set[str] = set()
        wanted = options.names or listed_names(path)
        for file in files.values() if wanted is None else ():
            with contextlib.suppress(DataError):
                found |= {name for name, _ in _features(file)}
        names = in_order(found, wanted)
        if not names or len(names) > 254:
            do = "give every annotation a class in QuPath, then export again"
            raise DataError(path, "GeoJSON files with 1 to 254 classes", str(len(names)), do)
        folders = near(path, options.images)

        def load(stem: str) -> Annotated:
            file = files[stem]
            picture = needed(stem, folders)
            canvas = Canvas(file, image_size(picture), names, options.width_px)
            with reading(file, "GeoJSON"):
                for name, geometry in _features(file):
                    _draw(canvas, name, geometry)
            return Annotated(stem, canvas.labels(), picture, canvas.strokes())

        told = f"where no annotation is means not annotated (QuPath); {become(names)}"
        return Source(names, f"{told}; lines are {options.width_px:g} px wide", each(files, load))

    @contextlib.contextmanager
    def writer(self, out: Path, about: About) -> Iterator[Add]:
        """See the base class."""
        library("shapely", "QuPath's polygons")
        colours = class_colours(len(about.names)).tolist()

        def add(image: Annotated) -> None:
            if image.image is not None:
                write_picture(image, out / "images")
            features = [
                {
                    "type": "Feature",
                    "geometry": _outline(image.labels == class_id),
                    "properties": {"objectType": "annotation", "classification": {"name": name, "color": colours[class_id]}},
                }
                for class_id, name in enumerate(about.names)
                if (image.labels == class_id).any()
            ]
            tree = {"type": "FeatureCollection", "features": features}
            write_text(out / f"{image.stem}.geojson", json.dumps(tree, ensure_ascii=False))

        yield add
        write_text(out / "names.txt", "\n".join(about.names) + "\n")


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix.lower() in SUFFIXES else []
    return (files_in(path, ".geojson", deep=True) or files_in(path, ".json")) if path.is_dir() else []


def _features(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield class name and geometry of each annotation that has a class."""
    tree = load_json(file, "GeoJSON")
    with reading(file, "GeoJSON features with a geometry"):
        features = tree["features"] if isinstance(tree, dict) and "features" in tree else tree
        features = features if isinstance(features, list) else [features]
        result = []
        for feature in features:
            properties = feature.get("properties") or {}
            name = (properties.get("classification") or {}).get("name")
            if name is None:
                do = "give every annotation a class in QuPath, or delete it"
                raise DataError(file, "a class for every annotation", "one without", do)
            if not str(name).endswith("*"):
                result.append((str(name), dict(feature["geometry"])))
    yield from result


def _draw(canvas: Canvas, name: str, geometry: dict[str, Any]) -> None:
    kind, where = geometry.get("type"), canvas.where
    places = geometry.get("coordinates")
    if kind == "Polygon":
        canvas.polygon(name, [as_points(where, ring) for ring in places or ()])
    elif kind == "MultiPolygon":
        for rings in places or ():
            canvas.polygon(name, [as_points(where, ring) for ring in rings])
    elif kind in ("LineString", "MultiPoint", "Point"):
        points = as_points(where, places)
        for line in [points] if kind == "LineString" else points[:, None]:
            canvas.line(name, line)
    elif kind == "MultiLineString":
        for line in places or ():
            canvas.line(name, as_points(where, line))
    else:
        raise DataError(where, "polygons, lines or points", repr(kind)[:60], "export annotations, not other objects")


def _outline(inside: np.ndarray) -> dict[str, Any]:
    """Return a mask as GeoJSON polygons along the edges of its pixels."""
    shapely = library("shapely", "QuPath's polygons")
    edges = np.diff(np.pad(inside, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    row, left = np.nonzero(edges == 1)
    right = np.nonzero(edges == -1)[1]
    shape = shapely.union_all(shapely.box(left, row, right, row + 1))
    geometry: dict[str, Any] = json.loads(shapely.to_geojson(shape))
    return geometry
