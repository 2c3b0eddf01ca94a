"""Outputs that are outlines and run lengths: GeoJSON for QuPath and GIS, COCO."""

from __future__ import annotations

import filecmp
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from scribbleseg.atomic import atomic_path, write_text
from scribbleseg.data.formats.coco import class_annotation
from scribbleseg.data.formats.qupath import polygons
from scribbleseg.data.formats.safety import library
from scribbleseg.errors import DataError
from scribbleseg.palette import class_colours
from scribbleseg.predict.outputs.output import Job, Output, Sink, refuse_large, whole_slices
from scribbleseg.trees import from_json


class Polygons(Output):
    """A polygon with holes for every connected region, along the edges of the pixels."""

    title = "GeoJSON: a polygon a region, in pixels, classes as QuPath has them"
    folder = "polygons"
    extra = "formats"

    def check(self) -> None:
        """See the base class."""
        library("shapely", "--outputs polygons")

    def files(self, job: Job) -> list[Path]:
        """See the base class."""
        return job.for_slices(self.folder, ".geojson")

    def open(self, job: Job) -> AbstractContextManager[Sink]:
        """See the base class."""
        refuse_large(job, "polygons")
        files, colours = self.files(job), class_colours(len(job.names)).tolist()

        def write(number: int, labels: np.ndarray) -> None:
            features = [
                {
                    "type": "Feature",
                    "geometry": geometry,
                    "properties": {
                        "objectType": "annotation",
                        "classification": {"name": job.names[k], "color": colours[k]},
                        "class_id": k,
                    },
                }
                for k in np.unique(labels).tolist()
                for geometry in polygons(labels == k)
            ]
            write_text(files[number], json.dumps({"type": "FeatureCollection", "features": features}, ensure_ascii=False))

        return whole_slices(job, write, lambda band: band.labels)


class Coco(Output):
    """A run-length mask for every class of an image: a file an input, and ``coco.json`` of them all."""

    title = "coco.json: a run-length mask a class and image; its parts in coco/"
    folder = "coco"
    extra = "formats"

    def check(self) -> None:
        """See the base class."""
        library("pycocotools.mask", "--outputs coco")

    def files(self, job: Job) -> list[Path]:
        """See the base class."""
        return [job.out / self.folder / f"{job.stem}.json"]

    def open(self, job: Job) -> AbstractContextManager[Sink]:
        """See the base class."""
        refuse_large(job, "COCO")
        return self._open(job)

    @staticmethod
    def _parts(job: Job, number: int, labels: np.ndarray) -> dict[str, Any]:
        name = job.path.name if job.num_slices == 1 else job.stem_at(number)
        found = [class_annotation(labels == k, k) for k in np.unique(labels).tolist()]
        return {"file_name": name, "height": labels.shape[0], "width": labels.shape[1], "annotations": found}

    def _open(self, job: Job) -> AbstractContextManager[Sink]:
        parts: list[dict[str, Any]] = []

        def write(number: int, labels: np.ndarray) -> None:
            parts.append(self._parts(job, number, labels))
            if len(parts) == job.num_slices:
                write_text(self.files(job)[0], json.dumps(parts, ensure_ascii=False))

        return whole_slices(job, write, lambda band: band.labels)

    def finish(self, out: Path, names: tuple[str, ...], files: list[Path]) -> None:
        """Write ``coco.json``, if it would be another. One input is held at a time."""
        target = out / "coco.json"
        with atomic_path(out / "writing-coco.part") as temporary, temporary.open("w", encoding="utf-8") as stream:
            categories = [{"id": k + 1, "name": name, "supercategory": ""} for k, name in enumerate(names)]
            stream.write('{"categories": ' + json.dumps(categories, ensure_ascii=False) + ',\n"images": [')
            for n, image in enumerate(_images(files)):
                about = {"id": n + 1} | {key: image[key] for key in ("file_name", "width", "height")}
                stream.write((",\n" if n else "\n") + json.dumps(about, ensure_ascii=False))
            stream.write('],\n"annotations": [')
            number = 0
            for n, image in enumerate(_images(files)):
                for annotation in image["annotations"]:
                    ids = {"id": number + 1, "image_id": n + 1}
                    stream.write((",\n" if number else "\n") + json.dumps(ids | annotation))
                    number += 1
            stream.write("]}\n")
        new = out / "writing-coco.part"
        if target.is_file() and filecmp.cmp(target, new, shallow=False):
            new.unlink()
        else:
            new.replace(target)


def _images(files: list[Path]) -> Iterator[dict[str, Any]]:
    for file in files:
        try:
            found = from_json(file.read_text(encoding="utf-8"))
            if not all({"file_name", "height", "width", "annotations"} <= set(image) for image in found):
                raise ValueError("an image without name, size or annotations")
        except (ValueError, TypeError) as error:
            do = "delete it and run again"
            raise DataError(file, "the part of coco.json that `predict` wrote", str(error)[:200], do) from None
        yield from found
